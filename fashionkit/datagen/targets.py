"""What balance aimed at: for every open answer the samples that its tempered share would give, beside those kept.

The audit holds a set against this table (`balance/part-00000.parquet`); it says nothing of templates whose answers are
evened out pair by pair.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fashionkit.datagen.context import Context, phrasings
from fashionkit.datagen.judge import SPLIT_NAMES
from fashionkit.datagen.solve import Solved
from fashionkit.datagen.vocab import NONE

BALANCE = pa.schema(
    [
        pa.field("template", pa.uint16(), nullable=False),  # row of the `templates` table
        pa.field("attribute", pa.uint16(), nullable=False),  # vocabulary id of what is asked, 0 for none
        pa.field("split", pa.uint8(), nullable=False),  # 0 train, 1 val, 2 test, 3 compositional
        pa.field("answer", pa.uint16(), nullable=False),  # vocabulary id
        pa.field("available", pa.int64(), nullable=False),  # valid candidates that were looked at
        pa.field("target", pa.float64(), nullable=False),  # samples, if tempered shares held exactly in every cell
        pa.field("kept", pa.int64(), nullable=False),  # samples in the set
    ]
)
KEYS = ["template", "attribute", "split", "answer"]


def balance_table(context: Context, solved: Solved) -> pa.Table:
    """The `balance` table of a run: a row for each (template, asked attribute, split, answer) of open questions."""
    times, parts = phrasings(context), []
    for unit, cells in zip(context.units, solved.cells, strict=True):
        if cells.target is None or not len(cells.code):
            continue
        layout = context.judge.layout(unit)
        _, cell = np.unique(cells.cell, return_inverse=True)
        share = cells.target / np.bincount(cell, cells.target)[cell]
        asked = context.scenes.vocab.attribute[unit.attributes[-1]] if unit.attributes else NONE
        many = int(times[unit.template])
        columns = {
            "template": np.full(len(cells.code), unit.template),
            "attribute": np.full(len(cells.code), asked),
            "split": cells.cell % len(SPLIT_NAMES),
            "answer": cells.code % cells.sides + layout.side_base,
            "available": cells.count,
            "target": share * np.bincount(cell, cells.keep)[cell] * many,
            "kept": cells.keep * many,
        }
        arrays = [pa.array(columns[f.name]).cast(f.type) for f in BALANCE]
        parts.append(pa.Table.from_arrays(arrays, schema=BALANCE))
    if not parts:
        return BALANCE.empty_table()
    sums = [(name, "sum") for name in ("available", "target", "kept")]
    table = pa.concat_tables(parts).group_by(KEYS, use_threads=False).aggregate(sums)
    table = table.rename_columns([name.removesuffix("_sum") for name in table.column_names])
    return table.select(BALANCE.names).cast(BALANCE).sort_by([(key, "ascending") for key in KEYS])
