"""Question sets as WebDataset shards: tar files in which a picture and its questions stand side by side.

    catalogue parts ─► where each picture is, about how large ─┐
    samples ─► runs of one picture ────────────────────────────┴─► shards of about so many bytes
    a shard ─► picture bytes as they are ─► <key>.jpg  ┐
            └► questions, rendered ───────► <key>.json ┴─► <out>/<split>/shard-00000.tar

A group a picture, because a picture is read once for all of its questions. The format is that of the package
`webdataset` (github.com/webdataset/webdataset): the members of one sample follow each other and share the name up to
its first dot. Members have no time, owner or order of their own, so the same set gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fashionkit.catalog.images import PictureError, read_file
from fashionkit.datagen.reading.pictures import read_pictures
from fashionkit.datagen.samples import sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError, table_parts, write_atomic

Array = npt.NDArray[Any]
MEBIBYTE = 1 << 20
QUESTION_BYTES = 170  # about what a question takes as JSON
MEMBER_BYTES = 1024  # head and padding of a member, on average
KEY_LENGTH = 70  # with hash and suffix below the 100 of the tar format
MAGIC = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG", "gif": b"GIF8", "bmp": b"BM"}


@dataclass(frozen=True)
class Shard:
    """Rows `lo` to `hi` - 1 of a part of samples, and the tar they go to."""

    split: str
    part: Path
    lo: int
    hi: int
    tar: Path


class Tars:
    """What the shards of an export are made of.

    Args:
        store: The question set. catalog: Its catalogue, with pictures. shard_mb: About how many MiB a shard has; it has
            one picture at least.

    Raises:
        InputError: Another catalogue, or one without pictures; a size below 1.
    """

    def __init__(self, store: VQAStore, catalog: str | None, shard_mb: int):
        if catalog is None:
            raise InputError(
                "shards hold the pictures, too", file=store.path, hint="give the catalogue: --catalog FOLDER"
            )
        if shard_mb < 1:
            raise InputError("a shard has at least 1 MiB", found=shard_mb)
        self.store, self.catalog, self.size = store, store.catalog(catalog), shard_mb * MEBIBYTE
        self.root = self.catalog.path / self.catalog.facts.image_root
        self.parts = table_parts(self.catalog.path, "images")
        self.keys = [member_key(name) for name in store.image_ids]
        if len(set(self.keys)) < len(self.keys):
            raise InputError("two pictures of this set would share one name in the shards", file=store.path)
        self.part_of = np.full(len(store.image_ids), -1, np.int32)
        self.bytes_of = np.zeros(len(store.image_ids), np.int64)
        for number, part in enumerate(self.parts):
            self._index(number, part)
        if len(self.bytes_of) and not self.bytes_of.any():
            hint = "a catalogue of tables only has none; the other formats need no pictures"
            raise InputError("the catalogue has no pictures", file=catalog, hint=hint)

    def _index(self, number: int, part: Path) -> None:
        """Notes which pictures a part of the catalogue holds, and about how large they are."""
        table = read_pictures(part, ["image_id", "path"])
        names = pa.array(self.store.image_ids, pa.string())
        image = pc.fill_null(pc.index_in(table["image_id"], names), -1).to_numpy()
        paths = table["path"].to_pylist()
        embedded = _mean_bytes(part)
        sizes = [embedded if path is None else _file_size(self.root / path) for path in paths]
        rows = np.flatnonzero(image >= 0)
        self.part_of[image[rows]] = number
        self.bytes_of[image[rows]] = np.array(sizes, np.int64)[rows]

    def plan(self, splits: Sequence[str], target: Path) -> list[Shard]:
        """The shards of all splits, in order.

        Raises:
            InputError: The questions of a picture do not follow each other.
        """
        return [shard for split in splits for shard in self._plan_split(split, target / split)]

    def _plan_split(self, split: str, folder: Path) -> list[Shard]:
        shards: list[Shard] = []
        seen = np.zeros(len(self.store.image_ids), bool)
        for part in sample_files(self.store.path, split):
            image = pq.read_table(part, columns=["image"], partitioning=None)["image"].to_numpy()
            starts = np.flatnonzero(np.diff(image, prepend=-1))
            pictures = image[starts]
            if seen[pictures].any() or len(np.unique(pictures)) < len(pictures):
                raise InputError("the questions of a picture do not follow each other", file=part, column="image")
            seen[pictures] = True
            rows = np.diff(starts, append=len(image))
            sizes = self.bytes_of[pictures] + rows * QUESTION_BYTES + 2 * MEMBER_BYTES
            first = starts[np.unique((np.cumsum(sizes) - sizes) // self.size, return_index=True)[1]].tolist()
            for lo, hi in zip(first, [*first[1:], len(image)], strict=True):
                shards.append(Shard(split, part, lo, hi, folder / f"shard-{len(shards):05d}.tar"))
        return shards

    def write(self, shard: Shard) -> int:
        """Writes one tar, whole or not at all, unless it is there; returns its samples."""
        if not shard.tar.exists():
            samples = _rows(shard)
            pictures = self._pictures(np.unique(samples["image"].to_numpy()))
            write_atomic(shard.tar, lambda temporary: self._fill(temporary, shard.split, samples, pictures))
        return shard.hi - shard.lo

    def _fill(self, path: Path, split: str, samples: pa.Table, pictures: dict[str, bytes]) -> None:
        table = self.store.render(samples)
        templates = pa.array([t.id for t in self.store.pack.templates])
        columns = {
            "qid": table["qid"],
            "question": table["question"],
            "answer": table["answer_text"],
            "family": table["family"],
            "template": templates.take(table["template"].combine_chunks()),
            "difficulty": table["difficulty"].cast(pa.float32()),
        }
        questions, image = pa.table(columns), table["image"].to_numpy()
        starts = np.flatnonzero(np.diff(image, prepend=-1)).tolist()
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for lo, hi in zip(starts, [*starts[1:], len(image)], strict=True):
                name = self.store.image_ids[image[lo]]
                about = {"image_id": name, "split": split, "questions": questions.slice(lo, hi - lo).to_pylist()}
                key = self.keys[image[lo]]
                _add(tar, f"{key}.{self._suffix(name, pictures[name])}", pictures[name])
                _add(tar, f"{key}.json", json.dumps(about, ensure_ascii=False).encode())

    def _pictures(self, images: Array) -> dict[str, bytes]:
        """Encoded pictures by id, read from the parts of the catalogue that have them."""
        ids = [self.store.image_ids[image] for image in images.tolist()]
        found: dict[str, bytes] = {}
        for number in np.unique(self.part_of[images]).tolist():
            if number < 0:
                continue
            table = read_pictures(self.parts[number], ["image_id", "path", "bytes"])
            for row in table.filter(pc.is_in(table["image_id"], pa.array(ids))).to_pylist():
                if (data := row["bytes"] if row["path"] is None else self._file(row)) is not None:
                    found[row["image_id"]] = data
        for name in ids:
            if name not in found:
                raise InputError("the catalogue has no such picture", file=self.catalog.path, found=name)
        return found

    def _file(self, row: dict[str, Any]) -> bytes:
        try:
            return read_file(self.root, row["path"])
        except PictureError as error:
            raise InputError(
                f"a picture cannot be read: {error}", file=self.catalog.path, found=row["image_id"]
            ) from error

    def _suffix(self, name: str, data: bytes) -> str:
        """What a reader knows the format by."""
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return "webp"
        for suffix, magic in MAGIC.items():
            if data.startswith(magic):
                return suffix
        raise InputError(
            "a picture has no format that is known", file=self.catalog.path, found=name, allowed=[*MAGIC, "webp"]
        )


def member_key(image_id: str) -> str:
    """A name without dots, slashes and other signs; with a hash where it is not the id itself, so that none are alike.

    Readers take what follows the first dot as the kind of member, and leave out names that start with underscores.
    """
    key = re.sub(r"[^A-Za-z0-9_-]+", "_", image_id).strip("_-")[:KEY_LENGTH]
    if key == image_id:
        return key
    return f"{key or 'image'}-{hashlib.blake2b(image_id.encode(), digest_size=8).hexdigest()}"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # time 0, no owner
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))


def _rows(shard: Shard) -> pa.Table:
    """The shard's samples, without the row groups before and after them."""
    with pq.ParquetFile(shard.part) as file:
        ends = np.cumsum([file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)])
        first, last = np.searchsorted(ends, [shard.lo, shard.hi - 1], side="right").tolist()
        table = file.read_row_groups(list(range(first, last + 1)))
    return table.slice(shard.lo - (int(ends[first - 1]) if first else 0), shard.hi - shard.lo)


def _mean_bytes(part: Path) -> int:
    """About how large an embedded picture of a part of the catalogue is; 0 where none is."""
    metadata = pq.read_metadata(part)
    place = metadata.schema.names.index("bytes")
    columns = [metadata.row_group(number).column(place) for number in range(metadata.num_row_groups)]
    there = sum(c.num_values - (c.statistics.null_count if c.is_stats_set else 0) for c in columns)
    return max(1, sum(column.total_uncompressed_size for column in columns) // there) if there else 0


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
