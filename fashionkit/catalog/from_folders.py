"""The `folders` format: pictures in one folder for each class; the folder's name is their category, label or attribute.

    FOLDER/<image.folder>/<class>/…/NAME.jpg ──► hash of the bytes ──► copies refused ──► staged as a table of
                                                                          `id`, `folder`, `name`, `path`

The id is the beginning of the SHA-256 of the picture's bytes. So ids, and with them the splits, depend on what the
pictures are and neither on their names nor on their order: who has the same pictures has the same splits. Of copies in
one class the first by path stays. A picture that lies in several classes is refused with all its copies, since nobody
knows which class is right. Near copies are left to the splits, which keep them on one side.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from fashionkit.catalog import from_table
from fashionkit.catalog.images import PictureError, read_file
from fashionkit.catalog.mapping import Mapping
from fashionkit.catalog.staging import Stager
from fashionkit.catalog.tabular import PREFIX, ROW, Source
from fashionkit.catalog.words import Refused
from fashionkit.tables import InputError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
COLUMNS = ("id", "folder", "name", "path")
ID_DIGITS = 16  # 64 bits: among 100,000 pictures two equal ones by chance have odds of 1 to 3.7 billion


def stage(source: Path, mapping: Mapping, stager: Stager) -> None:
    """Stages the pictures of a folder of class folders.

    Raises:
        InputError: No folder, no picture in a class folder, or a column that is not one of COLUMNS.
    """
    from_table.stage(FolderSource(source, mapping), table_view(mapping), stager)


def table_view(mapping: Mapping) -> Mapping:
    """The mapping with the column of paths where it names none."""
    return mapping if mapping.image.path is not None else replace(mapping, image=replace(mapping.image, path="path"))


class FolderReader(from_table.TableReader):
    """Makes drafts of staged rows."""

    def __init__(self, mapping: Mapping, base: Path) -> None:
        super().__init__(table_view(mapping), base)


class FolderSource(Source):
    """Pictures in class folders as a table: a row a picture, in the order of their paths, copies apart as broken rows.

    Attributes:
        rows: Row number and the cells of COLUMNS.
    """

    def __init__(self, source: Path, mapping: Mapping) -> None:
        folder = _folder(source, mapping)
        self.path, self.names, self.broken = source, list(COLUMNS), []
        self.rows: list[tuple[int, tuple[str, str, str, str]]] = []
        listed = list(enumerate(pictures(folder), 1))
        digests: dict[str, str] = {}
        places: dict[str, list[str]] = {}
        for number, path in listed:
            try:
                _check(path)
                digests[path] = _digest(folder, path)
                places.setdefault(digests[path], []).append(path)
            except Refused as why:
                self.broken.append((number, why))
        for number, path in listed:
            if path in digests:
                why_not = _copy(path, places[digests[path]])
                if why_not is None:
                    cells = (digests[path][:ID_DIGITS], _class(path), Path(path).stem, path)
                    self.rows.append((number, cells))
                else:
                    self.broken.append((number, why_not))
        self.broken.sort(key=lambda pair: pair[0])
        if not digests:
            hint = f"pictures lie in folders of their classes, and end in {', '.join(PICTURES)}"
            raise InputError("no picture in a class folder", file=folder, hint=hint)

    def batches(self, columns: Sequence[str], binary: Sequence[str] = ()) -> Iterator[pa.Table]:
        if binary:
            problem = "folders have no columns of bytes"
            raise InputError(problem, file=self.path, column=binary[0], hint="leave `image.bytes` out")
        if self.rows:
            arrays = [pa.array([number for number, _ in self.rows], pa.int64())]
            arrays += [
                pa.array([cells[COLUMNS.index(name)] for _, cells in self.rows], pa.string()) for name in columns
            ]
            yield pa.table(arrays, names=[ROW, *(PREFIX + name for name in columns)])


def pictures(folder: Path) -> Iterator[str]:
    """Paths of all pictures below a folder, from it downwards, sorted; links to folders are not followed."""
    found = []
    for place, _, names in os.walk(folder):
        below = Path(place).relative_to(folder)
        found += [(below / name).as_posix() for name in names if Path(name).suffix.lower() in PICTURES]
    return iter(sorted(found))


def hash_pictures(source: Path, mapping: Mapping) -> str:
    """Over the paths and the content of all pictures; a file that cannot be read counts by its path.

    Raises:
        InputError: No such folder.
    """
    folder, listed = _folder(source, mapping), []
    for path in pictures(folder):
        try:
            listed.append((path, _digest(folder, path)))
        except Refused as why:
            listed.append((path, why.reason))
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _folder(source: Path, mapping: Mapping) -> Path:
    folder = source / mapping.image.folder
    if not folder.is_dir():
        hint = "the format `folders` takes a folder with one folder of pictures for each class"
        raise InputError("no such folder", file=folder, hint=hint)
    return folder


def _check(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise Refused("not_utf8", f"the file's name is not UTF-8 text: {path!a}", "path", ascii(path)) from error
    if "/" not in path:
        raise Refused("no_class_folder", f"{path} lies in no class folder", "path", path)


def _digest(folder: Path, path: str) -> str:
    try:
        return hashlib.sha256(read_file(folder, path)).hexdigest()
    except PictureError as error:
        raise Refused(error.reason, f"{path}: {error}", "path", path) from error


def _class(path: str) -> str:
    return path.split("/", 1)[0]


def _copy(path: str, copies: list[str]) -> Refused | None:
    """Why one of several copies is refused; None for the one that stays."""
    classes = sorted({_class(other) for other in copies})
    if len(classes) > 1:
        detail = f"the same picture lies in {' and '.join(classes)}, so its class is not known"
        return Refused("several_classes", detail, "folder", path)
    if path != copies[0]:
        return Refused("copy", f"the same picture as {copies[0]}", "path", path)
    return None
