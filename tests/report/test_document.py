"""The page around a report: its policy lets nothing run or load but what the page brings."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from fashionkit.report.document import Section, document
from fashionkit.report.html import Html

EVIL = '"><script>alert(1)</script>'


def hashed(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_policy_names_style_and_script_by_their_hash() -> None:
    page = document("t", "l", [], style=".x { color: red }", script="let a = 1;")
    (style,), (script,) = (
        re.findall(r"<style>(.*?)</style>", page, re.S),
        re.findall(r"<script>(.*?)</script>", page, re.S),
    )
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert script == "let a = 1;" and style.endswith(".x { color: red }")
    assert policy == (
        f"default-src 'none'; img-src data:; style-src '{hashed(style)}'; script-src '{hashed(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_without_a_script_none_may_run() -> None:
    page = document("t", "l", [])
    assert "<script" not in page and "script-src 'none'" in page


def test_sections_are_listed_and_named() -> None:
    page = document("t", "l", [Section("one", "First", Html("<p>x</p>"), "said"), Section("two", "Second", Html(""))])
    assert '<li><a href="#one">First</a></li><li><a href="#two">Second</a></li>' in page
    assert (
        '<section id="one" aria-labelledby="one-title"><h2 id="one-title">First</h2><p class="say">said</p><p>x</p>'
        in page
    )


def test_texts_are_escaped() -> None:
    page = document(EVIL, EVIL, [Section("a", EVIL, Html(""), EVIL)])
    assert EVIL not in page and page.count("&lt;script&gt;") == 6


@pytest.mark.parametrize("text", ["</style>", "a = '</script>'", "<!-- x"])
def test_a_script_that_would_end_its_element_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="may not hold"):
        document("t", "l", [], script=text)
