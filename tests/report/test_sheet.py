"""The sheet that is checked by hand, in a real browser: ticks, keys, comments, what is kept, what is exported."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fashionkit.report.document import Section, document
from fashionkit.report.html import Html
from fashionkit.report.sheet import MAX_COMMENT, SCRIPT, STYLE, Check, sheet
from tests.report.browser import CHROMIUM, MISSING, Browser, browser

EVIL = '"><script>alert(1)</script>'
CONTENT = "0123456789abcdef"


def page(checks: list[Check], content: str = CONTENT) -> str:
    body = sheet(checks, content, "qid", "checked-0123")
    return document("Sheet", "", [Section("check", "Check", body)], style=STYLE, script=SCRIPT)


def checks(count: int = 6, **given: Any) -> list[Check]:
    return [Check(str(n), Html(f"<p>Question {n}</p>"), **given) for n in range(10, 10 + count)]


def test_cards_name_their_parts_and_escape_texts() -> None:
    made = sheet([Check("7", Html("<b>x</b>"), "wrong", EVIL), Check("8", Html(""))], EVIL, EVIL, EVIL)
    assert "<script" not in made and made.count("&lt;script&gt;") == 4 and "<b>x</b>" in made
    assert made.count('type="radio"') == 6 and made.count(" checked") == 1
    assert 'name="verdict-7" value="wrong" autocomplete="off" checked' in made
    assert '<legend class="hidden">Verdict on number 2</legend>' in made and "0 of 2 judged" in made
    assert f'maxlength="{MAX_COMMENT}"' in made and "<noscript>" in made


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def shown(chromium: Browser, tmp_path: Path) -> Browser:
    """A sheet of six cards, in a browser that keeps nothing of earlier tests."""
    (tmp_path / "sheet.html").write_text(page(checks()), encoding="utf-8")
    chromium.open(f"file://{tmp_path}/sheet.html")
    chromium.evaluate("localStorage.clear()")
    chromium.open(f"file://{tmp_path}/sheet.html")
    chromium.requests.clear()
    return chromium


def verdicts(b: Browser) -> list[str]:
    return list(b.evaluate("[...document.querySelectorAll('.check')].map(c => c.dataset.verdict)"))


def said(b: Browser) -> str:
    return str(b.evaluate("document.getElementById('sheet-count').textContent"))


def focused(b: Browser) -> str:
    return str(b.evaluate("(document.activeElement.closest('.check') || {dataset: {}}).dataset.id || ''"))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def until_kept(b: Browser, wanted: list[str], folder: Path, when: str) -> None:
    """The sheet shows these verdicts, at the latest after some seconds and looks.

    On a busy machine a page that was opened again was once seen without what the one before it had stored.
    """
    for _ in range(10):
        if verdicts(b) == wanted:
            return
        time.sleep(0.5)
        b.open(f"file://{folder}/sheet.html")
    assert verdicts(b) == wanted, when


@needs_browser
def test_ticks_and_comments_are_counted_kept_and_exported(shown: Browser, tmp_path: Path) -> None:
    shown.click(".check[data-id='10'] .v-right")
    shown.click(".check[data-id='11'] .v-wrong")
    shown.click(".check[data-id='12'] .v-cannot_tell span")
    comment = 'the bag is "navy"; or black,\tnot =SUM(A1) </script>é'
    shown.click(".check[data-id='11'] .comment")
    shown.call("Input.insertText", text=comment)
    shown.click(".check[data-id='14'] .comment")
    shown.call("Input.insertText", text="  only said  ")
    assert said(shown) == "3 of 6 judged: 1 right, 1 wrong, 1 cannot tell"
    for again in range(2):
        until_kept(shown, ["right", "wrong", "cannot_tell", "", "", ""], tmp_path, f"after {again} reloads")
        table = shown.download("#sheet-csv", tmp_path)
        assert table.name == "checked-0123.csv" and table.read_bytes().startswith(b"set,qid,verdict,comment\r\n")
        assert [tuple(row.values()) for row in rows(table)] == [
            (CONTENT, "10", "right", ""),
            (CONTENT, "11", "wrong", comment),
            (CONTENT, "12", "cannot_tell", ""),
            (CONTENT, "14", "", "only said"),
        ]
        found = json.loads(shown.download("#sheet-json", tmp_path).read_text(encoding="utf-8"))
        assert found["set"] == CONTENT
        assert [(r["qid"], r["verdict"]) for r in found["verdicts"]] == [(10, "right"), (11, "wrong"),
                                                                        (12, "cannot_tell"), (14, "")]  # fmt: skip
        assert found["verdicts"][1]["comment"] == comment
        table.unlink()
        shown.open(f"file://{tmp_path}/sheet.html")
    assert shown.errors == []


@needs_browser
def test_a_verdict_can_be_changed(shown: Browser, tmp_path: Path) -> None:
    shown.click(".check[data-id='10'] .v-right")
    shown.click(".check[data-id='10'] .v-wrong")
    assert said(shown) == "1 of 6 judged: 0 right, 1 wrong, 0 cannot tell"
    assert [row["verdict"] for row in rows(shown.download("#sheet-csv", tmp_path))] == ["wrong"]


@needs_browser
def test_the_whole_sheet_can_be_done_with_keys(shown: Browser) -> None:
    shown.click("#sheet-next")
    assert focused(shown) == "10"
    shown.key("1")
    assert focused(shown) == "11", "a verdict leads to the next card"
    shown.key("c")
    for letter in "j1":
        shown.key(letter)
    assert shown.evaluate("document.activeElement.value") == "j1", "in a comment, letters are letters"
    shown.key("Enter")
    shown.key("2")
    shown.key("j")
    assert focused(shown) == "13"
    shown.key("3")
    shown.key("k")
    shown.key("k")
    assert focused(shown) == "12"
    shown.key("u")
    assert focused(shown) == "14"
    assert verdicts(shown) == ["right", "wrong", "", "cannot_tell", "", ""]
    for _ in range(3):
        shown.key("1")
    assert said(shown).startswith("6 of 6") and "All are judged" in shown.evaluate("document.body.innerText")


@needs_browser
def test_the_tab_key_reaches_every_control(shown: Browser) -> None:
    shown.evaluate("document.getElementById('sheet-clear').focus()")
    reached = []
    for _ in range(4):
        shown.key("Tab")
        reached.append(shown.evaluate("document.activeElement.type"))
    assert reached == ["radio", "text", "radio", "text"]


@needs_browser
def test_regions_are_hidden_until_they_are_asked_for(chromium: Browser, tmp_path: Path) -> None:
    body = Html('<div class="pic"><svg viewBox="0 0 9 9"></svg></div><p class="marks">hat</p>')
    (tmp_path / "sheet.html").write_text(page([Check("10", body)]), encoding="utf-8")
    chromium.open(f"file://{tmp_path}/sheet.html")
    seen = "[...document.querySelectorAll('.pic svg, .marks')].map(e => getComputedStyle(e).display)"
    assert chromium.evaluate(seen) == ["none", "none"]
    chromium.click(".check .place")
    chromium.key("m")
    assert "none" not in chromium.evaluate(seen)


@needs_browser
def test_clearing_asks_first(shown: Browser, tmp_path: Path) -> None:
    shown.click(".check[data-id='10'] .v-right")
    for accept, left in ((False, "1 of 6"), (True, "0 of 6")):
        shown.evaluate(f"window.confirm = () => {str(accept).lower()}")
        shown.click("#sheet-clear")
        assert said(shown).startswith(left)
    shown.open(f"file://{tmp_path}/sheet.html")
    assert said(shown).startswith("0 of 6")


@needs_browser
def test_verdicts_of_another_set_stay_away(shown: Browser, tmp_path: Path) -> None:
    shown.click(".check[data-id='10'] .v-right")
    (tmp_path / "other.html").write_text(page(checks(), "another"), encoding="utf-8")
    shown.open(f"file://{tmp_path}/other.html")
    assert said(shown).startswith("0 of 6")


@needs_browser
def test_verdicts_of_the_page_are_the_start_and_kept_ones_win(shown: Browser, tmp_path: Path) -> None:
    shown.click(".check[data-id='10'] .v-wrong")
    (tmp_path / "read.html").write_text(page(checks(verdict="right", comment="seen")), encoding="utf-8")
    shown.open(f"file://{tmp_path}/read.html")
    assert verdicts(shown) == ["wrong", *["right"] * 5]
    assert shown.evaluate("document.querySelector('.check[data-id=\"11\"] .comment').value") == "seen"


@needs_browser
def test_where_nothing_can_be_kept_the_page_says_so_and_still_exports(shown: Browser, tmp_path: Path) -> None:
    shown.evaluate("Storage.prototype.setItem = () => { throw new Error('full') }")
    shown.click(".check[data-id='10'] .v-right")
    assert "keeps nothing" in shown.evaluate("document.getElementById('sheet-note').textContent")
    assert len(rows(shown.download("#sheet-csv", tmp_path))) == 1


@needs_browser
@pytest.mark.parametrize("kept", ["nonsense", "[]", "3", '{"verdict": "<b>", "comment": 7}', "null"])
def test_nonsense_in_the_store_does_no_harm(shown: Browser, tmp_path: Path, kept: str) -> None:
    shown.evaluate(f"localStorage.setItem('fashionkit.check/{CONTENT}/10', {json.dumps(kept)})")
    shown.open(f"file://{tmp_path}/sheet.html")
    assert said(shown).startswith("0 of 6") and shown.errors == []
    shown.click(".check[data-id='10'] .v-right")
    assert said(shown).startswith("1 of 6")


@needs_browser
def test_two_windows_do_not_overwrite_each_other(shown: Browser, tmp_path: Path) -> None:
    """The second window ticks another card: the first one takes it over, and keeps its own."""
    shown.click(".check[data-id='10'] .v-right")
    shown.evaluate(
        f"""(() => {{
        const key = 'fashionkit.check/{CONTENT}/12', newValue = JSON.stringify({{verdict: 'wrong', comment: 'there'}});
        localStorage.setItem(key, newValue);
        window.dispatchEvent(new StorageEvent('storage', {{key, newValue}})); }})()"""
    )
    assert verdicts(shown) == ["right", "", "wrong", "", "", ""] and said(shown).startswith("2 of 6")


@needs_browser
def test_the_policy_stops_what_got_past_escaping(chromium: Browser, tmp_path: Path) -> None:
    body = Html("<p><img src='http://example.org/x.png' onerror='window.ran = 1'><script>window.ran = 1</script></p>")
    (tmp_path / "evil.html").write_text(page([Check("10", body)]), encoding="utf-8")
    chromium.requests.clear()
    chromium.open(f"file://{tmp_path}/evil.html")
    assert chromium.evaluate("window.ran") is None
    assert "of 1 judged: " in said(chromium), "the page's own script runs"
    assert any("Content Security Policy" in error for error in chromium.errors)
    chromium.errors.clear()
