"""Styles of the drawn catalogue: a rule over combinations, so that no single cue gives the label away.

Each `Rule` names what has to be *seen* together: two or three slots of the outfit, each with its categories and
attribute values, and sometimes whether two slots share a colour. A rule that holds scores one point for its style; the
style with the most points is the clean label (ties go to the style that stands first in `STYLES`, and no point at all
is `casual`). The label is the clean one, except that a share of `LABEL_NOISE` is replaced by another style drawn
evenly. `plan.py` draws outfits around the same rules, so that all styles are about as frequent, and mixes in halves of
the rules of other styles, so that a half alone says little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fashionkit.catalog.draw.types import Attribute
from fashionkit.catalog.draw.vocab import BRIGHT, EARTH, NEUTRAL, PASTEL

LABEL_NOISE: Final = 0.05

STYLES: Final[dict[str, str]] = {
    "casual": (
        "A regular T-shirt or sweater with jeans; an open cardigan or jacket with jeans or shorts; a loose plain, "
        "striped or dotted dress with flat sneakers or sandals; sneakers with a tote bag or backpack; a checked or "
        "striped tank top or T-shirt with shorts or jeans; a regular or loose jumpsuit with sandals or sneakers; or "
        "nothing that speaks for any style."
    ),
    "formal": (
        "A blazer and trousers of one colour; a plain shirt with a plain or dotted tie; a slim plain dress or "
        "jumpsuit with heels or loafers; a buttoned neutral coat with heels or loafers; a long-sleeved blouse or "
        "shirt with a slim knee-length or midi skirt; plain slim or regular trousers with heels or loafers."
    ),
    "sporty": (
        "Leggings or shorts with sneakers; a zipped bright jacket with leggings, shorts or trousers; a zipped "
        "hoodie with leggings or shorts; a cap with sneakers; a zipped jumpsuit with sneakers; a slim tank top or "
        "T-shirt with leggings or shorts."
    ),
    "streetwear": (
        "A loose hoodie, T-shirt or sweater with loose trousers or jeans; camouflage trousers or shorts with boots "
        "or sneakers; a beanie or cap with a loose jacket or coat; a hoodie, T-shirt or sweater with a logo and "
        "sunglasses; a jacket or coat open over a hoodie; a jumpsuit with pockets or a logo and boots."
    ),
    "bohemian": (
        "A loose floral or zigzag dress with sandals or boots; a sun hat with sandals or with a long dress; fringed "
        "outerwear with a skirt or jeans; a loose blouse with a long skirt; a fringed bag with a dress or jumpsuit "
        "in an earth colour."
    ),
    "preppy": (
        "A checked or striped sweater or shirt with loafers; a blazer with shorts, jeans or a skirt of another "
        "colour; a buttoned cardigan over a shirt; a checked skirt with a sweater or shirt; a striped tie with a "
        "cardigan or blazer; a checked or striped dress with loafers or sneakers."
    ),
    "minimalist": (
        "A plain top without details and neutral plain trousers, skirt or leggings of the same colour; a plain "
        "coat, open or wrapped, with plain trousers or skirt; a turtleneck sweater with trousers or a skirt; a "
        "plain bag in the colour of loafers, boots or sandals; a plain neutral dress or jumpsuit without details "
        "and with boots, loafers or sandals; a plain dress or jumpsuit with a round neck or turtleneck and a plain "
        "bag."
    ),
    "romantic": (
        "A dress with lace or a bow and heels, sandals or loafers; a blouse with lace or a bow and a skirt or "
        "shorts; a slim or regular floral dress with heels; a pastel sweater, blouse or tank top with a loose "
        "skirt; a floral or dotted blouse, shirt or sweater with heels or sandals; heels with a pastel handbag."
    ),
}

Values = tuple[str, ...]


@dataclass(frozen=True)
class Need:
    """One half of a rule: the item in `slot` is one of `categories` and shows, for each attribute, one of the values.

    The value `""` asks for an absent attribute.
    """

    slot: str
    categories: Values
    attributes: Mapping[str, Values] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """`needs` together make a point for `style`; `colours` compares two slots' colours when given."""

    style: str
    needs: tuple[Need, ...]
    colours: tuple[str, str, bool] | None = None  # slot, slot, whether they are the same


def _need(slot: str, categories: str, **attributes: Values) -> Need:
    return Need(slot, tuple(categories.split()), attributes)


