"""Small pictures inside the page, with regions drawn over them.

picture ──► small JPEG ──► <img> ─┐
regions (mask or box) ──► outlines ─┴──► one part of the page, and a line that names the colours
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashionkit.report.html import Html, data_uri, escape
from fashionkit.report.outline import outline

COLOURS = 4  # that regions are told apart by


@dataclass(frozen=True)
class Region:
    """A part of a picture.

    Attributes:
        name: What it shows. colour: Which of the `COLOURS`; higher numbers start again.
        box: x, y, width, height in pixels of the picture.
        mask: `[h, w]` bool from the box's corner, rounded down; without one, the box is drawn.
        near: Drawn with a broken line: what fits only in part.
    """

    name: str
    colour: int
    box: tuple[float, float, float, float] | None = None
    mask: NDArray[np.bool_] | None = None
    near: bool = False

    @property
    def classes(self) -> str:
        """Classes of its shape and its key."""
        return f"m{self.colour % COLOURS}" + (" near" if self.near else "")


def small_jpeg(image: Image.Image, side: int, quality: int = 80) -> bytes:
    """A JPEG of at most `side` pixels each way.

    Args:
        image: RGB, upright. side: Most pixels of the longer side. quality: 1 to 95.
    """
    small = image.copy()
    small.thumbnail((side, side))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def picture(jpeg: bytes, width: int, height: int, alt: str, regions: Sequence[Region] = ()) -> Html:
    """The picture with its regions.

    Args:
        jpeg: The picture, of any size. width, height: Pixels of the picture that the regions are measured in.
        alt: Says what it is to those who do not see it. regions: Later ones lie above.
    """
    shapes = "".join(map(_shape, regions))
    drawing = ""
    if shapes:
        drawing = f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{shapes}</svg>'
    with Image.open(io.BytesIO(jpeg)) as small:
        size = f'width="{small.width}" height="{small.height}"'
    return Html(
        f'<div class="pic"><img {size} decoding="async" alt="{escape(alt)}" src="{data_uri(jpeg)}">{drawing}</div>'
    )


def no_picture(why: str) -> Html:
    """What stands where a picture is missing."""
    return Html(f'<div class="pic none">{escape(why)}</div>')


def keys(regions: Sequence[Region]) -> Html:
    """Which colour is which region; equal ones are named once, with their number."""
    named: dict[tuple[str, str], int] = {}
    for region in regions:
        named[region.classes, region.name] = named.get((region.classes, region.name), 0) + 1
    made = "".join(
        f'<span><svg width="13" height="13" aria-hidden="true"><rect class="key {classes}" x="1" y="1" width="11" '
        f'height="11"/></svg>{escape(name)}{f" × {count}" if count > 1 else ""}</span>'
        for (classes, name), count in named.items()
    )
    return Html(f'<p class="marks">{made}</p>' if made else "")


def _shape(region: Region) -> str:
    if region.box is None:
        return ""
    x, y, width, height = region.box
    if region.mask is None:
        return f'<rect class="mark {region.classes}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>'
    path, step = outline(region.mask)
    place = f"translate({np.floor(x):g} {np.floor(y):g}) scale({step})"
    return f'<path class="mark {region.classes}" transform="{place}" d="{path}"/>'
