"""Looks at the columns of an unknown table: how full, how varied, what kind of words.

table ──► batches ──► counts of words a column (up to a limit) ──► Profile: id, path, words, text, numbers, ...
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from fashionkit.catalog.from_masks import PICTURES
from fashionkit.catalog.mapping import MISSING_WORDS
from fashionkit.catalog.ontology import fold
from fashionkit.catalog.tabular import PREFIX, ParquetSource, Source
from fashionkit.tables import InputError

MAX_ROWS = 200_000  # rows that are looked at
MAX_WORDS = 2_000  # different words of a column that are kept
SLIPS = 0.05  # share of the rows that may break what the others show: ids that stand twice, photos that are shared
_NUMBER = re.compile(r"[-+]?[0-9]+([.,][0-9]+)?\Z")
_MISSING = frozenset(MISSING_WORDS)


@dataclass
class Profile:
    """One column.

    Attributes:
        name: The column.
        rows: Rows looked at.
        filled: Rows with a word in it.
        words: Word → rows, of the filled cells; parts of lists counted one by one.
        distinct: Different cells; a lower bound where there are over MAX_WORDS.
        binary: The column holds bytes.
        list: The column holds lists.
        nested: The column holds structures, or nothing that can be read as words.
    """

    name: str
    rows: int = 0
    filled: int = 0
    words: Counter[str] = field(default_factory=Counter)
    distinct: int = 0
    binary: bool = False
    list: bool = False
    nested: bool = False

    def share(self, test: re.Pattern[str] | None = None, endings: tuple[str, ...] = ()) -> float:
        """Share of the kept words, by rows, that match the pattern or end so."""
        total = self.words.total()
        hits = sum(n for word, n in self.words.items() if _hit(word, test, endings))
        return hits / total if total else 0.0

    @property
    def unique(self) -> bool:
        """Every row has a word of its own."""
        return self.filled == self.rows > 0 and self.distinct == self.rows

    @property
    def repeated(self) -> int:
        """Rows whose word stands in an earlier row."""
        return self.filled - self.distinct

    @property
    def nearly_unique(self) -> bool:
        """Every row has a word of its own, but for a few slips: one row, or a small share of them."""
        return self.distinct > 1 and few(self.rows - self.distinct, self.rows)

    @property
    def paths(self) -> bool:
        """The words name picture files."""
        return not self.urls and self.share(endings=PICTURES) > 0.9

    @property
    def urls(self) -> bool:
        """The words are addresses in the web."""
        return self.share(re.compile(r"https?://", re.IGNORECASE)) > 0.5

    @property
    def numbers(self) -> bool:
        """The words are numbers."""
        return self.share(_NUMBER) > 0.9

    @property
    def text(self) -> bool:
        """The words are sentences or names: long, and hardly ever the same."""
        total = self.words.total() or 1
        length = sum(len(word.split()) * n for word, n in self.words.items()) / total
        return length > 3 and self.distinct > 0.3 * self.filled


def few(slips: int, rows: int) -> bool:
    """Whether so few rows of a column may be mistakes, rather than what the column is like."""
    return slips <= max(1, SLIPS * rows)


def _hit(word: str, test: re.Pattern[str] | None, endings: tuple[str, ...]) -> bool:
    return (test is not None and test.match(word) is not None) or word.lower().endswith(endings or "\0")


def profiles(source: Source) -> list[Profile]:
    """Looks at each column of a table that has a name."""
    return [_profile(source, name) for name in source.names if name]


def _profile(source: Source, name: str) -> Profile:
    found = Profile(name)
    if isinstance(source, ParquetSource):
        kind = source.file.schema_arrow.field(name).type
        inner = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
        if pa.types.is_binary(inner) or pa.types.is_large_binary(inner):
            found.binary, found.rows = True, source.file.metadata.num_rows
            return found
    seen: set[str] = set()
    try:
        for batch in source.batches([name]):
            _count(found, seen, batch.column(PREFIX + name).to_pylist())
            if found.rows >= MAX_ROWS:
                break
    except InputError:  # a structure, say: the mapping leaves it out and says so
        found.nested = True
    found.distinct = len(seen)
    return found


def _count(found: Profile, seen: set[str], cells: list[str | list[str] | None]) -> None:
    for cell in cells:
        found.rows += 1
        found.list = found.list or isinstance(cell, list)
        parts = [part.strip() for part in (cell if isinstance(cell, list) else [cell or ""]) if part]
        parts = [part for part in parts if fold(part) not in _MISSING]
        if not parts:
            continue
        found.filled += 1
        seen.add("\0".join(parts))
        for part in parts:
            if part in found.words or len(found.words) < MAX_WORDS:
                found.words[part] += 1


def file_name(path: Path) -> str:
    """The file's stem as a catalogue's name."""
    return re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_") or "catalogue"
