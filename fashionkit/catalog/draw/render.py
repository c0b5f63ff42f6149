"""Turns a settled plan into a picture and the visible mask of every item.

plan + dice of the scene -> body, fabrics, canvas -> layers from back to front -> picture, masks, boxes
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from fashionkit.catalog.draw import body as bodies
from fashionkit.catalog.draw import extras, tops
from fashionkit.catalog.draw.bottoms import draw_skirt, draw_trousers
from fashionkit.catalog.draw.canvas import Canvas
from fashionkit.catalog.draw.fabrics import make_fabric
from fashionkit.catalog.draw.figure import ITEM_NUMBER, Figure
from fashionkit.catalog.draw.scene import draw_backdrop, pick_light
from fashionkit.catalog.draw.shoes import LIFT, draw_bare_foot, draw_shoes
from fashionkit.catalog.draw.types import Box
from fashionkit.catalog.draw.wear import Dice, Plan, Wear

_UPRIGHT = ("trousers", "leggings", "jumpsuit")


def _make_figure(plan: Plan, dice: Dice, size: int, marks: bool) -> Figure:
    """Draws body, pose, place and fabrics."""
    soft = (
        plan["shoes"].category == "heels"
        or "full" in plan
        or "blouse" in _categories(plan)
        or "skirt" in _categories(plan)
    )
    feminine = dice.chance(0.88 if soft else 0.4)
    bag = plan.get("bag")
    carried = bag is not None and bag.category != "backpack"
    wide = any(plan[slot].get("fit") == "loose" for slot in ("top", "outer", "full") if slot in plan)
    bag_side = dice.sign()
    pose = dice.pick(("down", "out", "crook"))
    body = bodies.make_body(
        dice, feminine=feminine, lift=LIFT[plan["shoes"].get("heel_height")],
        bag_side=bag_side if carried else 0, bag_pose=pose, room=8.0 if wide else 0.0,
    )  # fmt: skip
    largest = 0.995 if "hat" in plan else 1.03
    canvas = Canvas(
        size, zoom=dice.uniform(0.95, largest), middle=dice.uniform(0.455, 0.545), ground=dice.uniform(0.955, 0.972),
        tilt=dice.uniform(-0.035, 0.035), flip=dice.chance(0.5), light=dice.sign(), marks=marks,
    )  # fmt: skip
    fabrics = {}
    for slot in ITEM_NUMBER:
        spin, wear = dice.uniform(), plan.get(slot)
        if wear is None:
            continue
        upright = wear.category in _UPRIGHT or (
            wear.category in ("shirt", "shorts", "blazer", "skirt", "coat") and spin < 0.6
        )
        scale = 0.8 if slot in ("hat", "tie", "scarf", "bag") else 1.0
        fabrics[slot] = make_fabric(dice, wear.get("colour"), wear.get("pattern") or "plain",
                                    turn=90.0 if upright else 0.0, scale=scale)  # fmt: skip
    fig = Figure(canvas, body, plan, fabrics, int(dice.uniform() * 3), None, bag_side if carried else 0)
    outer = plan.get("outer")
    if outer is not None:
        fig.over = (tops.outer_half(fig, outer), outer.hem + 3)
    return fig


def _categories(plan: Plan) -> set[str]:
    return {wear.category for wear in plan.values()}


def _draw_lower(fig: Figure, legs: Wear | None) -> None:
    """Draws legs, shoes and what is worn on them, in the order they cover each other."""
    shoes = fig.plan["shoes"]
    for side in (-1, 1):
        bodies.draw_leg(fig.canvas, fig.body, side)
        draw_bare_foot(fig, side)
    if legs is None or not legs.tucked or legs.slot == "top":
        draw_shoes(fig, shoes)
    if legs is not None:
        if legs.category == "skirt":
            draw_skirt(fig, legs)
        elif legs.category != "dress":
            draw_trousers(fig, legs)
        if legs.tucked:
            draw_shoes(fig, shoes)


def _draw_layers(fig: Figure) -> None:
    """Draws the figure from back to front."""
    plan, canvas, body = fig.plan, fig.canvas, fig.body
    bag, outer, top = plan.get("bag"), plan.get("outer"), plan.get("top")
    bottom, full = plan.get("bottom"), plan.get("full")
    top = top if top is not None and top.listed else None
    bottom = bottom if bottom is not None and bottom.listed else None
    if bag is not None and bag.category == "backpack":
        extras.draw_backpack_back(fig)
    bodies.draw_hair_back(canvas, body)
    if outer is not None:
        tops.draw_outer_back(fig, outer)
    upper = top or full
    bodies.draw_torso(canvas, body)
    if upper is not None and upper.get("sleeve_length") == "sleeveless":
        for side in (-1, 1):
            bodies.draw_arm(canvas, body, side)  # straps go over the shoulders; lower arms come again in front
    if top is not None and top.tucked:
        tops.draw_upper(fig, top)
    _draw_lower(fig, bottom or (full if full is not None and full.category == "jumpsuit" else None))
    if upper is not None and (upper is full or not upper.tucked):
        tops.draw_upper(fig, upper)
    _draw_arms_and_over(fig, upper, outer)
    if "belt" in plan and outer is None:
        extras.draw_belt(fig)
    if "scarf" in plan:
        extras.draw_scarf(fig)
    bodies.draw_head(canvas, body)
    if "glasses" in plan:
        extras.draw_glasses(fig)
    bodies.draw_hair_front(canvas, body, hat="hat" in plan)
    if "hat" in plan:
        extras.draw_hat(fig, plan["hat"])
    if bag is not None and bag.category != "backpack":
        extras.draw_bag(fig, bag)
        bodies.draw_hand(canvas, body, fig.bag_side)


def _draw_arms_and_over(fig: Figure, upper: Wear | None, outer: Wear | None) -> None:
    """Draws arms, sleeves, tie, and the outer layer with its own sleeves."""
    plan, canvas, body = fig.plan, fig.canvas, fig.body
    sleeved = upper is not None and upper.get("sleeve_length") != "sleeveless"
    for side in (-1, 1):
        bodies.draw_arm(canvas, body, side, 0.0 if sleeved else 0.3)
    if upper is not None:
        tops.draw_sleeves(fig, upper)
    if "tie" in plan:
        extras.draw_tie(fig)
    if outer is None:
        if "bag" in plan and plan["bag"].category == "backpack":
            extras.draw_backpack_straps(fig)
        return
    if "belt" in plan:
        extras.draw_belt(fig)
    tops.draw_outer(fig, outer)
    if upper is not None and upper.get("neckline") == "hooded":
        with canvas.item(ITEM_NUMBER[upper.slot]):
            tops.draw_hood(fig, fig.fabrics[upper.slot], body.centre(40))
    for side in (-1, 1):
        bodies.draw_arm(canvas, body, side, 0.5)  # below a sleeve that ends at the elbow
    tops.draw_sleeves(fig, outer)
    if "bag" in plan and plan["bag"].category == "backpack":
        extras.draw_backpack_straps(fig)


def render(plan: Plan, dice: Dice, size: int, *, marks: bool = False) -> tuple[Image.Image, Canvas]:
    """Draws one figure.

    Args:
        plan: a settled plan.
        dice: uniforms of the scene.
        size: side of the picture in pixels.
        marks: remember where parts are seen, see `Canvas`.

    Returns:
        The picture, and the canvas that knows who owns which pixel.
    """
    fig = _make_figure(plan, dice, size, marks)
    draw_backdrop(fig.canvas, dice)
    _draw_layers(fig)
    return fig.canvas.finish(pick_light(dice)), fig.canvas


def box_of(mask: np.ndarray) -> Box:
    """Returns x, y, width, height of the True pixels of a mask that has some."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y