_PLAIN: Final = ("plain",)
_LINES: Final = ("checked", "striped")
_FITTED: Final = ("slim", "regular")
_LONG: Final = ("midi", "ankle", "floor")

RULES: Final[tuple[Rule, ...]] = (
    Rule("casual", (_need("top", "t_shirt sweater", fit=("regular",)), _need("bottom", "jeans"))),
    Rule("casual", (_need("outer", "cardigan jacket", closure=("open_front",)), _need("bottom", "jeans shorts"))),
    Rule("casual", (
        _need("full", "dress", pattern=("plain", "striped", "dotted"), fit=("loose",)),
        _need("shoes", "sneakers sandals", heel_height=("flat",)),
    )),
    Rule("casual", (_need("shoes", "sneakers"), _need("bag", "tote_bag backpack"))),
    Rule("casual", (_need("top", "tank_top t_shirt", pattern=_LINES), _need("bottom", "shorts jeans"))),
    Rule("casual", (_need("full", "jumpsuit", fit=("loose", "regular")), _need("shoes", "sandals sneakers"))),
    Rule("formal", (_need("outer", "blazer"), _need("bottom", "trousers")), ("outer", "bottom", True)),
    Rule("formal", (_need("top", "shirt", pattern=_PLAIN), _need("tie", "tie", pattern=("plain", "dotted")))),
    Rule("formal", (_need("full", "dress jumpsuit", pattern=_PLAIN, fit=("slim",)), _need("shoes", "heels loafers"))),
    Rule("formal", (_need("outer", "coat", closure=("buttons",), colour=NEUTRAL), _need("shoes", "heels loafers"))),
    Rule("formal", (
        _need("top", "blouse shirt", sleeve_length=("long",)),
        _need("bottom", "skirt", fit=("slim",), garment_length=("knee", "midi")),
    )),
    Rule("formal", (_need("bottom", "trousers", pattern=_PLAIN, fit=_FITTED), _need("shoes", "heels loafers"))),
    Rule("sporty", (_need("bottom", "leggings shorts"), _need("shoes", "sneakers"))),
    Rule("sporty", (
        _need("outer", "jacket", closure=("zip",), colour=BRIGHT),
        _need("bottom", "leggings shorts trousers"),
    )),
    Rule("sporty", (_need("top", "hoodie", closure=("zip",)), _need("bottom", "leggings shorts"))),
    Rule("sporty", (_need("hat", "cap"), _need("shoes", "sneakers"))),
    Rule("sporty", (_need("full", "jumpsuit", closure=("zip",)), _need("shoes", "sneakers"))),
    Rule("sporty", (_need("top", "tank_top t_shirt", fit=("slim",)), _need("bottom", "leggings shorts"))),
    Rule("streetwear", (
        _need("top", "hoodie t_shirt sweater", fit=("loose",)),
        _need("bottom", "trousers jeans", fit=("loose",)),
    )),
    Rule("streetwear", (_need("bottom", "trousers shorts", pattern=("camouflage",)), _need("shoes", "boots sneakers"))),
    Rule("streetwear", (_need("hat", "beanie cap"), _need("outer", "jacket coat", fit=("loose",)))),
    Rule("streetwear", (_need("top", "hoodie t_shirt sweater", details=("logo",)), _need("glasses", "sunglasses"))),
    Rule("streetwear", (_need("outer", "jacket coat", closure=("open_front",)), _need("top", "hoodie"))),
    Rule("streetwear", (_need("full", "jumpsuit", details=("pockets", "logo")), _need("shoes", "boots"))),
    Rule("bohemian", (
        _need("full", "dress", pattern=("floral", "zigzag"), fit=("loose",)),
        _need("shoes", "sandals boots"),
    )),
    Rule("bohemian", (_need("hat", "sun_hat"), _need("shoes", "sandals"))),
    Rule("bohemian", (_need("outer", "jacket coat cardigan", details=("fringe",)), _need("bottom", "skirt jeans"))),
    Rule("bohemian", (
        _need("top", "blouse", fit=("loose",)),
        _need("bottom", "skirt", garment_length=_LONG),
    )),
    Rule("bohemian", (
        _need("bag", "handbag tote_bag", details=("fringe",)),
        _need("full", "dress jumpsuit", colour=EARTH),
    )),
    Rule("bohemian", (_need("full", "dress", garment_length=_LONG), _need("hat", "sun_hat"))),
    Rule("preppy", (_need("top", "sweater shirt", pattern=_LINES), _need("shoes", "loafers"))),
    Rule("preppy", (_need("outer", "blazer"), _need("bottom", "shorts jeans skirt")), ("outer", "bottom", False)),
    Rule("preppy", (_need("outer", "cardigan", closure=("buttons",)), _need("top", "shirt"))),
    Rule("preppy", (_need("bottom", "skirt", pattern=("checked",)), _need("top", "sweater shirt"))),
    Rule("preppy", (_need("tie", "tie", pattern=("striped",)), _need("outer", "cardigan blazer"))),
    Rule("preppy", (_need("full", "dress", pattern=_LINES), _need("shoes", "loafers sneakers"))),
    Rule("minimalist", (
        _need("top", "t_shirt shirt sweater blouse tank_top", pattern=_PLAIN, details=("",)),
        _need("bottom", "trousers skirt leggings", pattern=_PLAIN, colour=NEUTRAL),
    ), ("top", "bottom", True)),
    Rule("minimalist", (
        _need("outer", "coat", pattern=_PLAIN, closure=("wrap", "open_front")),
        _need("bottom", "trousers skirt", pattern=_PLAIN),
    )),
    Rule("minimalist", (_need("top", "sweater", neckline=("turtleneck",)), _need("bottom", "trousers skirt"))),
    Rule("minimalist", (
        _need("bag", "tote_bag handbag", pattern=_PLAIN),
        _need("shoes", "loafers boots sandals"),
    ), ("bag", "shoes", True)),
    Rule("minimalist", (
        _need("full", "dress jumpsuit", pattern=_PLAIN, details=("",), colour=NEUTRAL),
        _need("shoes", "boots loafers sandals"),
    )),
    Rule("minimalist", (
        _need("full", "dress jumpsuit", pattern=_PLAIN, neckline=("round", "turtleneck")),
        _need("bag", "tote_bag handbag", pattern=_PLAIN),
    )),
    Rule("romantic", (_need("full", "dress", details=("lace_trim", "bow")), _need("shoes", "heels sandals loafers"))),
    Rule("romantic", (_need("top", "blouse", details=("lace_trim", "bow")), _need("bottom", "skirt shorts"))),
    Rule("romantic", (_need("full", "dress", pattern=("floral",), fit=_FITTED), _need("shoes", "heels"))),
    Rule("romantic", (
        _need("top", "sweater blouse tank_top", colour=PASTEL),
        _need("bottom", "skirt", fit=("loose",)),
    )),
    Rule("romantic", (_need("shoes", "heels"), _need("bag", "handbag", colour=PASTEL))),
    Rule("romantic", (
        _need("top", "blouse shirt sweater", pattern=("floral", "dotted")),
        _need("shoes", "heels sandals"),
    )),
)  # fmt: skip

