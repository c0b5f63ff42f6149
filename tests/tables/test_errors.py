"""The text of an error: place, finding, what is allowed, the way out."""

from __future__ import annotations

import copy
from multiprocessing.reduction import ForkingPickler

from fashionkit.tables import InputError, nearest, shorten


def test_the_text_says_where_what_and_how_to_mend_it() -> None:
    error = InputError(
        "no such value", file="a.csv", row=3, column="Colour", found="blu", allowed=["red", "blue"], hint="mend it"
    )
    assert str(error) == (
        "a.csv, row 3, column 'Colour': no such value\n"
        "  found: blu\n  nearest allowed: 'blue'\n  allowed: blue, red\n  hint: mend it"
    )
    assert str(InputError("only this")) == "only this"


def test_it_travels_between_processes() -> None:
    error = InputError("bad", file="a.csv", row=3, found="x", allowed=["y"])
    again = ForkingPickler.loads(ForkingPickler.dumps(error))
    assert (str(again), again.row, again.allowed) == (str(error), 3, ["y"])
    assert str(copy.copy(error)) == str(error)


def test_nearest_ignores_case_and_says_none_where_nothing_is_alike() -> None:
    assert nearest("TROUSER", ["Trousers", "Shirt"]) == "Trousers"
    assert nearest("xyz", ["Trousers", "Shirt"]) is None


def test_shorten_makes_one_printable_line() -> None:
    assert shorten("a\n  b\tc") == "a b c"
    assert shorten("x" * 500, 10) == "x" * 9 + "…"
    assert shorten("\x1b[31mred\x00") == "\\x1b[31mred\\x00"
    assert shorten(3.5) == "3.5"
