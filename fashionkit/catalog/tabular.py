"""Reads tables as people have them: CSV in its dialects, JSON lines, Parquet; every cell becomes text, a list or null.

    CSV, TSV ──► decode (bad bytes kept apart) ──► csv records ──┐
    JSONL ─────► one object a line ──────────────────────────────┼──► pa.Table: "row" + the wanted columns
    Parquet ───► batches, columns cast to text ──────────────────┘    as string, list<string> or binary

Rows that cannot be read are refused one by one, with their line. What makes the whole file doubtful (no header, a
column name twice, a quote that never closes) is an error.
"""

from __future__ import annotations

import csv
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fashionkit.catalog.mapping import TableSpec
from fashionkit.catalog.words import Refused
from fashionkit.tables import InputError

ROW = "row"  # the staged column of row numbers; all others carry the prefix below, so that names cannot clash
PREFIX = "c:"
TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
LINE_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
_DELIMITERS = ",;\t|"
_BATCH = 1024


class Source(ABC):
    """A table that is read once or more.

    Attributes:
        path: The file.
        names: Its columns in order.
        broken: Row number and reason of each row that could not be read; complete after `batches` has run.
    """

    path: Path
    names: list[str]
    broken: list[tuple[int, Refused]]

    @abstractmethod
    def batches(self, columns: Sequence[str], binary: Sequence[str] = ()) -> Iterator[pa.Table]:
        """Tables of ROW and the wanted columns (prefixed), in source order."""

    def require(self, columns: Iterable[str], asks: Callable[[str], str] | None = None) -> None:
        """Raises InputError, with the nearest name, when a column is not there; `asks` says who wants it."""
        for name in columns:
            if name not in self.names:
                hint = None if asks is None else asks(name)
                problem = "the table has no such column"
                raise InputError(problem, file=self.path, found=name, allowed=self.names, hint=hint)


def open_table(path: Path, spec: TableSpec | None = None) -> Source:
    """Opens a table by its suffix.

    Raises:
        InputError: No such file, an unknown suffix, an empty file, no header, a column name twice.
    """
    spec = spec or TableSpec()
    if not path.is_file():
        raise InputError("no such file", file=path)
    if path.stat().st_size == 0:
        raise InputError("the file is empty", file=path)
    suffix = path.suffix.lower()
    if suffix in PARQUET_SUFFIXES:
        source: Source = ParquetSource(path)
    elif suffix in LINE_SUFFIXES:
        source = LineSource(path)
    elif suffix in TEXT_SUFFIXES:
        source = CsvSource(path, spec)
    else:
        allowed = (*TEXT_SUFFIXES, *LINE_SUFFIXES, *PARQUET_SUFFIXES)
        raise InputError("not a kind of table that is read", file=path, found=suffix, allowed=allowed)
    twice = sorted({name for name in source.names if name and source.names.count(name) > 1})
    if twice:
        raise InputError("a column name stands twice in the table", file=path, found=twice[0], hint="rename one")
    return source


class _MemorySource(Source):
    """A text table, held in memory as records."""

    def __init__(self, path: Path) -> None:
        self.path, self.broken = path, []
        self.names = []
        self.records: list[tuple[int, dict[str, Any]]] = []

    def batches(self, columns: Sequence[str], binary: Sequence[str] = ()) -> Iterator[pa.Table]:
        if binary:
            problem = "a text table cannot hold pictures"
            raise InputError(problem, file=self.path, column=binary[0], hint="use `image.path` and a folder of files")
        for start in range(0, len(self.records), _BATCH):
            some = self.records[start : start + _BATCH]
            arrays = [pa.array([row for row, _ in some], pa.int64())]
            arrays += [self._array(name, some) for name in columns]
            yield pa.table(arrays, names=[ROW, *(PREFIX + name for name in columns)])

    def _array(self, name: str, some: list[tuple[int, dict[str, Any]]]) -> pa.Array:
        cells = [record.get(name) for _, record in some]
        if name in self._lists:
            lists = [cell if isinstance(cell, list) or cell is None else [cell] for cell in cells]
            return pa.array(lists, pa.list_(pa.string()))
        return pa.array(cells, pa.string())

    @property
    def _lists(self) -> set[str]:
        return set()


class CsvSource(_MemorySource):
    """Comma, semicolon, tab or bar separated text; the row number is the line on which the record starts."""

    def __init__(self, path: Path, spec: TableSpec) -> None:
        super().__init__(path)
        text = _decode(path, spec.encoding)
        delimiter = spec.delimiter or sniff_delimiter(text)
        self._clean = not _surrogates([text])
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        self.names = self._header(reader)
        for line, record in self._records(reader):
            problem = self._problem(record)
            if problem is not None:
                self.broken.append((line, problem))
            else:
                self.records.append((line, dict(zip(self.names, record, strict=True))))

    def _header(self, reader: Any) -> list[str]:
        for _, record in self._records(reader):
            if _surrogates(record):
                raise InputError("the header is not UTF-8 text", file=self.path, row=1, hint=_ENCODING_HINT)
            return [name.strip() for name in record]
        raise InputError("the table has no header", file=self.path)

    def _records(self, reader: Any) -> Iterator[tuple[int, list[str]]]:
        while True:
            line = reader.line_num + 1
            try:
                record = next(reader, None)
            except csv.Error as error:
                if "unexpected end" in str(error) or "field larger" in str(error):
                    problem = f"a cell that starts on this line does not end: {error}"
                    hint = 'a quote (") that is opened and never closed is the usual cause'
                    raise InputError(problem, file=self.path, row=line, hint=hint) from error
                self.broken.append((line, Refused("bad_row", f"the line is not CSV: {error}")))
                continue
            if record is None:
                return
            if record:  # the csv module gives an empty record for an empty line
                yield line, record

    def _problem(self, record: list[str]) -> Refused | None:
        if not self._clean and _surrogates(record):
            return Refused("not_utf8", "the row holds bytes that are not UTF-8 text")
        if len(record) != len(self.names):
            detail = f"the row has {len(record)} cells and the header {len(self.names)}"
            return Refused("cell_count", detail, found=",".join(record))
        return None