# What an outfit shows: slot -> (category, attributes).
Seen = Mapping[str, tuple[str, Mapping[str, Attribute]]]


def _shows(seen: Seen, need: Need) -> bool:
    item = seen.get(need.slot)
    if item is None or item[0] not in need.categories:
        return False
    for name, wanted in need.attributes.items():
        attribute = item[1][name]
        if attribute.state == "present":
            if not any(value in wanted for value in attribute.values):
                return False
        elif attribute.state == "not_visible" or "" not in wanted:
            return False
    return True


def holds(seen: Seen, rule: Rule) -> bool:
    """Says whether everything `rule` needs is seen."""
    if not all(_shows(seen, need) for need in rule.needs):
        return False
    if rule.colours is None:
        return True
    first, second, same = rule.colours
    return (seen[first][1]["colour"] == seen[second][1]["colour"]) is same


def style_scores(seen: Seen) -> dict[str, int]:
    """Returns the points of each style, in the order of `STYLES`."""
    scores = dict.fromkeys(STYLES, 0)
    for rule in RULES:
        # The first need decides most rules; looking at it here saves a call for each of them.
        item = seen.get(rule.needs[0].slot)
        if item is not None and item[0] in rule.needs[0].categories and holds(seen, rule):
            scores[rule.style] += 1
    return scores


def clean_style(seen: Seen) -> str:
    """Returns the style of the rule: most points, first of `STYLES` among equals."""
    scores = style_scores(seen)
    return max(scores, key=scores.__getitem__)
