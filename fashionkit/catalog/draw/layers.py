"""Who covers whom: makes the items of an outfit wearable together, then says what can no longer be seen.

Both steps look at the plan only, never at pixels, so that tables without pictures agree with tables with them. The
drawing keeps to the same rules (a hidden detail is not drawn at all), and a test holds the drawn masks against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fashionkit.catalog.draw.types import ABSENT, NOT_VISIBLE, Attribute, present
from fashionkit.catalog.draw.vocab import HEM, SLOTS, WARDROBE
from fashionkit.catalog.draw.wear import Dice, Plan, Wear

BOOT_TOP: Final = {"ankle": 171.0, "knee": 152.0}
WAIST_LINE: Final = HEM["waist"]
# A garment under a closed coat is drawn at least this much longer (or else hidden by it), in figure units.
_PEEK: Final = 24.0
_TUCKABLE: Final = ("t_shirt", "shirt", "blouse", "tank_top", "sweater")


def _without(wear: Wear, *details: str) -> None:
    wear.values["details"] = tuple(d for d in wear.details if d not in details)


def _tailor(wear: Wear) -> None:
    """Mends combinations of attributes that one garment cannot have."""
    if wear.get("closure") == "wrap" and wear.slot in ("top", "full"):
        wear.values["neckline"] = "v_neck"
    if wear.get("neckline") == "off_shoulder" and wear.get("sleeve_length") == "sleeveless":
        wear.values["sleeve_length"] = "short"
    if wear.slot == "outer" and wear.get("closure") == "wrap":
        _without(wear, "metal_buckle")
    if wear.slot == "outer" and not wear.closed:
        _without(wear, "metal_buckle", "bow", "logo")  # there is no front left to bear them
    if "fringe" in wear.details:
        _without(wear, "lace_trim")  # both hang from the hem
    if wear.get("garment_length") == "cropped" and wear.get("closure"):
        _without(wear, "bow")  # it would hide most of the front
    if wear.slot == "outer" and wear.get("garment_length") == "midi":
        _without(wear, "fringe")  # it would hide the rest of the legs
    if wear.category == "jeans" and wear.get("fit") == "loose" and wear.get("garment_length") == "midi":
        wear.values["garment_length"] = "ankle"


def _under(upper: Wear, outer: Wear) -> None:
    """Makes what is worn under an outer layer fit under it."""
    if outer.closed and upper.get("neckline") in ("v_neck", "square", "off_shoulder"):
        upper.values["neckline"] = "round"
    if not outer.closed and upper.get("neckline") in ("square", "off_shoulder"):
        upper.values["neckline"] = "v_neck"
    if upper.get("closure") == "wrap" and outer.closed:
        upper.values["closure"] = ""
    if outer.get("sleeve_length") == "elbow" and upper.get("sleeve_length") == "long":
        # Sleeves that came out below would have to be told of.
        shorter = WARDROBE[upper.category]["sleeve_length"]
        upper.values["sleeve_length"] = "short" if "short" in shorter else "elbow"
    upper.values["details"] = ()
    if outer.closed and upper.slot == "top" and upper.hem > outer.hem:
        upper.values["garment_length"] = "waist"
    if not outer.closed and upper.get("garment_length") == "cropped":
        upper.values["garment_length"] = "waist"
    if upper.slot == "full":
        if outer.closed and outer.get("garment_length") == "midi":
            outer.values["garment_length"] = "knee"
        _lengthen(upper, outer)


def _lengthen(lower: Wear, outer: Wear) -> None:
    """Makes a long garment end clearly below an outer layer: the shortest length it is made in that does."""
    if lower.hem - outer.hem < _PEEK:
        lengths = WARDROBE[lower.category]["garment_length"]
        longer = [name for name in lengths if HEM[name] - outer.hem >= _PEEK]
        lower.values["garment_length"] = min(longer, key=HEM.__getitem__)


def _small_things(plan: Plan) -> None:
    """Drops belts, ties and bows that the rest of the outfit leaves no room for."""
    outer, top = plan.get("outer"), plan.get("top")
    shut = outer is not None and outer.closed
    if "tie" in plan and outer is not None and shut and outer.category != "blazer":
        del plan["tie"]
    if "tie" in plan and top is not None and plan["tie"].get("colour") == top.get("colour"):
        # A tie in the shirt's own colour could not be made out.
        others = WARDROBE["tie"]["colour"]
        plan["tie"].values["colour"] = others[(others.index(top.get("colour")) + 5) % len(others)]
    if "belt" in plan:
        if top is not None and top.get("garment_length") != "cropped":
            top.tucked = top.category in _TUCKABLE
        loose_end = top is not None and not top.tucked and top.get("garment_length") != "cropped"
        if shut or loose_end:
            del plan["belt"]
    if top is not None and top.tucked and "lace_trim" in top.details:
        _without(top, "bow")  # tucked in, the lace is at the neck
    if "scarf" in plan:
        for slot in ("top", "outer", "full"):
            if slot in plan:
                _without(plan[slot], "bow")
                if plan[slot].category in ("t_shirt", "shirt", "jumpsuit"):
                    _without(plan[slot], "pockets")  # on the chest, under the scarf's end


def fit_together(dice: Dice, plan: Plan) -> None:
    """Mends a drawn plan in place, so that all of it can be worn and drawn."""
    outer, top, bottom, full = (plan.get(slot) for slot in ("outer", "top", "bottom", "full"))
    for wear in plan.values():
        _tailor(wear)
    for upper in (top, full):
        if outer is not None and upper is not None:
            _under(upper, outer)
    if outer is not None and bottom is not None and 0 < bottom.hem - outer.hem < _PEEK:
        outer.values["garment_length"] = "knee" if bottom.hem - HEM["knee"] >= _PEEK else outer.get("garment_length")
        if bottom.hem - outer.hem < _PEEK:
            _lengthen(bottom, outer)
    tuck = dice.chance(0.35)
    if top is not None and top.category in _TUCKABLE and top.get("garment_length") != "cropped":
        top.tucked = tuck
    _small_things(plan)
    shoes, legs = plan["shoes"], bottom or full
    # Tucked into boots and under a long coat, too little of the legs would be left to see.
    free = outer is None or outer.hem <= HEM["hip"]
    if shoes.category == "boots" and free and legs is not None and legs.category not in ("skirt", "dress"):
        legs.tucked = legs.get("fit") == "slim" and legs.get("garment_length") != "floor"
        if legs.tucked:
            _without(legs, "fringe", "lace_trim")  # the hem is in the boots


def settle(plan: Plan) -> None:
    """Marks, in place, what of each item is covered by the others."""
    outer, top, bottom, full = (plan.get(slot) for slot in ("outer", "top", "bottom", "full"))
    if top is not None and top.tucked:
        top.hidden.add("garment_length")
    for upper in (top, full):
        if outer is not None and upper is not None:
            _settle_under(upper, outer, "scarf" in plan)
    if bottom is not None:
        _settle_bottom(bottom, top, outer)
    if top is not None and "tie" in plan:
        top.hidden.add("closure")
        if outer is not None and outer.closed:
            plan["tie"].hidden.add("pattern")
    if "scarf" in plan:
        for wear in (top, full, outer):
            if wear is not None:
                wear.hidden.add("neckline")
    _settle_feet(plan["shoes"], bottom if bottom is not None and bottom.listed else full)
    bag = plan.get("bag")
    if bag is not None and bag.category == "backpack":
        bag.hidden.update(("pattern", "details"))
        bag.fraction = 0.4


def _settle_under(upper: Wear, outer: Wear, scarf: bool) -> None:
    upper.hidden.update(("sleeve_length", "details", "fit"))
    upper.fraction = 0.4
    if not outer.closed:
        return
    upper.hidden.update(("neckline", "closure"))
    if upper.slot == "top":
        # Only a little of it shows at the neck, and nothing at all under a scarf.
        upper.hidden.update(("pattern", "garment_length"))
        upper.fraction, upper.listed = 0.08, not scarf


def _settle_bottom(bottom: Wear, top: Wear | None, outer: Wear | None) -> None:
    if top is not None and not top.tucked and top.hem > WAIST_LINE:
        bottom.hidden.update(("closure", "details"))
        bottom.fraction = 0.85
    if outer is not None and outer.closed and "fringe" in outer.details and bottom.category != "skirt":
        bottom.hidden.add("closure")
    if outer is None or outer.hem <= WAIST_LINE:
        return
    bottom.hidden.add("details")
    bottom.fraction = max(0.2, 0.85 * (bottom.hem - outer.hem) / (bottom.hem - WAIST_LINE))
    if bottom.category in ("skirt", "shorts"):
        bottom.hidden.add("fit")
    if outer.closed:
        bottom.hidden.add("closure")
        bottom.listed = bottom.hem > outer.hem


def _settle_feet(shoes: Wear, legs: Wear | None) -> None:
    """Long hems cover heels and boot shafts; boots cover the hem of what is tucked into them."""
    if legs is None:
        return
    if legs.get("garment_length") == "floor":
        shoes.hidden.update(("heel_height", "garment_length"))
        shoes.fraction = 0.4
    if shoes.category != "boots":
        return
    top = BOOT_TOP[shoes.get("garment_length")]
    if legs.tucked:
        if legs.hem > top - 6:
            legs.hidden.add("garment_length")
    elif legs.hem > top - 6:
        shoes.hidden.add("garment_length")
        shoes.fraction = 0.6


def attributes_of(wear: Wear) -> dict[str, Attribute]:
    """Returns what can be said about one settled item."""
    said: dict[str, Attribute] = {}
    for name, value in wear.values.items():
        if name in wear.hidden:
            said[name] = NOT_VISIBLE
        elif not value:
            said[name] = ABSENT
        elif isinstance(value, tuple):
            said[name] = present(*value)
        else:
            said[name] = present(value)
    return said


def seen(plan: Plan) -> Mapping[str, tuple[str, dict[str, Attribute]]]:
    """Returns slot -> (category, attributes) of all items that are listed, from head to foot."""
    return {s: (plan[s].category, attributes_of(plan[s])) for s in SLOTS if s in plan and plan[s].listed}
