"""A folder of vectors, each under an id: its tables, and writing them part by part.

    <vectors>/manifest.json   kind "vectors"; params: model, fingerprint, dim, dtype, normalized
    <vectors>/vectors/        a row a vector: id, and D numbers of unit norm as float16 or float32
    <vectors>/rejects/        a row an id that could not be embedded, with the reason

    (ids, vectors) ──► write_part(0) ──► part-00000.parquet ─┐
    (ids, vectors) ──► write_part(1) ──► part-00001.parquet ─┼──► finish_vectors ──► manifest.json
    (id, reason)   ──► write_rejects ──► part-00000.parquet ─┘

Each part is whole or absent, so a command that was killed makes the parts that are missing and then finishes. An id is
in one of the two tables, once. Ids are data: no path is ever made of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from fashionkit.tables import (
    MANIFEST,
    InputError,
    Manifest,
    part_path,
    read_table,
    table_parts,
    write_manifest,
    write_table,
)
from fashionkit.vectors.search import UNIT, Floats, as_matrix, norms_of

KIND = "vectors"
SCHEMA = 1
DTYPES = {"float16": pa.float16(), "float32": pa.float32()}
READ_UNIT = {"float16": 1e-3, "float32": 2e-5}  # how far a stored norm may be from 1
GROUP_ROWS = 8192  # rows of a Parquet row group: what is read at a time
MAX_PARTS = 100_000  # the numbers in the names have five digits
REJECTS = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("reason", pa.string(), nullable=False)])


def vectors_schema(dim: int, dtype: str) -> pa.Schema:
    """Schema of the table `vectors`."""
    vector = pa.list_(pa.field("element", DTYPES[dtype], nullable=False), dim)
    return pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("vector", vector, nullable=False)])


def write_part(folder: str | Path, number: int, ids: Sequence[str], vectors: ArrayLike, dtype: str = "float16") -> Path:
    """Writes one part of the table `vectors`, whole or not at all.

    Args:
        folder: The folder, finished later by `finish_vectors`.
        number: Part number; parts in order make the table.
        ids: n ids; none of them where a whole shard was rejected.
        vectors: (n, D) of unit norm (see `unit`).
        dtype: `float16` (half the size, cosines off by some 1e-4) or `float32` (as they are).

    Returns:
        The file.

    Raises:
        InputError: NaN, infinity, a norm other than 1, ids that are empty, no text or given twice, shapes or a part
            number or dtype that cannot be. Nothing is written then.
    """
    if dtype not in DTYPES:
        raise InputError("no such type of vectors", found=dtype, allowed=DTYPES)
    path = _checked_path(Path(folder), "vectors", number)
    found = as_matrix(vectors, path)
    if len(ids) != len(found):
        raise InputError("one id is needed for each vector", file=path, found=f"{len(ids)} ids, {len(found)} vectors")
    norms = norms_of(found, path)
    off = np.flatnonzero(np.abs(norms - 1) > UNIT)
    if len(off):
        hint = "fashionkit.vectors.unit divides rows by their norm"
        problem = "a vector has a norm other than 1"
        raise InputError(problem, file=path, row=int(off[0]) + 1, found=float(norms[off[0]]), hint=hint)
    schema = vectors_schema(found.shape[1], dtype)
    flat = pa.array(np.ascontiguousarray(found, dtype).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, type=schema.field("vector").type)
    table = pa.table([checked_ids(ids, path), column], schema)
    # Digits of vectors are noise: no codec makes them smaller, and without one they are read several times faster.
    options: dict[str, Any] = {
        "compression": {"id": "zstd", "vector.list.element": "none"},
        "compression_level": {"id": 1},
    }
    write_table(path, table, row_group_size=GROUP_ROWS, use_dictionary=False, **options)
    return path


def write_rejects(folder: str | Path, number: int, rejects: Iterable[tuple[str, str]]) -> Path:
    """Writes one part of the table `rejects`: (id, reason) of what could not be embedded.

    Raises:
        InputError: Ids as in `write_part`.
    """
    path = _checked_path(Path(folder), "rejects", number)
    rows = list(rejects)
    ids = checked_ids([row[0] for row in rows], path)
    write_table(path, pa.table([ids, pa.array([row[1] for row in rows], pa.string())], REJECTS))
    return path


def _checked_path(folder: Path, table: str, number: int) -> Path:
    if not 0 <= number < MAX_PARTS:
        raise InputError(f"part numbers go from 0 to {MAX_PARTS - 1}", file=folder, found=number)
    return part_path(folder, table, number)


def checked_ids(ids: Sequence[str], file: str | Path | None = None) -> pa.Array:
    """Ids as an Arrow array.

    Raises:
        InputError: An id that is no text, empty, not valid Unicode, or there twice.
    """
    for number, name in enumerate(ids):
        if not isinstance(name, str) or not name:
            raise InputError("an id must be a text that is not empty", file=file, row=number + 1, found=repr(name))
    try:
        found = pa.array(ids, pa.string())
    except UnicodeEncodeError as error:
        raise InputError(f"an id is not valid Unicode: {error.reason}", file=file, found=error.object) from error
    _refuse_twice(found, file)
    return found


def _refuse_twice(
    ids: pa.Array | pa.ChunkedArray, file: str | Path | None, problem: str = "an id is there twice"
) -> None:
    if pc.count_distinct(ids, mode="all").as_py() == len(ids):
        return
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").slice(0, 5).to_pylist()
    raise InputError(problem, file=file, column="id", found=", ".join(twice))


def finish_vectors(
    folder: str | Path,
    params: Mapping[str, Any],
    inputs: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Manifest:
    """Checks the parts against each other and writes the manifest: the folder is then complete.

    Args:
        folder: Where `write_part` and `write_rejects` wrote.
        params: `model` and `fingerprint` (a hash of its weights and preprocessing), and what else decided the vectors;
            `dim`, `dtype` and `normalized` are worked out here.
        inputs: Name → content hash of what was embedded.
        about: Free facts.

    Raises:
        InputError: No vectors, parts of different dimension or dtype, an id that is there twice.
    """
    folder = Path(folder)
    missing = [name for name in ("model", "fingerprint") if not params.get(name)]
    if missing:
        raise InputError("the vectors' params lack " + " and ".join(missing), file=folder)
    parts = table_parts(folder, "vectors")
    dim, dtype = _one_type(folder, parts)
    ids = read_table(folder, "vectors", ["id"])["id"]
    if not len(ids):
        raise InputError("there is not one vector", file=folder, hint=f"{folder / 'rejects'} may say why")
    refused = read_table(folder, "rejects", ["id"])["id"] if table_parts(folder, "rejects") else ids.slice(0, 0)
    _refuse_twice(pa.chunked_array([*ids.chunks, *refused.chunks]), folder, "an id is in the folder's tables twice")
    decided = {**params, "dim": dim, "dtype": dtype, "normalized": True}
    counts = {"vectors": len(ids), "rejects": len(refused)}
    body = Manifest(KIND, SCHEMA, params=decided, inputs=dict(inputs or {}), counts=counts, about=dict(about or {}))
    return write_manifest(folder, body)


def _one_type(folder: Path, parts: list[Path]) -> tuple[int, str]:
    if not parts:
        raise InputError("the folder has no table 'vectors'", file=folder)
    found = [part_type(path) for path in parts]
    for path, kind in zip(parts, found, strict=True):
        if kind != found[0]:
            problem = f"parts of one folder must agree, and {parts[0].name} has {found[0][0]} x {found[0][1]}"
            raise InputError(problem, file=path, found=f"{kind[0]} x {kind[1]}")
    return found[0]


def part_type(path: Path) -> tuple[int, str]:
    """Dimension and dtype of one part, by its schema.

    Raises:
        InputError: The file is damaged or has no such columns.
    """
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"the file is damaged or not Parquet: {error}", file=path) from error
    if "vector" in schema.names and "id" in schema.names and pa.types.is_string(schema.field("id").type):
        kind = schema.field("vector").type
        names = {value: name for name, value in DTYPES.items()}
        if pa.types.is_fixed_size_list(kind) and kind.value_type in names:
            return kind.list_size, names[kind.value_type]
    columns = ", ".join(f"{field.name} {field.type}" for field in schema)
    problem = "the columns must be `id`, a string, and `vector`, a fixed-size list of float16 or float32"
    raise InputError(problem, file=path, found=columns)


def write_vectors(
    folder: str | Path,
    parts: Iterable[tuple[Sequence[str], ArrayLike]],
    params: Mapping[str, Any],
    dtype: str = "float16",
    inputs: Mapping[str, str] | None = None,
) -> Manifest:
    """Writes a whole folder: `write_part` for each of `parts`, then `finish_vectors`.

    Raises:
        InputError: As those two; the folder holds vectors already. Of a folder that failed no part stays.
    """
    folder = Path(folder)
    if (folder / MANIFEST).exists() or table_parts(folder, "vectors"):
        raise InputError("the folder holds something already", file=folder, hint="name a new one, or remove it")
    written: list[Path] = []
    try:
        for number, (ids, vectors) in enumerate(parts):
            written.append(write_part(folder, number, ids, vectors, dtype))
        return finish_vectors(folder, params, inputs)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def restored(stored: NDArray[Any], dtype: str, path: Path) -> Floats:
    """Read-only float32 vectors of unit norm."""
    vectors: Floats = stored.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.square(vectors).sum(axis=1))
    off = np.flatnonzero(~(np.abs(norms - 1) <= READ_UNIT[dtype]))  # NaN fails every comparison, so it is found, too
    if len(off):
        problem = f"a vector has a norm other than 1 (the {off[0] + 1}. of its row group)"
        raise InputError(problem, file=path, column="vector", found=float(norms[off[0]]))
    if dtype == "float16":
        vectors /= norms[:, None]
    vectors.flags.writeable = False
    return vectors
