"""A whole report as one HTML file: sections, a list of contents, one style, and at most one script.

    sections ──► document ──► one text: style and script inside, nothing loaded from anywhere

The page states a content security policy (W3C, Content Security Policy Level 3): only this style and this script, both
by their hash, and pictures inside the page. A text that got past escaping could still run nothing and fetch nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fashionkit.report.html import Html, escape
from fashionkit.report.style import STYLE


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        anchor: Its id: letters, digits, hyphens. title: Its heading, also in the list of contents.
        body: Markup. say: A sentence or two under the heading.
    """

    anchor: str
    title: str
    body: Html
    say: str | Html = ""


def document(
    title: str,
    lead: str | Html,
    sections: Sequence[Section],
    top: Html | None = None,
    style: str = "",
    script: str = "",
) -> str:
    """The page.

    Args:
        title: Heading and name of the window. lead: A sentence under it.
        sections: In order. top: Markup between heading and sections.
        style, script: Added to the page's own; texts of the program, never of the data.

    Raises:
        ValueError: `style` or `script` would end its own element.
    """
    sheet = STYLE + style
    if "</" in sheet or "</" in script or "<!--" in script:
        raise ValueError("a style or script may not hold `</` or `<!--`")
    links = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in sections)
    body = "".join(map(_section, sections))
    code = f"<script>{script}</script>" if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(sheet, script)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{sheet}</style></head><body>"
        f'<a class="jump" href="#main">To the content</a><header><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(lead)}</p>{top or ""}<nav aria-label="Contents"><ul>{links}</ul></nav></header>'
        f'<main id="main" tabindex="-1">{body}</main>{code}</body></html>\n'
    )


def _section(s: Section) -> str:
    say = f'<p class="say">{escape(s.say)}</p>' if s.say else ""
    head = f'<h2 id="{s.anchor}-title">{escape(s.title)}</h2>'
    return f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-title">{head}{say}{s.body}</section>'


def _policy(style: str, script: str) -> str:
    scripts = _hash(script) if script else "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
