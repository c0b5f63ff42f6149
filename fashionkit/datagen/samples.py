"""The samples of a question set as a table: which columns, and how a block of pictures becomes rows.

selected candidates of all units ─► answers ─► columns, ordered by picture ─► rows for each phrasing ─► Parquet
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fashionkit.datagen.context import Context, phrasings
from fashionkit.datagen.count import read_selection
from fashionkit.datagen.counter import again
from fashionkit.datagen.judge import SPLIT_NAMES, STEPS, Moments
from fashionkit.datagen.packs import Template
from fashionkit.datagen.propose import Candidates
from fashionkit.datagen.vocab import NONE
from fashionkit.tables import write_atomic

Array = npt.NDArray[Any]
PARAPHRASE = "paraphrase"
SAMPLE_SPLITS = (*SPLIT_NAMES, PARAPHRASE)
SLOTS = 4
SAMPLES = pa.schema(
    [
        pa.field("qid", pa.int64(), nullable=False),  # unique in the set
        pa.field("image", pa.int32(), nullable=False),  # row of the `images` table
        pa.field("template", pa.uint16(), nullable=False),  # row of the `templates` table
        pa.field("paraphrase", pa.uint8(), nullable=False),  # which of the template's texts
        *[pa.field(f"slot{i}", pa.uint16(), nullable=False) for i in range(SLOTS)],  # vocabulary ids, 0 where unused
        pa.field("answer", pa.uint16(), nullable=False),  # vocabulary id
        pa.field("difficulty", pa.float16(), nullable=False),  # in steps of 1/16 from -4 to 4
    ]
)
GROUP_ROWS = 1 << 20
# Dictionaries pay where a column repeats few ids; qid counts up, so it is stored as differences.
WRITE_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": [n for n in SAMPLES.names if n not in ("qid", "difficulty")],
    "column_encoding": {"qid": "DELTA_BINARY_PACKED"},
    "write_statistics": ["qid", "image", "template"],
}


def block_columns(context: Context, folder: Path, moments: list[Moments], block: int) -> dict[str, Array]:
    """All selected samples of a block, in the order picture, unit; `split` is a position in `SPLIT_NAMES`.

    Args:
        context: The run. folder: Where selections lie. moments: Of each unit. block: Position in `context.blocks`.
    """
    lo, hi = context.blocks[block]
    parts: list[dict[str, Array]] = []
    for number, unit in enumerate(context.units):
        chosen = read_selection(folder, number, block)
        if not len(chosen):
            continue
        c = context.proposer.propose(unit, lo, hi, chosen)
        judged = context.judge.judge(unit, c)
        assert (judged.answer != NONE).all()
        steps = context.judge.difficulty(unit, c.row, judged, moments[number])
        parts.append(_sample_columns(context, unit.template, c, judged.answer, judged.split, steps))
    if not parts:
        return {"split": np.zeros(0, np.uint8), "template": np.zeros(0, np.int64)}
    # One column at a time, so that a block is held once and not twice.
    columns = {k: np.concatenate([p.pop(k) for p in parts]) for k in list(parts[0])}
    order = np.argsort((columns["image"] - lo).astype(np.uint16), kind="stable")
    for name in columns:
        columns[name] = columns[name].take(order)
    return columns


def _sample_columns(
    context: Context, template: int, c: Candidates, answer: Array, split: Array, steps: Array
) -> dict[str, Array]:
    names = stored_slots(context.pack.templates[template])
    slots = {f"slot{i}": c.batch.slots[n] for i, n in enumerate(names)}
    empty = np.zeros(len(answer), np.uint16)
    return {
        "image": c.batch.image,
        "template": np.full(len(answer), template, np.uint16),
        "bits": c.bits,
        **{f"slot{i}": slots.get(f"slot{i}", empty) for i in range(SLOTS)},
        "answer": answer,
        "split": split,
        "difficulty": (steps / STEPS).astype(np.float16),
    }


def stored_slots(t: Template) -> list[str]:
    """Slots a sample stores, in order: all but attributes that the value of another slot implies."""
    implied = {s.of for s in t.slots if s.kind == "value"}
    return [s.name for s in t.slots if s.name not in implied]


def write_samples(context: Context, path: Path, columns: dict[str, Array], rows: Array, first: int) -> Array:
    """Writes one file of samples, a row group at a time, so that memory does not depend on how many there are.

    Args:
        context: The run. path: The file, whose folder is its split. columns: As `block_columns`.
        rows: (n,) which of them. first: `qid` of the first sample.

    Returns:
        (templates,) samples written of each template.
    """
    held_out = path.parent.name == PARAPHRASE
    times = np.ones(len(context.pack.templates), np.int64) if held_out else phrasings(context)

    def fill(temporary: Path) -> None:
        at, step = first, GROUP_ROWS // int(times.max())
        with pq.ParquetWriter(temporary, SAMPLES, **WRITE_OPTIONS) as writer:
            for lo in range(0, len(rows), step):
                some = rows[lo : lo + step]
                table = _table(context, {k: v.take(some) for k, v in columns.items()}, times, at, held_out)
                writer.write_table(table, GROUP_ROWS)
                at += table.num_rows

    write_atomic(path, fill)
    counts: Array = np.bincount(columns["template"].take(rows), minlength=len(times)) * times
    return counts


def _table(context: Context, columns: dict[str, Array], times: Array, first: int, held_out: bool) -> pa.Table:
    """One row group; each question program stands in as many of its texts as `times` says of its template."""
    forms = [[i for i, q in enumerate(t.paraphrases) if q.held_out == held_out] for t in context.pack.templates]
    choices = np.array([[f[i % len(f)] for i in range(16)] for f in forms], np.uint8)
    many = np.array([len(f) for f in forms], np.int64)
    start = (again(columns["bits"], 77) >> np.uint64(16)).astype(np.int64)
    if (times > 1).any():
        repeat = times.take(columns["template"])
        row = np.repeat(np.arange(len(repeat)), repeat)
        start = start.take(row) + np.arange(len(row)) - (np.cumsum(repeat) - repeat).take(row)
        columns = {k: v.take(row) for k, v in columns.items()}
    template = columns["template"]
    paraphrase = choices.reshape(-1).take(template * np.int64(choices.shape[1]) + start % many.take(template))
    arrays = {"qid": np.arange(first, first + len(template)), "paraphrase": paraphrase, **columns}
    return pa.Table.from_arrays([pa.array(arrays[f.name], f.type) for f in SAMPLES], schema=SAMPLES)


def sample_files(folder: Path, split: str) -> list[Path]:
    """Parts of one split, in order."""
    return sorted((folder / "samples" / split).glob("part-*.parquet"))


def read_samples(path: Path, columns: list[str] | None = None) -> pa.Table:
    """One part."""
    return pq.read_table(path, columns=columns, partitioning=None)
