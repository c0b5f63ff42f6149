"""The table of a folder of answers; `fashionkit.eval.vqa_answers` writes it."""

from __future__ import annotations

import pyarrow as pa

from fashionkit.eval.vqa_questions import QUESTIONS

KIND, SCHEMA = "answers", 1
LOSSES = "losses.parquet"
ANSWERS = pa.schema(
    [
        *QUESTIONS,
        pa.field("predicted_id", pa.int32()),  # vocabulary id of the answer given
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("right", pa.bool_(), nullable=False),
        pa.field("valid", pa.bool_()),  # an answer that the question allows; null: not known
        pa.field("probability", pa.float32(), nullable=False),  # of the answer given, calibrated
        pa.field("loss", pa.float32()),  # -log of the probability of the right one; null: the model does not know it
        pa.field("rank", pa.int32()),  # of the right one, from 1; null: not known, or not among the likely ones
        pa.field("free", pa.string()),  # in the network's own words
        pa.field("free_right", pa.bool_()),
        pa.field("alternatives", pa.list_(pa.string()), nullable=False),  # the likeliest answers, best first
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),
    ]
)
