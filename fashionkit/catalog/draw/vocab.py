"""The words and colours of the drawn catalogue: categories, the attributes each may have, and the palette.

Keys are those of the shipped ontology. `WARDROBE[category][attribute]` lists the values a category is drawn with,
repeated where a value should come up more often; "" stands for "none" (an absent closure).
"""

from __future__ import annotations

from typing import Final

RGB = tuple[int, int, int]

# Chosen to be told apart under the mild light of the scenes: see the colour test.
PALETTE: Final[dict[str, RGB]] = {
    "black": (34, 33, 37),
    "white": (247, 247, 245),
    "grey": (150, 153, 158),
    "red": (212, 40, 44),
    "orange": (243, 132, 36),
    "yellow": (250, 210, 58),
    "green": (52, 158, 74),
    "olive": (116, 118, 52),
    "teal": (20, 142, 146),
    "blue": (58, 120, 218),
    "navy": (28, 45, 104),
    "purple": (128, 68, 174),
    "pink": (244, 152, 188),
    "brown": (122, 76, 44),
    "beige": (222, 202, 164),
    "burgundy": (122, 22, 52),
}
COLOURS: Final = tuple(PALETTE)
NEUTRAL: Final = ("black", "white", "grey", "beige", "navy")
EARTH: Final = ("brown", "olive", "beige", "burgundy", "orange")
BRIGHT: Final = ("red", "orange", "yellow", "green", "blue", "teal")
PASTEL: Final = ("pink", "white", "purple", "beige")

REGIONS: Final[dict[str, str]] = {
    "t_shirt": "top", "shirt": "top", "blouse": "top", "sweater": "top", "hoodie": "top", "tank_top": "top",
    "jacket": "outer", "coat": "outer", "blazer": "outer", "cardigan": "outer",
    "trousers": "bottom", "jeans": "bottom", "shorts": "bottom", "skirt": "bottom", "leggings": "bottom",
    "dress": "full_body", "jumpsuit": "full_body",
    "sneakers": "feet", "boots": "feet", "heels": "feet", "sandals": "feet", "loafers": "feet",
    "cap": "head", "beanie": "head", "sun_hat": "head",
    "handbag": "hand", "tote_bag": "hand", "backpack": "back",
    "scarf": "neck", "tie": "neck", "sunglasses": "eyes", "belt": "waist",
}  # fmt: skip

# Slots of an outfit from head to foot: the order of `Outfit.items`.
SLOTS: Final = ("hat", "glasses", "scarf", "tie", "outer", "top", "full", "belt", "bottom", "shoes", "bag")

_ALL_PATTERNS = (
    "plain", "plain", "plain", "plain", "striped", "checked", "dotted", "floral", "colour_block", "camouflage",
    "zigzag",
)  # fmt: skip
_PATTERNS = ("plain", "plain", "plain", "striped", "checked", "dotted", "floral", "colour_block", "zigzag")
_FITS = ("slim", "regular", "regular", "loose")
_DENIM = ("blue", "blue", "navy", "black", "grey", "white")

