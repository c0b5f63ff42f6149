"""Which share of the anchors a run looks at, where far fewer samples are asked for than the catalogue could give.

    pictures, evenly spaced ─► counted and balanced like a run ─► samples that each family could have ─► rates

Counting is most of the work of a large run, and of what it counts balance and family shares keep a part only. An
anchor is kept or left out by its own random bits, so thinning is blind to its content, and what is left is counted and
balanced exactly as ever. `MARGIN` times the wanted samples stay, so that hard ones can still be preferred.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.balance import family_targets
from fashionkit.datagen.context import Context, links
from fashionkit.datagen.solve import Solved
from fashionkit.datagen.units import Unit

Array = npt.NDArray[Any]
PICTURES = 2048  # of the estimate
MARGIN = 1.5


def probe(context: Context) -> Context | None:
    """The run on a sample of its pictures, to estimate what all of them would give; None where that saves nothing."""
    images = len(context.scenes.image_ids)
    if context.spec.samples is None or images < 4 * PICTURES:
        return None
    chosen = (np.arange(PICTURES) * (images / PICTURES)).astype(np.int64)
    return Context(context.scenes.sample(chosen), context.pack, context.spec)


def rates(context: Context, sample: Context, solved: Solved, margin: float) -> dict[Unit, float]:
    """Share of the anchors of each unit that gives `margin` times the samples of its family.

    Args:
        context: The run. sample: Its `probe`. solved: What balance made of that.
        margin: How many times what is wanted; more leaves more room to prefer hard samples.
    """
    scale = len(context.scenes.image_ids) / len(sample.scenes.image_ids)
    available = {family: int(n * scale) for family, n in solved.available.items()}
    spec = context.spec
    targets = family_targets(available, spec.families, spec.samples, spec.balance.family_cap)
    found = {}
    for unit in context.units:
        family = context.template(unit).family
        if available.get(family):
            found[unit] = margin * targets[family] / available[family]
    for follower, leader in links(context).items():  # a negation has the anchors of its statement
        found[context.units[follower]] = found.get(context.units[leader], 1.0)
    return {unit: rate for unit, rate in found.items() if rate < 1}
