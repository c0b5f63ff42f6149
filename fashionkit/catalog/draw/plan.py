"""Draws what an outfit consists of (no picture): which items, with which attributes.

    uniforms of (seed, index) -> target style -> two of its rules planted + half a rule of another style
                              -> everything else drawn from the wardrobe -> `visibility.settle` hides what is covered

The target only tilts the draw; the label is what `styles.clean_style` says about the visible result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fashionkit.catalog.draw.layers import fit_together
from fashionkit.catalog.draw.styles import RULES, STYLES, Need, Rule
from fashionkit.catalog.draw.vocab import COLOURS, DETAIL_ORDER, DETAILS, NEUTRAL, WARDROBE
from fashionkit.catalog.draw.wear import Dice, Plan, Wear

Wishes = dict[str, dict[str, tuple[str, ...]]]

_RULES_OF: Final[dict[str, tuple[Rule, ...]]] = {s: tuple(r for r in RULES if r.style == s) for s in STYLES}
# Some styles are met by chance more often than others; this evens them out.
_TARGETS: Final = (
    ("casual",) * 8 + ("formal",) * 16 + ("sporty",) * 17 + ("streetwear",) * 19 + ("bohemian",) * 17 + ("preppy",) * 18
    + ("minimalist",) * 20 + ("romantic",) * 19
)  # fmt: skip
_TOPS: Final = ("t_shirt", "t_shirt", "t_shirt", "shirt", "blouse", "sweater", "hoodie", "tank_top")
_BOTTOMS: Final = ("trousers", "trousers", "jeans", "jeans", "jeans", "shorts", "skirt", "leggings")
_OUTERS: Final = ("jacket", "coat", "blazer", "cardigan")
_FULLS: Final = ("dress", "dress", "jumpsuit")
_SHOES: Final = ("sneakers", "boots", "heels", "sandals", "loafers")
_HATS: Final = ("cap", "beanie", "sun_hat")
_BAGS: Final = ("handbag", "tote_bag", "backpack")


def _wish(wishes: Wishes, needs: Sequence[Need]) -> bool:
    """Adds what a rule needs to the wishes; leaves them alone and returns False where they contradict."""
    slots = {need.slot for need in needs} | set(wishes)
    if "full" in slots and slots & {"top", "bottom", "tie"}:
        return False
    merged: Wishes = {}
    for need in needs:
        old = wishes.get(need.slot, {})
        new = dict(old)
        for name, values in (("category", need.categories), *need.attributes.items()):
            kept = tuple(v for v in old[name] if v in values) if name in old else values
            if not kept:
                return False
            new[name] = kept
        merged[need.slot] = new
    wishes.update(merged)
    return True


def _plant(dice: Dice) -> tuple[Wishes, list[tuple[str, str, bool]]]:
    """Draws a target style and returns what its rules ask for, with halves of other rules mixed in."""
    wishes: Wishes = {}
    links: list[tuple[str, str, bool]] = []
    rules = _RULES_OF[dice.pick(_TARGETS)]
    start = int(dice.uniform() * len(rules))
    stride = 1 + int(dice.uniform() * (len(rules) - 1))
    for step in range(2):
        rule = rules[(start + step * stride) % len(rules)]
        if _wish(wishes, rule.needs) and rule.colours is not None:
            links.append(rule.colours)
    for _ in range(3):
        decoy = RULES[int(dice.uniform() * len(RULES))]
        half = decoy.needs[int(dice.uniform() * 2)]
        # Extras come with the planted rules often enough; as decoys they would crowd the figure.
        if half.slot not in wishes and half.slot in ("top", "bottom", "full", "shoes"):
            _wish(wishes, (half,))
    return wishes, links


def _category(dice: Dice, wishes: Wishes, slot: str, usual: tuple[str, ...]) -> str:
    wished = wishes.get(slot, {}).get("category")
    return dice.pick(wished if wished else usual)


def _details(dice: Dice, category: str, wished: tuple[str, ...] | None) -> tuple[str, ...]:
    allowed = DETAILS[category]
    if wished is not None and "" in wished:
        return ()
    chosen = {d for d in wished if d in allowed} if wished else set()
    if len(chosen) > 1:
        chosen = {dice.pick(sorted(chosen))}
    if dice.chance(0.55):
        chosen.add(dice.pick(allowed))
        if dice.chance(0.4):
            chosen.add(dice.pick(allowed))
    return tuple(d for d in DETAIL_ORDER if d in chosen)


def _dress_up(dice: Dice, wishes: Wishes, slot: str, category: str, palette: Sequence[str]) -> Wear:
    """Draws the attributes of one item: wished values where the category has them, else the wardrobe's."""
    wear = Wear(slot, category)
    wished = wishes.get(slot, {})
    for name, values in WARDROBE[category].items():
        options = values
        if name in wished:
            kept = tuple(v for v in values if v in wished[name])
            options = kept or values
        if name == "colour":
            harmonic = tuple(c for c in palette if c in options)
            options = harmonic if harmonic and dice.chance(0.7) else options
        wear.values[name] = dice.pick(options)
    if category in DETAILS:
        wear.values["details"] = _details(dice, category, wished.get("details"))
    return wear


def _clothes(dice: Dice, wishes: Wishes, add: list[tuple[str, str]]) -> None:
    """Chooses the garments: a top and a bottom or one full-body piece, perhaps something over it."""
    whole = "full" in wishes or (not wishes.keys() & {"top", "bottom", "tie"} and dice.chance(0.5))
    if whole:
        add.append(("full", _category(dice, wishes, "full", _FULLS)))
    else:
        usual = ("shirt",) if "tie" in wishes else _TOPS
        add.append(("top", _category(dice, wishes, "top", usual)))
        add.append(("bottom", _category(dice, wishes, "bottom", _BOTTOMS)))
    if "outer" in wishes or dice.chance(0.14):
        add.append(("outer", _category(dice, wishes, "outer", _OUTERS)))
    add.append(("shoes", _category(dice, wishes, "shoes", _SHOES)))


def _extras(dice: Dice, wishes: Wishes, add: list[tuple[str, str]]) -> None:
    """Chooses hat, bag and the small things."""
    worn = dict(add)
    for slot, usual, probability in (
        ("hat", _HATS, 0.18),
        ("bag", _BAGS, 0.28),
        ("glasses", ("sunglasses",), 0.1),
        ("scarf", ("scarf",), 0.0 if "tie" in wishes else 0.1),
        ("belt", ("belt",), 0.2),
    ):
        if slot in wishes or dice.chance(probability):
            add.append((slot, _category(dice, wishes, slot, usual)))
    wanted = "tie" in wishes or dice.chance(0.2)
    if worn.get("top") == "shirt" and wanted and ("scarf", "scarf") not in add:
        add.append(("tie", "tie"))


def _match(first: Wear, second: Wear) -> None:
    colour = first.get("colour")
    if colour in WARDROBE[second.category]["colour"]:
        second.values["colour"] = colour


def draw_plan(dice: Dice) -> Plan:
    """Draws the items of one outfit and makes them go together; nothing is hidden yet."""
    wishes, links = _plant(dice)
    palette = (dice.pick(COLOURS), dice.pick(NEUTRAL), dice.pick(COLOURS))
    chosen: list[tuple[str, str]] = []
    _clothes(dice, wishes, chosen)
    _extras(dice, wishes, chosen)
    plan = {slot: _dress_up(dice, wishes, slot, category, palette) for slot, category in chosen}
    for first, second, same in links:
        if same and first in plan and second in plan:
            _match(plan[first], plan[second])
    fit_together(dice, plan)
    return plan
