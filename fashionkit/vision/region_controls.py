"""Controls: do gains come from the regions at all, or from more parameters alone? Both are our own.

masks of a provider ──► RandomRegions: moved to a random place
                    └─► ShuffledRegions: those of another picture
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fashionkit.tables import InputError
from fashionkit.vision.region_base import ITEMS, Masks, Picture, RegionProvider, digest, pixels_of, resized_masks


@dataclass(frozen=True)
class RandomRegions:
    """A control: each mask of another provider, moved to a random place. Shape and area stay, to the pixel.

    What leaves the picture on one side comes in on the other, so that large items move as freely as small ones. The
    place depends on seed, image id and item alone.
    """

    provider: RegionProvider
    seed: int = 0

    @property
    def key(self) -> str:
        return f"random/{self.seed}/{self.provider.key}"

    def regions(self, image: Picture, image_id: str) -> Masks:
        masks = self.provider.regions(image, image_id)
        moved = np.empty_like(masks)
        for number, name in enumerate(ITEMS):
            down, right = (drawn_bits(self.seed, image_id, name, axis) % masks.shape[axis] for axis in (1, 2))
            moved[number] = np.roll(masks[number], (down, right), axis=(0, 1))
        return moved


class ShuffledRegions:
    """A control: the masks of another picture, stretched to this one.

    The pictures stand in one circle in an order that depends on the seed and the set of ids alone; each gets its
    neighbour's masks. So every picture's masks are used once, and never on itself.

    Args:
        provider: Whose masks. ids: All pictures to be shuffled among each other, two or more. seed: Of the order.
        image_of: A picture by its id, since the provider may have to look at it; `CatalogRegions.canvas` where it does
            not.

    Raises:
        InputError: Fewer than two ids, or one twice.
    """

    def __init__(self, provider: RegionProvider, ids: Sequence[str], seed: int, image_of: Callable[[str], Picture]):
        if len(ids) < 2 or len(set(ids)) < len(ids):
            raise InputError("masks are shuffled among two pictures or more, each named once", found=list(ids)[:9])
        self.provider, self.image_of = provider, image_of
        circle = sorted(ids, key=lambda name: (drawn_bits(seed, name, "order", 0), name))
        self._other = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
        self.key = f"shuffled/{seed}/{digest(sorted(ids))}/{provider.key}"

    def other(self, image_id: str) -> str:
        """Whose masks a picture gets."""
        if image_id not in self._other:
            raise InputError("this picture is not among the shuffled ones", found=image_id)
        return self._other[image_id]

    def regions(self, image: Picture, image_id: str) -> Masks:
        other = self.other(image_id)
        return resized_masks(self.provider.regions(self.image_of(other), other), *pixels_of(image).shape[:2])


def drawn_bits(seed: int, image_id: str, what: str, axis: int) -> int:
    """64 random bits that depend on their name alone, never on what was drawn before."""
    name = repr((seed, image_id, what, axis)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
