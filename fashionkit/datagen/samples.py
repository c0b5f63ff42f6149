"""The samples of a question set as a table: which columns, and how a block of pictures becomes rows.

selected candidates of all units ─► columns, ordered by picture ─► rows for each phrasing ─► Parquet
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
from fashionkit.datagen.judge import SPLIT_NAMES, STEPS
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


def block_columns(context: Context, folder: Path, block: int) -> dict[str, Array]:
    """All selected samples of a block, in the order picture, unit; `split` is a position in `SPLIT_NAMES`.

    Args:
        context: The run. folder: Where selections lie. block: Position in `context.blocks`.
    """
    parts: list[dict[str, Array]] = []
    for number, unit in enumerate(context.units):
        part = read_selection(folder, number, block)
        if part:
            parts.append({"template": np.full(len(part["image"]), unit.template, np.uint16), **part})
    if not parts:
        return {"split": np.zeros(0, np.uint8), "template": np.zeros(0, np.int64)}
    image = np.concatenate([p.pop("image") for p in parts])
    order = np.argsort((image - context.blocks[block][0]).astype(np.uint16), kind="stable")
    columns = {"image": image.take(order)}
    sizes = np.cumsum([0, *(len(p["template"]) for p in parts)])
    for name in ("template", *(f"slot{i}" for i in range(SLOTS)), "answer", "steps", "start", "split"):
        column = np.zeros(len(order), parts[0][name].dtype if name in parts[0] else np.uint16)
        for p, lo, hi in zip(parts, sizes, sizes[1:], strict=False):
            if name in p:
                column[lo:hi] = p.pop(name)
        columns[name] = column.take(order)
    columns["difficulty"] = (columns.pop("steps") / np.float16(STEPS)).astype(np.float16)
    return columns


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
    start = columns["start"].astype(np.int64)
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
