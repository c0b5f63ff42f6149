"""The drawn catalogue: outfits on a figure, drawn from a seed, with everything about them known.

    (seed, index) -> plan.py + layers.py + styles.py : what is worn, what is covered, which style
                  -> render.py                       : the picture, exact visible masks and boxes

Used as built-in demo data and for experiments that need to know why an answer is right. Outfit `index` of `seed` is a
pure function of the two (and of the picture size), so any worker can make any of them alone. The style rule is
documented in `styles.py`; `STYLES` says it in words.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from PIL import Image

from fashionkit.catalog.draw.figure import ITEM_NUMBER
from fashionkit.catalog.draw.layers import seen, settle
from fashionkit.catalog.draw.plan import draw_plan
from fashionkit.catalog.draw.render import box_of
from fashionkit.catalog.draw.render import render as _render
from fashionkit.catalog.draw.styles import LABEL_NOISE, STYLES, clean_style
from fashionkit.catalog.draw.types import Attribute, DrawnItem, Outfit
from fashionkit.catalog.draw.vocab import REGIONS
from fashionkit.catalog.draw.wear import Dice, Plan

__all__ = ["LABEL_NOISE", "STYLES", "Attribute", "DrawnItem", "Outfit", "contact_sheet", "draw_outfit"]

_PLAN_UNIFORMS = 128
_SCENE_UNIFORMS = 128


def _draw(seed: int, index: int) -> tuple[Plan, str, str, np.random.Generator]:
    """Returns the settled plan, the label, the clean style, and the generator from which the scene goes on."""
    rng = np.random.Generator(np.random.Philox(key=[seed, index]))
    dice = Dice(rng.random(_PLAN_UNIFORMS).tolist())
    noise, other = dice.uniform(), dice.uniform()
    plan = draw_plan(dice)
    settle(plan)
    clean = clean_style(seen(plan))
    label = clean
    if noise < LABEL_NOISE:
        rest = [style for style in STYLES if style != clean]
        label = rest[int(other * len(rest))]
    return plan, label, clean, rng


def draw_outfit(seed: int, index: int, size: int = 224, *, render: bool = True) -> Outfit:
    """Draws outfit `index` of the catalogue `seed`.

    Args:
        seed: the catalogue, 0 or more.
        index: which outfit of it, 0 or more.
        size: side of the square picture in pixels.
        render: False for the tables alone (no picture, masks or boxes; fractions are estimates), which is far faster;
            items, attributes and styles are the same.

    Returns:
        The outfit, its items from head to foot.

    Raises:
        ValueError: `seed` or `index` is negative, or `size` is below 64.
    """
    if seed < 0 or index < 0 or size < 64:
        raise ValueError(f"seed and index must be 0 or more and size 64 or more; got {seed}, {index}, {size}")
    plan, label, clean, rng = _draw(seed, index)
    shown = seen(plan)
    if not render:
        items = [
            DrawnItem(category, REGIONS[category], None, None, plan[slot].fraction, attributes)
            for slot, (category, attributes) in shown.items()
        ]
        return Outfit(None, items, label, clean)
    image, canvas = _render(plan, Dice(rng.random(_SCENE_UNIFORMS).tolist()), size)
    owners = canvas.owners()
    items = []
    for slot, (category, attributes) in shown.items():
        mask = owners == ITEM_NUMBER[slot]
        # A tidied edge may add a pixel to an item that nothing covers.
        fraction = min(1.0, float(np.count_nonzero(mask)) / max(1, canvas.area_alone(ITEM_NUMBER[slot])))
        items.append(DrawnItem(category, REGIONS[category], box_of(mask), mask, fraction, attributes))
    return Outfit(image, items, label, clean)


def _outfit_parts(seed: int, index: int) -> dict[str, Counter[str]]:
    """Returns, for tests, category -> drawn part (a detail, `closure`, `neckline`) -> pixels of it to be seen."""
    plan, _, _, rng = _draw(seed, index)
    _, canvas = _render(plan, Dice(rng.random(_SCENE_UNIFORMS).tolist()), 224, marks=True)
    pixels = canvas.mark_pixels()
    parts = {}
    for slot, (category, _attributes) in seen(plan).items():
        own = {name: count for (number, name), count in pixels.items() if number == ITEM_NUMBER[slot]}
        parts[category] = Counter(own)
    return parts


def contact_sheet(seed: int, n: int, size: int, columns: int) -> Image.Image:
    """Returns the first `n` outfits of a catalogue as one picture, `columns` in a row, each `size` pixels wide."""
    rows = -(-n // columns)
    sheet = Image.new("RGB", (columns * size, rows * size), (255, 255, 255))
    for k in range(n):
        picture = draw_outfit(seed, k, size).image
        assert picture is not None
        sheet.paste(picture, (k % columns * size, k // columns * size))
    return sheet
