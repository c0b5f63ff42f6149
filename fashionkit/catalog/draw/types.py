"""What the drawn catalogue hands out: an outfit, its visible items, and what can be said about each of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image

State = Literal["present", "absent", "not_visible"]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Attribute:
    """One attribute of one item.

    Attributes:
        state: `present` (seen, `values` says what), `absent` (seen not to be there: no closure, no details) or
            `not_visible` (covered; nothing can be said).
        values: the values seen, in a fixed order; empty unless `state` is `present`. One value, except for `details`.
    """

    state: State
    values: tuple[str, ...] = ()


ABSENT = Attribute("absent")
NOT_VISIBLE = Attribute("not_visible")


@lru_cache(maxsize=4096)
def present(*values: str) -> Attribute:
    """Returns the (shared) attribute that is present with `values`."""
    return Attribute("present", values)


@dataclass(frozen=True)
class DrawnItem:
    """One item of which something can be seen.

    Attributes:
        category: such as `shirt`.
        region: where it is worn, such as `top`.
        box: x, y, width, height of the visible pixels; None where no picture was drawn.
        mask: bool, (size, size), the visible pixels; masks of one outfit never overlap. None without a picture.
        visible_fraction: visible pixels over all pixels the item would have alone, 0..1; a coarse estimate from the
            covering rules where no picture was drawn.
        attributes: attribute name -> what can be said about it.
    """

    category: str
    region: str
    box: Box | None
    mask: np.ndarray | None
    visible_fraction: float
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class Outfit:
    """One drawn figure: its picture (None for tables only), its items from head to foot, and its style label.

    `style` is the label with noise; `clean_style` is what the rule says.
    """

    image: Image.Image | None
    items: list[DrawnItem]
    style: str
    clean_style: str
