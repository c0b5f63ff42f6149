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
    return "".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |\n" for line in lines)


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


def number(value: float, low: float | None = None, high: float | None = None, sign: bool = False) -> str:
    """A share as .957, with its interval where given; with a sign for differences."""
    if low is None or high is None:
        return _share(value, sign)
    return f"{_share(value, sign)} ({_share(low, sign)} to {_share(high, sign)})"


def _share(value: float, sign: bool) -> str:
    if value != value:
        return "–"
    text = f"{value:+.3f}" if sign else f"{value:.3f}"
    return re.sub(r"^([+-]?)0\.", r"\1.", text)
