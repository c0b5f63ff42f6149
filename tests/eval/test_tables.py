"""Tables in pages: between their marks, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashionkit.eval.tables import markdown, number, put, signed
from fashionkit.tables import InputError


def test_a_table_replaces_the_one_before_and_leaves_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(
        "# Results\n\n<!-- table a: old -->\nold\n<!-- end a -->\n\n<!-- table ab -->\nkept\n<!-- end ab -->\n"
    )
    put(page, "a", "make a", "| new |")
    put(page, "a", "make a", "| newer |")
    text = page.read_text()
    assert "old" not in text and "| new |" not in text and text.count("| newer |") == 1
    assert "<!-- table a: make a -->" in text and "kept" in text and text.startswith("# Results")


def test_a_table_without_marks_comes_last(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("# Results\n")
    put(page, "new", "make new", r"| back\slash \1 |")
    assert page.read_text().endswith("<!-- table new: make new -->\n\n| back\\slash \\1 |\n\n<!-- end new -->\n")


@pytest.mark.parametrize(
    "text", ["<!-- table a -->\nx\n", "<!-- table a -->\n<!-- end a -->\n<!-- table a -->\n<!-- end a -->\n"]
)
def test_marks_that_do_not_pair_are_refused(tmp_path: Path, text: str) -> None:
    page = tmp_path / "README.md"
    page.write_text(text)
    with pytest.raises(InputError, match="do not pair"):
        put(page, "a", "make a", "x")
    assert page.read_text() == text


def test_a_missing_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such page"):
        put(tmp_path / "none.md", "a", "make a", "x")


def test_cells_cannot_break_the_table() -> None:
    assert markdown(["a", "b"], [["x|y", "two\nlines"]]) == "| a | b |\n| --- | --- |\n| x\\|y | two lines |\n"


@pytest.mark.parametrize(
    ("value", "low", "high", "sign", "text"),
    [
        (0.957, None, None, False, ".957"),
        (0.5, 0.4567, 1.0, False, ".500 (.457 to 1.000)"),
        (0.0512, -0.01, 0.11, True, "+.051 (-.010 to +.110)"),
        (float("nan"), None, None, False, "–"),
    ],
)
def test_numbers(value: float, low: float | None, high: float | None, sign: bool, text: str) -> None:
    assert (signed if sign else number)(value, low, high) == text
