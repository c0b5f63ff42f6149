"""The little HTML that reports need: escaped text, embedded pictures, one style for all pages."""

from __future__ import annotations

import base64
import html

STYLE = """
:root { color-scheme: light; --ink: #1d1d1f; --soft: #6b6b70; --line: #e3e3e8; --back: #f5f5f7; --mark: #0a6; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--back); }
header { padding: 28px 32px 8px; }
header p { margin: 0; color: var(--soft); }
h1 { margin: 0 0 6px; font-size: 24px; }
main { display: grid; gap: 14px; padding: 20px 32px 40px; }
main { grid-template-columns: repeat(auto-fill, minmax(400px, 1fr)); }
.card { display: flex; gap: 14px; background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 12px; }
.card img, .card .none { width: 150px; height: 200px; border-radius: 6px; flex: none; }
.card img { object-fit: contain; background: #fff; }
.card .none { display: grid; place-items: center; color: var(--soft); background: var(--back); }
.text { min-width: 0; }
.q { font-weight: 600; margin: 2px 0 4px; }
.a { color: var(--mark); font-weight: 600; }
.tag { display: inline-block; font-size: 12px; color: var(--soft); border: 1px solid var(--line); }
.tag { border-radius: 99px; padding: 0 8px; margin-right: 4px; }
code { display: block; margin-top: 8px; font: 12px/1.4 ui-monospace, monospace; }
code { color: var(--soft); overflow-wrap: anywhere; }
"""


class Html(str):
    """Text that is markup already and is not escaped again."""


def escape(text: object) -> Html:
    """Text as markup; `Html` passes as it is."""
    return text if isinstance(text, Html) else Html(html.escape(str(text), quote=True))


def data_uri(picture: bytes) -> Html:
    """A JPEG, PNG, WebP or GIF as the source of an `img`, inside the page."""
    kinds = ((b"\x89PNG", "png"), (b"RIFF", "webp"), (b"GIF8", "gif"))
    kind = next((name for start, name in kinds if picture.startswith(start)), "jpeg")
    return Html(f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}")


def page(title: str, lead: str, body: Html) -> str:
    """A whole page. `body` goes into `main` as it is; everything else is escaped.

    The policy in its head lets nothing be loaded from outside, whatever the texts hold.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><header><h1>{escape(title)}</h1><p>{escape(lead)}</p></header><main>{body}</main></body></html>\n"
    )
