"""Tables of results in Markdown pages, written by commands between marks that stay.

<!-- table NAME: COMMAND -->
| … |
<!-- end NAME -->
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fashionkit.tables import InputError, write_text


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells may not break it."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    assert all(len(line) == len(head) for line in lines), "each row has a cell for each heading"
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def put(page: str | Path, name: str, command: str, text: str) -> None:
    """Writes `text` between the marks of `name`, with the command that makes it; appends both where they are missing.

    Raises:
        InputError: No such page, or marks that do not pair.
    """
    path = Path(page)
    if not path.is_file():
        raise InputError("no such page", file=path, hint="name a Markdown file that is there")
    body = path.read_text(encoding="utf-8")
    begin = rf"<!-- table {re.escape(name)}(?:: [^\n]*)? -->\n"
    block = f"<!-- table {name}: {command} -->\n\n{text.strip()}\n\n<!-- end {name} -->"
    found = re.findall(rf"{begin}.*?<!-- end {re.escape(name)} -->", body, re.S)
    starts = len(re.findall(begin, body))
    if len(found) != starts or starts > 1:
        raise InputError(f"the marks of table {name!r} do not pair", file=path, hint=f"`<!-- end {name} -->` ends it")
    body = body.replace(found[0], block) if found else f"{body.rstrip()}\n\n{block}\n"
    write_text(path, body)


def number(value: float, low: float | None = None, high: float | None = None) -> str:
    """A share as .957, with its interval where given."""
    return _with_interval("", value, low, high)


def signed(value: float, low: float | None = None, high: float | None = None) -> str:
    """A difference of shares as +.051, with its interval where given."""
    return _with_interval("+", value, low, high)


def _with_interval(sign: str, value: float, low: float | None, high: float | None) -> str:
    texts = [_share(one, sign) for one in (value, low, high) if one is not None]
    return texts[0] if len(texts) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def _share(value: float, sign: str) -> str:
    return "–" if value != value else re.sub(r"^([+-]?)0\.", r"\1.", f"{value:{sign}.3f}")
