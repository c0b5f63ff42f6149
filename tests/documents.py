"""Reads the project's Markdown for the tests: fenced blocks, commands, tables, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

from fashionkit.catalog.ontology import Ontology

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "datagen/README.md", "train/README.md", "eval/README.md")


def pages() -> list[Path]:
    """All Markdown files that this project keeps for its readers."""
    return [ROOT / name for name in (*PAGES, "CHANGELOG.md")] + sorted((ROOT / "docs").glob("*.md"))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line it starts on."""

    page: Path
    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """What a YAML block's first line names as its file: `# shop/shop.yaml`."""
        named = re.match(r"# (\S+\.yaml)\n", self.text)
        return named[1] if named and self.language == "yaml" else None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)
    return [Block(page, m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in found]


@dataclass(frozen=True)
class Step:
    """A command line and what the page says it prints; None where it says nothing."""

    words: tuple[str, ...]
    printed: tuple[str, ...] | None
    line: int


def steps(block: Block) -> Iterator[Step]:
    """The commands of a `sh` or `console` block."""
    lines = block.text.splitlines()
    if block.language == "sh":
        for number, line in enumerate(lines):
            if words := tuple(shlex.split(line, comments=True)):
                yield Step(words, None, block.line + number)
    elif block.language == "console":
        starts = [n for n, line in enumerate(lines) if line.startswith("$ ")]
        assert starts[:1] == [0], f"{block.page.name}, line {block.line}: a console block starts with a command"
        for lo, hi in zip(starts, [*starts, len(lines)][1:], strict=True):
            yield Step(tuple(shlex.split(lines[lo][2:])), tuple(lines[lo + 1 : hi]), block.line + lo)


def agrees(printed: list[str], said: tuple[str, ...]) -> bool:
    """Whether an output is what a page shows: there a line `...` is any lines, and `…` any piece of a line."""
    if not said:
        return not printed
    if said[0] == "...":
        return any(agrees(printed[skip:], said[1:]) for skip in range(len(printed) + 1))
    pattern = ".*".join(map(re.escape, said[0].split("…")))
    return bool(printed) and re.fullmatch(pattern, printed[0]) is not None and agrees(printed[1:], said[1:])


def tables(page: Path) -> dict[str, list[list[str]]]:
    """Heading → the rows of the first table below it, as cells; the head of the table is left out."""
    found: dict[str, list[list[str]]] = {}
    heading, before = "", ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|") and (before.startswith("|") or heading not in found):
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split(" | ")])
            before = line
            continue
        before = "" if heading not in found or not line.startswith("|") else before
    return {name: rows[2:] for name, rows in found.items()}


def column(rows: list[list[str]], number: int = 0) -> list[str]:
    """A column of a table, without the backquotes."""
    return [row[number].strip(" `|") for row in rows]


_read_ontology = Ontology.load
_paths: dict[str, Path] = {}


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads each ontology once, whichever folder it was copied to, and leaves flushing to the disk out."""

    def load(path: str | Path) -> Ontology:
        text = Path(path).read_text(encoding="utf-8")
        _paths[text] = Path(path)
        return _ontology(text)

    monkeypatch.setattr(Ontology, "load", staticmethod(load))
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@lru_cache(maxsize=4)
def _ontology(text: str) -> Ontology:
    return _read_ontology(_paths[text])
