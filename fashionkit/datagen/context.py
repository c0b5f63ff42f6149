"""What every step of a run shares: the compiled catalogue, the units, blocks of pictures, proposer and judge.

    units ──count──► cells, ranked candidates ──solve──► samples to keep by cell ──select──► places to write, by block

Counting and selecting run over units (a unit's cells touch no other unit's), writing over blocks of pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.feedback import Feedback
from fashionkit.datagen.judge import Judge, Judged
from fashionkit.datagen.negatives import category_drawer, value_drawer
from fashionkit.datagen.packs import Pack, Template
from fashionkit.datagen.propose import Candidates, Proposer
from fashionkit.datagen.scene import Scenes
from fashionkit.datagen.spec import RunSpec
from fashionkit.datagen.units import Unit, unit_list
from fashionkit.datagen.vocab import NONE

Array = npt.NDArray[Any]


class Context:
    """Everything a worker needs, built once and shared.

    Attributes:
        blocks: (lo, hi) picture ranges, none across a split.
        units: All units; cell counts and selections are stored by position here.
    """

    def __init__(self, scenes: Scenes, pack: Pack, spec: RunSpec):
        self.scenes, self.pack, self.spec = scenes, pack, spec
        dropped = set(spec.drop) | {t.id for t in pack.templates if spec.families.get(t.family, 1.0) == 0}
        self.units = [u for u in unit_list(scenes, pack) if pack.templates[u.template].id not in dropped]
        self.blocks = _blocks(scenes, spec.shard_images)
        feedback, names = Feedback(spec.feedback) if spec.feedback else None, (*scenes.attributes, *scenes.labels)
        drawers = {name: value_drawer(scenes, name, spec.negatives, feedback) for name in names}
        drawers["category"] = category_drawer(scenes, spec.negatives, False, feedback)
        drawers["group"] = category_drawer(scenes, spec.negatives, True, feedback)
        product = scenes.facts.scene == "product"
        self.noun = scenes.facts.noun if product else scenes.ontology.categories[scenes.vocab.key[scenes.root]].name
        self.look = scenes.facts.noun if product else "outfit"
        self.proposer = Proposer(scenes, pack, drawers, spec.seed, spec.negatives.draws)
        self.judge = Judge(scenes, pack, drawers, spec.difficulty, self.noun, self.look, feedback)
        self.quotas: list[Array] | None = None

    def within_budget(self, number: int, c: Candidates, judged: Judged) -> None:
        """Refuses candidates beyond their picture's budget: those with the highest random bits of the picture."""
        if self.quotas is None:
            return
        valid = np.flatnonzero(judged.answer != NONE)
        image = c.batch.image[valid]
        order = np.lexsort((c.bits[valid], image))
        image = image[order]
        rank = np.arange(len(image)) - np.searchsorted(image, image)
        over = valid[order[rank >= self.quotas[number][image]]]
        if len(over):
            judged.answer = judged.answer.copy()
            judged.answer[over] = NONE
            judged.refused["the picture has its share of questions"] += len(over)

    def template(self, unit: Unit) -> Template:
        """The unit's template."""
        return self.pack.templates[unit.template]


def _blocks(s: Scenes, size: int) -> list[tuple[int, int]]:
    found = []
    for split in range(3):
        lo, hi = np.searchsorted(s.split, [split, split + 1])
        found += [(a, min(a + size, int(hi))) for a in range(int(lo), int(hi), size)]
    return found


def phrasings(context: Context) -> Array:
    """(templates,) int64: in how many texts each question of a template is put, all different."""
    open_forms = [sum(not q.held_out for q in t.paraphrases) for t in context.pack.templates]
    return np.minimum(np.array(open_forms, np.int64), context.spec.phrasings)


def links(context: Context) -> dict[int, int]:
    """Tied unit → the unit it follows (same attributes)."""
    at = {(context.template(u).id, u.attributes): n for n, u in enumerate(context.units)}
    found = {}
    for number, unit in enumerate(context.units):
        t = context.template(unit)
        if t.balance == "tied" and (str(t.tie), unit.attributes) in at:
            found[number] = at[str(t.tie), unit.attributes]
    return found
