"""The building blocks of a report: what is escaped, where figures stand, what a screen reader finds."""

from __future__ import annotations

import pytest

from fashionkit.report.html import Html
from fashionkit.report.parts import badge, banner, figure, folded, legend, table, tiles

EVIL = '"><script>alert(1)</script>'


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, ""), (1234567, "1,234,567"), (0, "0"), (0.123456, "0.123"), ("a<b", "a&lt;b"), (True, "True")],
)
def test_a_cell_is_said_as_people_write_it(value: object, said: str) -> None:
    assert figure(value) == said  # type: ignore[arg-type]


def test_every_part_escapes_texts_and_keeps_markup() -> None:
    parts = [
        table([EVIL, EVIL], [[EVIL, EVIL]], EVIL), tiles([(EVIL, EVIL, EVIL)]), folded(EVIL, Html("")), badge(EVIL),
        banner(EVIL), legend([EVIL]),
    ]  # fmt: skip
    for part in parts:
        assert isinstance(part, Html) and "<script" not in part and "&lt;script&gt;" in part
    assert "<b>bold</b>" in table(["x"], [[Html("<b>bold</b>")]])


def test_numbers_stand_on_the_right_and_texts_on_the_left() -> None:
    made = table(["name", "count", "text", "share"], [["a", 1200, "x", "10 %"], ["b", None, "y", "20 %"]], right=(3,))
    assert '<th scope="row">a</th><td class="n">1,200</td><td>x</td><td class="n">10 %</td>' in made
    assert '<th scope="row">b</th><td class="n"></td><td>y</td>' in made
    assert '<th scope="col" class="n">count</th><th scope="col">text</th>' in made


def test_a_row_of_another_length_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(AssertionError):
        table(["a", "b"], [["only one"]])


def test_a_table_can_be_scrolled_by_keyboard() -> None:
    assert 'role="region" tabindex="0" aria-label="What it tells"' in table(["a"], [["b"]], "What it tells")


def test_folded_parts_work_without_a_script() -> None:
    assert folded("more", Html("<p>x</p>")) == "<details><summary>more</summary><div><p>x</p></div></details>"
    assert folded("more", Html(""), opened=True).startswith("<details open>")
