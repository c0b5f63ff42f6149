"""The pictures of a question set, found by the number that samples hold, and decoded one by one.

    catalogue images/part-*.parquet ─► path, or embedded bytes ─┬─► held in memory ─────────────┐
                                                                └─► unpacked file, memory-mapped ┴─► bytes ─► picture

A Parquet file gives its rows a group at a time, so embedded pictures are taken out of it once: into memory, or into an
Arrow file of the folder `cache`, which all processes of a machine then share.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError, open_picture, read_file
from fashionkit.tables import InputError, table_parts, write_atomic

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[Any]
COLUMNS = pa.schema([("image_id", pa.string()), ("path", pa.string()), ("bytes", pa.binary())])


class Pictures:
    """Pictures by number.

    Args:
        catalog: Where they are. image_ids: Id of each number. wanted: (n,) numbers that will be asked for.
        cache: Folder for the unpacked file of embedded pictures; they are held in memory without one.

    Raises:
        InputError: The catalogue has none of the wanted pictures, or a part of it is damaged.
    """

    def __init__(self, catalog: Catalog, image_ids: list[str], wanted: Array, cache: str | Path | None = None):
        self.catalog, self._ids = catalog, image_ids
        self._root = catalog.path / catalog.facts.image_root
        names = pa.array(image_ids, pa.string())
        tables = _unpacked(catalog, Path(cache)) if cache is not None else _held(catalog, names.take(pa.array(wanted)))
        self._tables = [table for table in tables if table.num_rows]
        self._table = np.full(len(image_ids), -1, np.int32)
        self._row = np.zeros(len(image_ids), np.int64)
        for number, table in enumerate(self._tables):
            there = pc.is_valid(table["path"]).to_numpy() | pc.is_valid(table["bytes"]).to_numpy()
            place = pc.fill_null(pc.index_in(table["image_id"], names), -1).to_numpy()
            rows = np.flatnonzero(there & (place >= 0))
            self._table[place[rows]], self._row[place[rows]] = number, rows
        if len(wanted) and (self._table[wanted] < 0).all():
            hint = "a catalogue of tables only has none; leave `catalog` out to read text alone"
            raise InputError("the catalogue has no picture for any image of this split", file=catalog.path, hint=hint)

    def encoded(self, number: int) -> bytes:
        """The picture's bytes as they are stored.

        Raises:
            InputError: The catalogue has none, its file is gone, or its path leads outside the image folder.
        """
        if self._table[number] < 0:
            raise self._error(number, PictureError("image_missing", "the catalogue has neither a path nor bytes"))
        table, row = self._tables[self._table[number]], int(self._row[number])
        data = table["bytes"][row].as_py()
        if data is None:
            try:
                data = read_file(self._root, table["path"][row].as_py())
            except PictureError as error:
                raise self._error(number, error) from error
        return data

    def open(self, number: int) -> Image:
        """The picture as a viewer shows it: upright, RGB.

        Raises:
            InputError: It is damaged, over the limits, or gone; names the picture.
        """
        try:
            return open_picture(self.encoded(number))
        except PictureError as error:
            raise self._error(number, error) from error

    def _error(self, number: int, error: PictureError) -> InputError:
        hint = '`fashionkit inspect FOLDER --verify` checks the catalogue; damaged="skip" leaves such pictures out'
        return InputError(
            f"a picture cannot be used: {error}", file=self.catalog.path, found=self._ids[number], hint=hint
        )


def read_pictures(path: Path, columns: list[str]) -> pa.Table:
    """Some columns of one part of the table `images`.

    Raises:
        InputError: The part is damaged.
    """
    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"the file is damaged or not Parquet: {error}", file=path) from error


def _held(catalog: Catalog, ids: pa.Array) -> Iterator[pa.Table]:
    """The wanted rows, in memory."""
    for path in table_parts(catalog.path, "images"):
        table = read_pictures(path, COLUMNS.names)
        yield table.filter(pc.is_in(table["image_id"], ids))


def _unpacked(catalog: Catalog, folder: Path) -> Iterator[pa.Table]:
    """All rows, from a memory-mapped file that is written when it is not there yet."""
    path = folder / f"pictures-{catalog.manifest.content_hash()[:32]}.arrow"

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as out, pa.ipc.new_file(out, COLUMNS) as writer:
            for part in table_parts(catalog.path, "images"):
                writer.write_table(read_pictures(part, COLUMNS.names).cast(COLUMNS))

    if not path.exists():
        write_atomic(path, write)
    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid as error:
        hint = "remove it; it is made again"
        raise InputError(f"the unpacked pictures are damaged: {error}", file=path, hint=hint) from error
    for number in range(file.num_record_batches):
        yield pa.Table.from_batches([file.get_batch(number)])