WARDROBE: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "t_shirt": {
        "colour": COLOURS, "pattern": _ALL_PATTERNS, "sleeve_length": ("short", "short", "elbow"),
        "neckline": ("round", "round", "v_neck"), "garment_length": ("cropped", "waist", "hip", "hip"), "fit": _FITS,
    },
    "shirt": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "striped", "striped", "checked", "dotted", "floral"),
        "sleeve_length": ("short", "elbow", "long", "long"), "neckline": ("collared",),
        "garment_length": ("waist", "hip"), "fit": _FITS, "closure": ("buttons",),
    },
    "blouse": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "striped", "dotted", "floral", "floral"),
        "sleeve_length": ("sleeveless", "short", "elbow", "long"),
        "neckline": ("round", "v_neck", "square", "off_shoulder"), "garment_length": ("cropped", "waist", "hip"),
        "fit": _FITS, "closure": ("", "buttons", "wrap"),
    },
    "sweater": {
        "colour": COLOURS, "pattern": _ALL_PATTERNS, "sleeve_length": ("elbow", "long", "long"),
        "neckline": ("round", "v_neck", "turtleneck"), "garment_length": ("cropped", "waist", "hip"), "fit": _FITS,
        "closure": ("",),
    },
    "hoodie": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "striped", "colour_block", "camouflage"),
        "sleeve_length": ("short", "long", "long", "long"), "neckline": ("hooded",),
        "garment_length": ("cropped", "waist", "hip"), "fit": _FITS, "closure": ("", "zip"),
    },
    "tank_top": {
        "colour": COLOURS, "pattern": _ALL_PATTERNS, "sleeve_length": ("sleeveless",),
        "neckline": ("round", "v_neck", "square"), "garment_length": ("cropped", "waist", "hip"), "fit": _FITS,
    },
    "jacket": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "checked", "colour_block", "camouflage", "zigzag"),
        "sleeve_length": ("elbow", "long", "long", "long"), "neckline": ("collared", "hooded", "round"),
        "garment_length": ("waist", "hip"), "fit": _FITS, "closure": ("zip", "buttons", "open_front", "open_front"),
    },
    "coat": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "plain", "checked", "striped"),
        "sleeve_length": ("long",), "neckline": ("collared", "collared", "hooded"),
        "garment_length": ("mini", "knee", "midi"), "fit": _FITS,
        "closure": ("buttons", "wrap", "zip", "open_front", "open_front"),
    },
    "blazer": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "checked", "striped"),
        "sleeve_length": ("elbow", "long", "long", "long"), "neckline": ("collared",),
        "garment_length": ("waist", "hip", "hip"), "fit": _FITS, "closure": ("buttons", "open_front"),
    },
    "cardigan": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "striped", "dotted", "zigzag", "colour_block"),
        "sleeve_length": ("elbow", "long", "long"), "neckline": ("v_neck", "v_neck", "round"),
        "garment_length": ("waist", "hip", "mini"), "fit": _FITS,
        "closure": ("buttons", "open_front", "open_front"),
    },
    "trousers": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "plain", "striped", "checked", "camouflage",
        "floral"),
        "garment_length": ("midi", "ankle", "ankle", "floor"), "fit": _FITS, "closure": ("", "buttons", "zip"),
    },
    "jeans": {
        "colour": _DENIM, "pattern": ("plain",), "garment_length": ("midi", "ankle", "ankle", "floor"), "fit": _FITS,
        "closure": ("buttons", "zip"),
    },
    "shorts": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "striped", "checked", "floral", "camouflage"),
        "garment_length": ("mini", "knee"), "fit": _FITS, "closure": ("", "buttons", "zip"),
    },
    "skirt": {
        "colour": COLOURS, "pattern": _PATTERNS, "garment_length": ("mini", "knee", "midi", "ankle"), "fit": _FITS,
        "closure": ("", "buttons", "wrap"),
    },
    "leggings": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "striped", "colour_block", "camouflage", "zigzag"),
        "garment_length": ("knee", "midi", "ankle"), "fit": ("slim",),
    },
    "dress": {
        "colour": COLOURS, "pattern": _PATTERNS, "sleeve_length": ("sleeveless", "short", "elbow", "long"),
        "neckline": ("round", "v_neck", "square", "off_shoulder", "collared", "turtleneck"),
        "garment_length": ("mini", "knee", "knee", "midi", "ankle", "floor"), "fit": _FITS,
        "closure": ("", "", "buttons", "wrap"),
    },
    "jumpsuit": {
        "colour": COLOURS, "pattern": ("plain", "plain", "plain", "striped", "floral", "camouflage", "colour_block"),
        "sleeve_length": ("sleeveless", "short", "long"), "neckline": ("round", "v_neck", "collared", "square"),
        "garment_length": ("knee", "ankle", "ankle", "floor"), "fit": _FITS, "closure": ("", "buttons", "zip", "zip"),
    },
    "sneakers": {"colour": COLOURS, "heel_height": ("flat",)},
    "boots": {"colour": COLOURS, "garment_length": ("ankle", "knee"), "heel_height": ("flat", "mid", "high")},
    "heels": {"colour": COLOURS, "heel_height": ("mid", "high")},
    "sandals": {"colour": COLOURS, "heel_height": ("flat", "flat", "mid", "high")},
    "loafers": {"colour": COLOURS, "heel_height": ("flat",)},
    "cap": {"colour": COLOURS, "pattern": ("plain", "plain", "colour_block", "camouflage")},
    "beanie": {"colour": COLOURS, "pattern": ("plain", "plain", "striped", "zigzag")},
    "sun_hat": {"colour": COLOURS, "pattern": ("plain", "plain", "striped", "checked")},
    "handbag": {"colour": COLOURS, "pattern": ("plain", "plain", "plain", "checked", "striped", "dotted")},
    "tote_bag": {"colour": COLOURS, "pattern": ("plain", "plain", "striped", "floral", "dotted", "colour_block")},
    "backpack": {"colour": COLOURS, "pattern": ("plain",)},
    "scarf": {"colour": COLOURS, "pattern": ("plain", "plain", "striped", "checked", "dotted")},
    "tie": {"colour": COLOURS, "pattern": ("plain", "plain", "striped", "dotted")},
    "sunglasses": {"colour": ("black", "brown", "red", "white", "navy", "green", "yellow", "pink")},
    "belt": {"colour": ("black", "brown", "white", "red", "beige", "navy", "yellow", "burgundy")},
}  # fmt: skip

