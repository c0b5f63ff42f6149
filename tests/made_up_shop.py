"""A small made-up shop for the tutorial: a folder of drawn product photos and the CSV that a shop would export.

    python tests/made_up_shop.py shop      ──► shop/shop.csv, shop/photos/*.jpg

Forty rows with the usual mess, so that the tutorial shows what becomes of it: empty cells, a colour that is spelt
wrongly in one row, an article number that stands twice, a picture whose upload broke off, a copy of a photo, and
something that is no fashion item.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

from PIL import Image, ImageDraw

# Outlines on a board of 100 x 100, several polygons a product.
SHAPES: dict[str, list[list[tuple[int, int]]]] = {
    "T-Shirt": [
        [(36, 18), (64, 18), (88, 36), (78, 48), (70, 42), (70, 86), (30, 86), (30, 42), (22, 48), (12, 36)],
    ],
    "Jeans": [[(32, 8), (68, 8), (74, 94), (56, 94), (50, 36), (44, 94), (26, 94)]],
    "Dress": [[(40, 8), (60, 8), (60, 38), (80, 92), (20, 92), (40, 38)]],
    "Jacket": [
        [(36, 12), (49, 20), (49, 88), (28, 88), (28, 42), (22, 78), (10, 76), (18, 26)],
        [(64, 12), (51, 20), (51, 88), (72, 88), (72, 42), (78, 78), (90, 76), (82, 26)],
    ],
    "Sneakers": [
        [(8, 34), (22, 30), (46, 46), (48, 58), (8, 58)],
        [(50, 58), (64, 54), (90, 70), (92, 82), (50, 82)],
    ],
    "Handbag": [
        [(16, 44), (84, 44), (90, 88), (10, 88)],
        [(30, 44), (40, 16), (60, 16), (70, 44), (64, 44), (56, 24), (44, 24), (36, 44)],
    ],
}
COLOURS = {
    "Black": (28, 28, 32),
    "White": (240, 240, 236),
    "Red": (190, 30, 40),
    "Navy Blue": (24, 34, 84),
    "Green": (40, 120, 66),
    "Beige": (214, 192, 156),
}
PATTERNS = ("Plain", "Striped", "Polka Dots")
FIELDS = ("sku", "photo", "kind", "colour", "pattern", "gender", "price", "title")


def photo(kind: str, colour: str, pattern: str, number: int, side: int = 200) -> bytes:
    """A JPEG of one product on a plain ground; `number` moves it a little."""
    big = side * 2
    ground = (232 - number % 7 * 4, 232 - number % 5 * 4, 236)
    image, mask = Image.new("RGB", (big, big), ground), Image.new("L", (big, big))
    scale, shift = big * (80 + number % 4 * 4) / 10_000, big * (4 + number % 6) / 100
    for outline in SHAPES[kind]:
        ImageDraw.Draw(mask).polygon([(x * scale + shift, y * scale + shift) for x, y in outline], fill=255)
    image.paste(_cloth(colour, pattern, big), (0, 0), mask)
    out = io.BytesIO()
    image.resize((side, side), Image.Resampling.LANCZOS).save(out, "JPEG", quality=90)
    return out.getvalue()


def _cloth(colour: str, pattern: str, side: int) -> Image.Image:
    ink = (250, 250, 250) if sum(COLOURS[colour]) < 500 else (120, 60, 60)
    cloth = Image.new("RGB", (side, side), COLOURS[colour])
    draw, step = ImageDraw.Draw(cloth), side // 12
    for y in range(0, side, step):
        if pattern == "Striped":
            draw.rectangle((0, y, side, y + step // 3), fill=ink)
        elif pattern == "Polka Dots":
            for x in range(y // step % 2 * step // 2, side, step):
                draw.ellipse((x, y, x + step // 2, y + step // 2), fill=ink)
    return cloth


def rows() -> list[dict[str, str]]:
    """The table as the shop exports it, mess included."""
    table = []
    for number in range(38):
        kind = list(SHAPES)[number % 6]
        colour = list(COLOURS)[(number * 5 + number // 6) % 6]
        pattern = PATTERNS[(number + number // 6) % 3]
        table.append(
            {
                "sku": f"A{100 + number}",
                "photo": f"photos/{100 + number}.jpg",
                "kind": kind,
                "colour": colour,
                "pattern": pattern,
                "gender": ("Women", "Men", "Unisex")[number % 3] if kind != "Dress" else "Women",
                "price": f"{19 + number % 9 * 10}.90",
                "title": f"{colour} {kind} No. {100 + number}, soft and light",
            }
        )
    return table


def make_shop(folder: Path) -> Path:
    """Writes the shop into `folder` and returns its table."""
    table = rows()
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(table):
        picture = photo(row["kind"], row["colour"], row["pattern"], number)
        (folder / row["photo"]).write_bytes(picture)
    for number in (3, 14, 20):
        table[number]["pattern"] = ""  # nobody filled it in
    table[9]["colour"] = ""
    table[12]["colour"] = "Balck"  # a slip of the pen
    table[25]["sku"] = table[24]["sku"]  # an article number that stands twice
    broken = folder / table[30]["photo"]
    broken.write_bytes(broken.read_bytes()[:1500])  # an upload that broke off
    card = {"sku": "A900", "photo": "photos/900.jpg", "kind": "Gift Card", "colour": "", "title": "Gift card"}
    copy = {"sku": "A901", "photo": "photos/901.jpg"}  # a photo that was uploaded twice
    table += [{**table[0], **card}, {**table[6], **copy}]
    (folder / card["photo"]).write_bytes(photo("Handbag", "White", "Plain", 900))
    (folder / copy["photo"]).write_bytes((folder / table[6]["photo"]).read_bytes())
    source = folder / "shop.csv"
    with source.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, FIELDS)
        writer.writeheader()
        writer.writerows(table)
    return source


if __name__ == "__main__":
    print(f"made {make_shop(Path(sys.argv[1] if len(sys.argv) > 1 else 'shop'))}")
