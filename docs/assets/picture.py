"""Makes the picture of the README: drawn outfits with questions and answers of a real question set beside them.

    make demo
    .venv/bin/python docs/assets/picture.py out/demo docs/assets/questions.png

Pictures and questions are chosen by seed, one question a family, and shown as they are.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fashionkit.catalog.catalog import Catalog
from fashionkit.datagen.store import VQAStore

SEED, COLUMNS, ROWS, QUESTIONS = 5, 2, 3, 5
SIDE, TEXT, GAP, LINE = 224, 350, 16, 21
INK, SOFT, MARK, BACK, CARD = "#1d1d1f", "#6b6b70", "#00875a", "#f1f1f4", "#ffffff"


def chosen(store: VQAStore, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Picture id → samples of different families, by seed; short questions, since they must fit."""
    rng = np.random.default_rng(seed)
    by_picture: dict[str, list[dict[str, Any]]] = {}
    for table in store.iter("train", rendered=True):
        short = table.select(["image_id", "family", "question", "answer_text"]).to_pylist()
        for row in short:
            if len(row["question"]) < 72:
                by_picture.setdefault(row["image_id"], []).append(row)
    rich = sorted(key for key, rows in by_picture.items() if len({r["family"] for r in rows}) >= 10)
    found = {}
    for key in rng.choice(rich, COLUMNS * ROWS, replace=False).tolist():
        rows = by_picture[key]
        families = sorted({r["family"] for r in rows})
        picked = rng.choice(families, QUESTIONS, replace=False)
        found[key] = [rows[rng.choice([i for i, r in enumerate(rows) if r["family"] == f])] for f in sorted(picked)]
    return found


def wrapped(text: str, font: Any, width: int) -> list[str]:
    """The text in lines of at most `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def card(picture: bytes, rows: list[dict[str, Any]]) -> Image.Image:
    """One outfit with its questions."""
    image = Image.new("RGB", (SIDE + TEXT + 3 * GAP, SIDE + 2 * GAP), CARD)
    image.paste(Image.open(io.BytesIO(picture)).resize((SIDE, SIDE)), (GAP, GAP))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=16)
    said = [wrapped(row["question"], font, TEXT) for row in rows]
    y = GAP
    for row, lines in zip(rows, said, strict=True):
        answer = row["answer_text"]
        if font.getlength(f"{lines[-1]}   {answer}") > TEXT:
            lines.append("")
        if y + LINE * len(lines) > SIDE + GAP + 4:
            break
        for line in lines:
            draw.text((SIDE + 2 * GAP, y), line, INK, font)
            y += LINE
        indent = font.getlength(f"{lines[-1]}   ") if lines[-1] else 0
        draw.text((SIDE + 2 * GAP + indent, y - LINE), answer, MARK, font, stroke_width=0.4, stroke_fill=MARK)
        y += 5
    return image


def main(demo: Path, out: Path) -> None:
    """Reads `<demo>/catalog` and `<demo>/questions` and writes the picture."""
    samples = chosen(VQAStore(demo / "questions"), SEED)
    pictures = Catalog(demo / "catalog").image_bytes(sorted(samples))
    cards = []
    for key, rows in samples.items():
        data = pictures[key]
        assert data is not None, "the demo's catalogue keeps its pictures"
        cards.append(card(data, rows))
    wide, high = cards[0].size
    sheet = Image.new("RGB", (COLUMNS * (wide + GAP) + GAP, ROWS * (high + GAP) + GAP), BACK)
    for number, one in enumerate(cards):
        sheet.paste(one, (GAP + number % COLUMNS * (wide + GAP), GAP + number // COLUMNS * (high + GAP)))
    sheet.quantize(200, dither=Image.Dither.NONE).save(out, optimize=True)
    print(f"{out}: {sheet.width} x {sheet.height} pixels, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