# Non-exclusive and complete: what is not listed is not drawn.
DETAILS: Final[dict[str, tuple[str, ...]]] = {
    "t_shirt": ("pockets", "logo", "contrast_stitching"),
    "shirt": ("pockets", "contrast_stitching"),
    "blouse": ("lace_trim", "bow"),
    "sweater": ("logo", "ribbing"),
    "hoodie": ("pockets", "logo", "ribbing", "contrast_stitching"),
    "tank_top": ("logo", "lace_trim", "contrast_stitching"),
    "jacket": ("pockets", "logo", "fringe", "ribbing", "contrast_stitching", "metal_buckle"),
    "coat": ("pockets", "metal_buckle", "fringe", "contrast_stitching"),
    "blazer": ("pockets", "contrast_stitching"),
    "cardigan": ("pockets", "fringe", "ribbing", "bow"),
    "trousers": ("pockets", "fringe", "contrast_stitching"),
    "jeans": ("pockets", "fringe", "contrast_stitching"),
    "shorts": ("pockets", "fringe", "lace_trim", "contrast_stitching"),
    "skirt": ("pockets", "fringe", "lace_trim", "bow"),
    "leggings": ("logo", "contrast_stitching"),
    "dress": ("pockets", "fringe", "lace_trim", "bow"),
    "jumpsuit": ("pockets", "logo", "contrast_stitching"),
    "handbag": ("fringe", "metal_buckle", "bow", "contrast_stitching"),
    "tote_bag": ("pockets", "logo", "fringe", "contrast_stitching"),
    "backpack": ("pockets",),
}
DETAIL_ORDER: Final = (
    "pockets", "logo", "fringe", "lace_trim", "ribbing", "contrast_stitching", "bow", "metal_buckle",
)  # fmt: skip

# Height of a hem, in figure units below the top of the head (the ground is at 200).
HEM: Final[dict[str, float]] = {
    "cropped": 68, "waist": 83, "hip": 98, "mini": 119, "knee": 144, "midi": 162, "ankle": 182, "floor": 195,
}  # fmt: skip