_ENCODING_HINT = "save the file as UTF-8, or state `table: {encoding: cp1252}` (utf-16, latin-1) in the mapping"


def _decode(path: Path, encoding: str) -> str:
    raw = path.read_bytes()
    if encoding == "utf-8":
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError("the file is UTF-16 text", file=path, hint="state `table: {encoding: utf-16}`")
        return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"the file is not {encoding} text", file=path, row=row, found=raw[error.start]) from error


def _surrogates(record: list[str]) -> bool:
    """Whether a cell holds what `surrogateescape` makes of bytes that are not UTF-8."""
    try:
        for cell in record:
            cell.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def sniff_delimiter(text: str) -> str:
    """The separator that cuts the header into most columns; a comma where none does."""
    header = text[:100_000].split("\n", 1)[0]
    counts = {}
    for delimiter in _DELIMITERS:
        record = next(csv.reader([header], delimiter=delimiter), [])
        counts[delimiter] = len(record)
    return max(_DELIMITERS, key=lambda d: counts[d])


class LineSource(_MemorySource):
    """One JSON object a line."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._list_columns: set[str] = set()
        names: dict[str, None] = {}
        for line, raw in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            if not raw.strip():
                continue
            try:
                record = self._record(raw)
            except Refused as why:
                self.broken.append((line, why))
                continue
            names.update(dict.fromkeys(record))
            self.records.append((line, record))
        if not names:
            raise InputError("no line of the file is a JSON object with a key", file=path, hint=_first(self.broken))
        self.names = list(names)

    def _record(self, raw: bytes) -> dict[str, Any]:
        try:
            data = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_key_twice)
        except UnicodeDecodeError as error:
            raise Refused("not_utf8", "the line holds bytes that are not UTF-8 text") from error
        except (json.JSONDecodeError, RecursionError) as error:
            detail = f"the line is no JSON: {error}"
            raise Refused("bad_row", detail, found=raw[:200].decode("utf-8", "replace")) from error
        if not isinstance(data, dict):
            raise Refused("bad_row", "the line is no JSON object", found=repr(data))
        return {key: self._cell(key, value) for key, value in data.items()}

    def _cell(self, key: str, value: Any) -> str | list[str] | None:
        if isinstance(value, list):
            self._list_columns.add(key)
            return [text for part in value if (text := _scalar(key, part)) is not None]
        return _scalar(key, value)

    @property
    def _lists(self) -> set[str]:
        return self._list_columns


def _first(broken: list[tuple[int, Refused]]) -> str | None:
    return f"line {broken[0][0]}: {broken[0][1].detail}" if broken else None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise Refused("bad_row", "a key stands twice in one object")
    return data


def _scalar(key: str, value: Any) -> str | None:
    """A JSON value as the text a CSV would hold."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return None if math.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    raise Refused("bad_row", "a nested value cannot be read as a word", column=key, found=repr(value))


class ParquetSource(Source):
    """A Parquet file, read in batches, so that pictures in it need not fit into memory."""

    def __init__(self, path: Path) -> None:
        self.path, self.broken = path, []
        try:
            self.file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise InputError(f"the file is damaged or not Parquet: {error}", file=path) from error
        self.names = list(self.file.schema_arrow.names)

    def batches(self, columns: Sequence[str], binary: Sequence[str] = ()) -> Iterator[pa.Table]:
        row = 1
        try:
            for batch in self.file.iter_batches(_BATCH, columns=[*columns, *binary]):
                arrays = [pa.array(range(row, row + len(batch)), pa.int64())]
                arrays += [as_text(batch.column(name), self.path, name) for name in columns]
                arrays += [self._bytes(batch.column(name), name) for name in binary]
                yield pa.table(arrays, names=[ROW, *(PREFIX + name for name in (*columns, *binary))])
                row += len(batch)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"the file is damaged: {error}", file=self.path) from error

    def _bytes(self, array: pa.Array, name: str) -> pa.Array:
        kind = array.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:  # as Hugging Face datasets store pictures
            array, kind = pc.struct_field(array, "bytes"), kind.field("bytes").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise InputError("encoded pictures (binary) are needed", file=self.path, column=name, found=str(kind))
        return array.cast(pa.binary())


def as_text(array: pa.Array, file: Path, name: str) -> pa.Array:
    """A column as strings or lists of strings: whole numbers without a point, NaN as null.

    Raises:
        InputError: A type that has no words (bytes, structures), or text that is not UTF-8.
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        return as_text(array.dictionary_decode(), file, name)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = as_text(array.flatten(), file, name)
        if array.null_count == 0:
            return (
                pa.ListArray.from_arrays(array.offsets.cast(pa.int32()), inner) if array.offset == 0 else _relist(array)
            )
        return _relist(array)
    if pa.types.is_floating(kind):
        return pa.array([_scalar(name, value) for value in array.to_pylist()], pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_nested(kind):
        hint = "pictures are named by `image.bytes`" if not pa.types.is_nested(kind) else None
        raise InputError("the column holds no words", file=file, column=name, found=str(kind), hint=hint)
    text = array.cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InputError("the column holds text that is not UTF-8", file=file, column=name) from error
    return text


def _relist(array: pa.Array) -> pa.Array:
    words = [None if cell is None else [_scalar("", part) for part in cell] for cell in array.to_pylist()]
    return pa.array(words, pa.list_(pa.string()))
