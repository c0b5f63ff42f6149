"""Samples for people: lines for a terminal, a page of pictures for a browser."""

from __future__ import annotations

import io
from typing import Any

from fashionkit.datagen.store import VQAStore
from fashionkit.report import Html, data_uri, escape
from fashionkit.report import page as html_page
from fashionkit.tables import shorten


def sample_lines(rows: list[dict[str, Any]]) -> list[str]:
    """A line of question and answer and a line of program for each sample."""
    lines = []
    for r in rows:
        lines.append(f"[{r['template']}, {r['split']}, {shorten(r['image_id'])}] {r['question']}  →  {r['answer']}")
        lines.append(f"    {r['program']}  difficulty {r['difficulty']:+.2f}")
    return lines


def page(store: VQAStore, rows: list[dict[str, Any]], catalog: str | None = None) -> str:
    """An HTML page with the picture, question, answer, program and difficulty of each sample.

    Args:
        store: The set. rows: From `store.sample`. catalog: Catalogue folder; without it, no pictures.

    Raises:
        InputError: The catalogue is not the one the set was made from.
    """
    pictures = _pictures(store, rows, catalog)
    cards = "".join(_card(r, pictures.get(r["image_id"])) for r in rows)
    name = store.manifest.about.get("catalog", store.path.name)
    lead = f"{len(rows)} of {len(store):,} samples, chosen by seed, evenly over the question families"
    return html_page(f"Questions about {name}", lead, Html(cards))


def _pictures(store: VQAStore, rows: list[dict[str, Any]], catalog: str | None) -> dict[str, bytes | None]:
    if catalog is None:
        return {}
    return store.catalog(catalog).image_bytes(sorted({r["image_id"] for r in rows}))


def _card(row: dict[str, Any], picture: bytes | None) -> Html:
    image = _image(picture) if picture else '<div class="none">no picture</div>'
    tags = "".join(
        f'<span class="tag">{escape(tag)}</span>'
        for tag in (row["template"], row["split"], f"{row['difficulty']:+.2f}")
    )
    return Html(
        f'<div class="card">{image}<div class="text">{tags}<div class="q">{escape(row["question"])}</div>'
        f'<div class="a">{escape(row["answer"])}</div><code>{escape(row["program"])}</code>'
        f"<code>picture {escape(row['image_id'])}, qid {row['qid']}</code></div></div>"
    )


def _image(picture: bytes) -> str:
    from PIL import Image

    try:
        return f'<img alt="" src="{data_uri(_small(picture))}">'
    except (OSError, Image.DecompressionBombError):
        return '<div class="none">damaged picture</div>'


def _small(picture: bytes, side: int = 400) -> bytes:
    """The picture at most `side` pixels high, so that a page of many stays small."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        if max(image.size) <= side:
            return picture
        image.draft("RGB", (side, side))
        small = image.convert("RGB")
    small.thumbnail((side, side))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue()
