"""What the drawing functions of all garments share: the canvas, the body, and who wears what in which fabric."""

from __future__ import annotations

from dataclasses import dataclass

from fashionkit.catalog.draw.body import Body
from fashionkit.catalog.draw.canvas import Canvas
from fashionkit.catalog.draw.fabrics import Fabric
from fashionkit.catalog.draw.tailor import Half
from fashionkit.catalog.draw.vocab import SLOTS
from fashionkit.catalog.draw.wear import Plan, Wear

ITEM_NUMBER = {slot: k + 1 for k, slot in enumerate(SLOTS)}


@dataclass
class Figure:
    """One figure being drawn.

    Attributes:
        fabrics: slot -> what the item is made of.
        logo: which emblem this figure's clothes bear.
        over: half width of the outer layer by height and the height of its hem, once known: what is worn below it
            may not stick out.
        bag_side: side (-1 or 1) a hand bag is carried on, 0 for none.
    """

    canvas: Canvas
    body: Body
    plan: Plan
    fabrics: dict[str, Fabric]
    logo: int
    over: tuple[Half, float] | None
    bag_side: int

    def shown(self, wear: Wear) -> tuple[str, ...]:
        """Returns the details to draw: none where they are hidden."""
        return () if "details" in wear.hidden else wear.details

    def closure(self, wear: Wear) -> str:
        """Returns the closure to draw: none where it is hidden."""
        return "" if "closure" in wear.hidden else wear.get("closure")
