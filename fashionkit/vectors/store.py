"""Reading a folder of vectors: by id, as one array, and by nearness.

store = EmbeddingStore("vectors")
store["img-17"]                                     # (D,) float32
store.get(["img-17", "img-3"])                      # (2, D), in the order asked for
ids, scores = store.nearest(["img-17"], k=10, exclude_self=True)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from fashionkit.tables import InputError, Manifest, read_manifest, read_table, table_parts
from fashionkit.vectors.schema import DTYPES, KIND, SCHEMA, part_type, restored
from fashionkit.vectors.search import BLOCK, Floats, Rows, TopK, as_matrix, check_counts, unit

if TYPE_CHECKING:
    import torch

NAMED = 5  # missing ids that an error names


class EmbeddingStore:
    """A finished folder of vectors. Row groups are read when they are needed, and the latest ones kept.

    Vectors come as float32 of unit norm: those stored as float16 lost a little of it, and get it back when read.

    Args:
        path: The folder.
        cache_mib: Most memory for vectors that are kept (one row group is kept in any case).

    Raises:
        InputError: Not a folder of vectors, unfinished, damaged, or not the files its manifest lists.
    """

    def __init__(self, path: str | Path, cache_mib: int = 256):
        self.path = Path(path)
        self.manifest: Manifest = read_manifest(self.path, KIND, SCHEMA)
        self.dim, self.dtype = self._checked_params()
        self._groups: list[tuple[Path, int]] = []  # (file, row group)
        sizes = [0]
        for part in self._checked_parts():
            footer = pq.read_metadata(part)
            for group in range(footer.num_row_groups):
                self._groups.append((part, group))
                sizes.append(footer.row_group(group).num_rows)
        self._starts: Rows = np.cumsum(sizes)  # first row of each group, and the number of rows
        self._cache: OrderedDict[int, Floats] = OrderedDict()
        self._cache_bytes = cache_mib << 20

    def _checked_params(self) -> tuple[int, str]:
        params = self.manifest.params
        dim, dtype = params.get("dim"), params.get("dtype")
        if type(dim) is not int or dim < 1 or dtype not in DTYPES or params.get("normalized") is not True:
            problem = "the manifest must name the vectors' `dim` and `dtype`, and say that they are `normalized`"
            raise InputError(problem, file=self.path / "manifest.json", column="params", found=params)
        return dim, str(dtype)

    def _checked_parts(self) -> list[Path]:
        parts = table_parts(self.path, "vectors")
        listed = {name for name in self.manifest.files if name.startswith("vectors/")}
        strays = listed ^ {f"vectors/{part.name}" for part in parts}
        if strays:
            name = min(strays)
            problem = "a file of the manifest is missing" if name in listed else "the manifest does not list this file"
            raise InputError(problem, file=self.path / name)
        for part in parts:
            wanted = self.manifest.files[f"vectors/{part.name}"]["bytes"]
            if part.stat().st_size != wanted:
                raise InputError(f"the file has another size than the {wanted} bytes it was written with", file=part)
            if part_type(part) != (self.dim, self.dtype):
                problem = f"the vectors are not {self.dim} x {self.dtype}, as the manifest says"
                raise InputError(problem, file=part, found=" x ".join(map(str, part_type(part))))
        return parts

    def __len__(self) -> int:
        """Vectors in the folder."""
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[str]:
        """The ids."""
        return iter(self.ids)

    def __contains__(self, name: object) -> bool:
        """Whether there is a vector under this id."""
        return name in self._index

    def __getitem__(self, name: str) -> Floats:
        """The vector (D,) under an id.

        Raises:
            InputError: No such id.
        """
        if not isinstance(name, str):
            raise InputError("vectors are found by id", file=self.path, found=name, hint="get() takes a list of ids")
        vector: Floats = self.get([name])[0]
        return vector

    @cached_property
    def ids(self) -> list[str]:
        """The ids in row order."""
        names: list[str] = read_table(self.path, "vectors", ["id"])["id"].to_pylist()
        return names

    @cached_property
    def _index(self) -> dict[str, int]:
        index = {name: row for row, name in enumerate(self.ids)}
        if len(index) != len(self) or None in index:
            twice = [name for row, name in enumerate(self.ids) if index[name] != row][:NAMED]
            raise InputError("ids are null or there twice", file=self.path, column="id", found=twice)
        return index

    def rows(self, ids: Sequence[str], missing: str = "raise") -> Rows:
        """Row numbers (n,) of ids.

        Args:
            ids: In any order, also repeated. missing: `raise`, or `mark` for -1 in place of an id that is not there.

        Raises:
            InputError: Ids that are not there, the first few named; a single text in place of a list.
        """
        if isinstance(ids, str) or missing not in ("raise", "mark"):
            raise InputError("a list of ids is needed, and `raise` or `mark`", found=f"{ids!r}, {missing!r}")
        found = np.fromiter((self._index.get(name, -1) for name in ids), np.int64, len(ids))
        absent = np.flatnonzero(found < 0)
        if len(absent) and missing == "raise":
            named = ", ".join(repr(ids[at]) for at in absent[:NAMED])
            problem = f"{len(absent)} of {len(ids)} ids have no vector here"
            raise InputError(problem, file=self.path, found=named)
        return found

    def get(self, ids: Sequence[str]) -> Floats:
        """Vectors (n, D) of ids, in the order asked for.

        Raises:
            InputError: Ids that are not there, the first few named.
        """
        return self.take(self.rows(ids))

    def take(self, rows: Rows) -> Floats:
        """Vectors (n, D) of row numbers."""
        found = np.empty((len(rows), self.dim), np.float32)
        group = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(group, kind="stable")
        for here in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
            if len(here):
                number = int(group[here[0]])
                found[here] = self._group(number)[rows[here] - self._starts[number]]
        return found

    def blocks(self, rows: int = BLOCK) -> Iterator[tuple[int, Floats]]:
        """All vectors in order as (first row, read-only (at most `rows`, D))."""
        for start in range(0, len(self), rows):
            stop = min(start + rows, len(self))
            first, last = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
            pieces = []
            for number in range(first, last + 1):
                at = int(self._starts[number])
                pieces.append(self._group(number)[max(start - at, 0) : stop - at])
            yield start, pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def to_numpy(self) -> Floats:
        """All vectors (N, D) in the order of `ids`."""
        found = np.empty((len(self), self.dim), np.float32)
        for start, block in self.blocks():
            found[start : start + len(block)] = block
        return found

    def to_torch(self) -> torch.Tensor:
        """All vectors (N, D) in the order of `ids`, on the CPU."""
        import torch

        return torch.from_numpy(self.to_numpy())

    def nearest(
        self, queries: ArrayLike | Sequence[str], k: int = 10, exclude_self: bool = False, block: int = BLOCK
    ) -> tuple[list[list[str]], Floats]:
        """The ids of the k nearest vectors by cosine, exactly.

        Args:
            queries: A list of ids of this store, or vectors (Q, D) of any norm but 0.
            k: Neighbours of each; where there are fewer vectors, all of them are given.
            exclude_self: Leave each query's own id out; only for ids.
            block: Vectors at a time. It changes speed and memory, never the result.

        Returns:
            Q lists of K ids, and cosines (Q, K): best first, equal ones in row order. A batch gives what its queries
            give one by one.

        Raises:
            InputError: Unknown ids, another dimension, NaN, a vector of zeros, k or block below 1.
        """
        rows, scores = self.nearest_rows(queries, k, exclude_self, block)
        names = self.ids
        return [[names[row] for row in line] for line in rows.tolist()], scores

    def nearest_rows(
        self, queries: ArrayLike | Sequence[str], k: int = 10, exclude_self: bool = False, block: int = BLOCK
    ) -> tuple[Rows, Floats]:
        """As `nearest`, with row numbers (Q, K) in place of ids."""
        check_counts(k, block)
        vectors, own = self.as_queries(queries, exclude_self)
        search = TopK(vectors, min(k, len(self) - exclude_self), own)
        for start, part in self.blocks(block):
            search.add(start, part)
        return search.rows, search.scores

    def as_queries(self, queries: ArrayLike | Sequence[str], exclude_self: bool) -> tuple[Floats, Rows | None]:
        """Unit vectors (Q, D) of ids or of vectors, and the rows (Q,) that they must not find, if any."""
        if isinstance(queries, str):
            raise InputError("a list of ids is needed, not one text", found=queries)
        if isinstance(queries, np.ndarray) and queries.dtype.kind in "UO":
            queries = queries.tolist()
        if isinstance(queries, Sequence) and all(isinstance(name, str) for name in queries):
            own = self.rows([str(name) for name in queries])
            return self.take(own), own if exclude_self else None
        if exclude_self:
            raise InputError("exclude_self needs queries by id: a vector has no row of its own")
        vectors: Any = queries
        return unit(as_matrix(vectors, dim=self.dim)), None

    def _group(self, number: int) -> Floats:
        """Vectors of one row group, from the cache or the file."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        path, group = self._groups[number]
        found = self._cache[number] = self._decoded(path, group)
        kept = sum(part.nbytes for part in self._cache.values())
        while kept > self._cache_bytes and len(self._cache) > 1:
            kept -= self._cache.popitem(last=False)[1].nbytes
        return found

    def _decoded(self, path: Path, group: int) -> Floats:
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                column = file.read_row_group(group, ["vector"])["vector"].combine_chunks()
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"the file is damaged: {error}", file=path) from error
        flat = column.flatten()
        if column.null_count or flat.null_count or len(flat) != len(column) * self.dim:
            raise InputError(f"a vector is null or shorter than {self.dim}", file=path, column="vector")
        return restored(flat.to_numpy(zero_copy_only=False).reshape(-1, self.dim), self.dtype, path)
