"""A straightforward question generator: one picture and one question at a time, in plain Python.

The yardstick of `benchmarks/datagen.py`. It asks the same families of questions of the same catalogue and makes the
same checks as `fashionkit.datagen`: the item asked about is the only one that could be meant, what is unknown or hidden
never counts as "no", a clause that changes nothing is refused, a question does not hold its answer, no question stands
twice. Answers are balanced while drawing, by rejection, as the generators of CLEVR (arXiv 1612.06890) and GQA
(arXiv 1902.09506) do it. No code is shared with the engine but the reading of the catalogue.

    catalogue ─► scenes (lists of dicts) ─► a family draws a question ─► checks ─► balance ─► Sample ─► f-string
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.ontology import Ontology

OPEN_SHARE = 0.5  # of one answer to an open question
DRAWS = 3  # questions tried for each scene and family
FAMILIES = ("B1", "B2", "B3", "B4", "B5", "B6", "C1", "C2", "C3", "C4", "C6", "C8", "N1")
Item = dict[str, Any]  # id, category, chain (category and groups above it), region, values {attribute: value}, open
Scene = list[Item]


@dataclass(frozen=True)
class Sample:
    """One question. `slots` are keys of the ontology in the order in which the family's texts take them."""

    family: str
    template: str
    image: str
    split: str
    slots: tuple[str, ...]
    answer: str
    difficulty: float


@dataclass(frozen=True)
class Draft:
    """A question that a family proposes; `cell` is what its answers are balanced within."""

    template: str
    slots: tuple[str, ...]
    answer: str
    cell: tuple[str, ...]


def read_scenes(path: Path) -> tuple[dict[str, Scene], dict[str, str], Ontology]:
    """Items of each picture, its split, and the words of a catalogue."""
    catalog = Catalog(path)
    onto = catalog.ontology
    scenes: dict[str, Scene] = {image: [] for image in catalog.table("images")["image_id"].to_pylist()}
    items: dict[str, Item] = {}
    for row in catalog.table("items").to_pylist():
        chain = [row["category"], *(k for k in onto.ancestors(row["category"])[:-1] if onto.categories[k].spoken)]
        item = {"id": row["item_id"], "category": row["category"], "chain": chain, "region": row["region"]}
        item |= {"values": {}, "open": {a for a in onto.attributes if onto.applies(a, row["category"])}}
        items[row["item_id"]] = item
        scenes[row["image_id"]].append(item)
    for row in catalog.table("attributes").to_pylist():
        item, name = items[row["item_id"]], row["attribute"]
        if not onto.attributes[name].exclusive:
            continue
        if row["state"] == "present" and len(row["values"]) == 1:
            item["values"][name] = row["values"][0]
            item["open"].discard(name)
        elif row["state"] == "absent":
            item["open"].discard(name)
    splits = {row["image_id"]: row["split"] for row in catalog.table("splits").to_pylist()}
    return scenes, splits, onto


@dataclass
class Reference:
    """The generator. `refused` counts what failed, by reason."""

    scenes: dict[str, Scene]
    splits: dict[str, str]
    onto: Ontology
    seed: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        self.seen: set[tuple[str, ...]] = set()
        self.used: dict[str, Counter[str]] = defaultdict(Counter)  # attribute, or "category" → how often each value
        for scene in self.scenes.values():
            for item in scene:
                self.used["category"][item["category"]] += 1
                for attribute, value in item["values"].items():
                    self.used[attribute][value] += 1

    def samples(self) -> Iterator[Sample]:
        """Samples without end: round after round over all scenes."""
        while True:
            for image, scene in self.scenes.items():
                for family in FAMILIES:
                    propose = getattr(self, f"_{family.lower()}")
                    for _ in range(DRAWS):
                        draft = propose(scene) if scene else None
                        if draft is not None and self._accepted(family, image, draft):
                            yield self._sample(family, image, draft)

    def _sample(self, family: str, image: str, draft: Draft) -> Sample:
        counts = self.counts[family, self.splits[image], *draft.cell]
        surprisal = -math.log((counts[draft.answer] + 1) / (sum(counts.values()) + 2))
        return Sample(family, draft.template, image, self.splits[image], draft.slots, draft.answer, surprisal)

    def _accepted(self, family: str, image: str, draft: Draft) -> bool:
        """Balance and repetition; counts the sample where it is accepted."""
        question = (image, draft.template, *draft.slots)
        if question in self.seen:
            return self._refuse("asked before")
        counts = self.counts[family, self.splits[image], *draft.cell]
        if draft.answer in ("yes", "no"):
            if counts[draft.answer] > counts["no" if draft.answer == "yes" else "yes"]:
                return self._refuse("answer too frequent")
        elif family == "C2":
            one, two = draft.slots[-2:]
            if counts[draft.answer] > counts[two if draft.answer == one else one]:
                return self._refuse("answer too frequent")
        elif sum(counts.values()) > 3 and counts[draft.answer] + 1 > OPEN_SHARE * (sum(counts.values()) + 1):
            return self._refuse("answer too frequent")
        counts[draft.answer] += 1
        self.seen.add(question)
        return True

    def _refuse(self, reason: str) -> bool:
        self.refused[reason] += 1
        return False

    # What holds and what could hold of an item, and of a scene.

    def _holds(self, item: Item, key: str) -> bool:
        if "/" not in key:
            return key in item["chain"] or key == item["region"]
        attribute, value = key.split("/")
        own = item["values"].get(attribute)
        return own is not None and (own == value or value in self.onto.value_ancestors(attribute, own))

    def _could(self, item: Item, key: str) -> bool:
        if self._holds(item, key):
            return True
        if "/" not in key:
            return key in self.onto.categories and key in self.onto.overlapping(item["category"])
        attribute, value = key.split("/")
        if attribute in item["open"]:
            return True
        own = item["values"].get(attribute)
        return own is not None and value in self.onto.compatible(attribute, own)

    def _sure(self, scene: Scene, *keys: str) -> Scene:
        return [item for item in scene if all(self._holds(item, key) for key in keys)]

    def _may(self, scene: Scene, *keys: str) -> Scene:
        return [item for item in scene if all(self._could(item, key) for key in keys)]

    def _unique(self, scene: Scene, *keys: str) -> bool:
        """Whether exactly one item could be meant."""
        if len(self._sure(scene, *keys)) == 1 and len(self._may(scene, *keys)) == 1:
            return True
        return self._refuse("not the only item it could mean")

    def _exists(self, scene: Scene, *keys: str) -> str | None:
        if self._sure(scene, *keys):
            return "yes"
        return None if self._may(scene, *keys) else "no"

    def _verified(self, item: Item, key: str) -> str | None:
        if self._holds(item, key):
            return "yes"
        return None if self._could(item, key) else "no"

    # What is drawn.

    def _item(self, scene: Scene) -> tuple[Item, str]:
        """An item and one of its names."""
        item = self.random.choice(scene)
        return item, self.random.choice(item["chain"])

    def _own(self, item: Item, besides: tuple[str, ...] = ()) -> str | None:
        """One of the item's values as attribute/value."""
        names = [a for a in item["values"] if a not in besides]
        if not names:
            return None
        name = self.random.choice(names)
        return f"{name}/{item['values'][name]}"

    def _other(self, key: str) -> str | None:
        """Another value of the attribute that excludes this one, by how frequent it is."""
        attribute, value = key.split("/")
        allowed = self.onto.compatible(attribute, value)
        pool = {v: n for v, n in self.used[attribute].items() if v not in allowed}
        if not pool:
            return None
        return f"{attribute}/{self.random.choices(list(pool), list(pool.values()))[0]}"

    def _either(self, key: str) -> str | None:
        return key if self.random.random() < 0.4 else self._other(key)

    def _category(self) -> str:
        return self.random.choices(list(self.used["category"]), list(self.used["category"].values()))[0]

    def _leaks(self, answer: str, *keys: str) -> bool:
        """Whether a word of the question says the answer."""
        words = f" {self.name(answer)} "
        if any(words in f" {self.name(key)} " for key in keys):
            self._refuse("the question holds the answer")
            return True
        return False

    # The families.

    def _b1(self, scene: Scene) -> Draft | None:
        key = self._item(scene)[1] if self.random.random() < 0.5 else self._category()
        answer = self._exists(scene, key)
        return None if answer is None else Draft("B1", (key,), answer, (key,))

    def _b2(self, scene: Scene, template: str = "B2") -> Draft | None:
        item, noun = self._item(scene)
        own = self._own(item)
        key = self._either(own) if own else None
        if key is None or not self._unique(scene, noun):
            return None
        answer = self._verified(item, key)
        return None if answer is None else Draft(template, (noun, key), answer, (noun, key))

    def _b3(self, scene: Scene) -> Draft | None:
        item, noun = self._item(scene)
        own = self._own(item)
        key = self._either(own) if own else None
        answer = self._exists(scene, noun, key) if key else None
        return None if answer is None or key is None else Draft("B3", (noun, key), answer, (noun, key))

    def _b4(self, scene: Scene) -> Draft | None:
        item, noun = self._item(scene)
        one = self._own(item)
        two = self._own(item, (one.split("/")[0],)) if one else None
        if one is None or two is None or not self._unique(scene, noun):
            return None
        keys = [self._either(one), self._either(two)]
        answers = [self._verified(item, key) if key else None for key in keys]
        if None in answers:
            return None
        kind = self.random.choice(("and", "or"))
        answer = "yes" if (all if kind == "and" else any)(a == "yes" for a in answers) else "no"
        slots = (noun, kind, *(str(key) for key in keys))
        return Draft("B4", slots, answer, slots)

    def _b5(self, scene: Scene) -> Draft | None:
        draft = self._b2(scene, "B5")
        if draft is None:
            return None
        return Draft("B5", draft.slots, "no" if draft.answer == "yes" else "yes", draft.cell)

    def _b6(self, scene: Scene) -> Draft | None:
        if len(scene) < 2:
            return None
        one, two = self.random.sample(scene, 2)
        nouns = (one["category"], two["category"])
        shared = [a for a in one["values"] if a in two["values"]]
        if not shared or not self._unique(scene, nouns[0]) or not self._unique(scene, nouns[1]):
            return None
        name = self.random.choice(shared)
        a, b = one["values"][name], two["values"][name]
        if a != b and b in self.onto.compatible(name, a):
            return None
        return Draft("B6", (*nouns, name), "yes" if a == b else "no", (name, *sorted(nouns)))

    def _c1(self, scene: Scene) -> Draft | None:
        item, noun = self._item(scene)
        own = self._own(item)
        if own is None or not self._unique(scene, noun) or self._leaks(own, noun):
            return None
        return Draft("C1", (noun, own.split("/")[0]), own, (noun, own.split("/")[0]))

    def _c2(self, scene: Scene) -> Draft | None:
        item, noun = self._item(scene)
        own = self._own(item)
        other = self._other(own) if own else None
        if own is None or other is None or not self._unique(scene, noun):
            return None
        options = self.random.sample([own, other], 2)
        return Draft("C2", (noun, *options), own, (noun, *sorted(options)))

    def _c3(self, scene: Scene) -> Draft | None:
        item, _ = self._item(scene)
        own = self._own(item)
        if own is None or len(scene) < 2 or not self._unique(scene, own) or self._leaks(item["category"], own):
            return None
        return Draft("C3", (own,), item["category"], (own,))

    def _c4(self, scene: Scene) -> Draft | None:
        item, _ = self._item(scene)
        region = item["region"]
        if region is None or len(scene) < 2 or not self._unique(scene, region):
            return None
        return Draft("C4", (region,), item["category"], (region,))

    def _c6(self, scene: Scene) -> Draft | None:
        item, _ = self._item(scene)
        own = self._own(item)
        if own is None or item["region"] is None or not self._unique(scene, own):
            return None
        return Draft("C6", (own,), self.onto.regions[item["region"]].name, (own,))

    def _c8(self, scene: Scene) -> Draft | None:
        key = self._item(scene)[1] if self.random.random() < 0.5 else self._category()
        sure = self._sure(scene, key)
        if len(sure) != len(self._may(scene, key)):
            self._refuse("not settled by the tables")
            return None
        return Draft("C8", (key,), str(len(sure)), (key,))

    def _n1(self, scene: Scene) -> Draft | None:
        noun = self._category()
        names = [a for a in self.onto.attributes if a in self.used and self.onto.applies(a, noun)]
        if not names or self._may(scene, noun):
            return None
        name = self.random.choice(names)
        # Balanced against C1, whose words it shares: not-present is as frequent as any one answer there.
        return Draft("C1", (noun, name), "not present", (noun, name)) if self.random.random() < 0.5 else None

    # Text.

    def name(self, key: str) -> str:
        """The words of an ontology key."""
        if "/" in key:
            attribute, value = key.split("/")
            return self.onto.attributes[attribute].values[value].name
        for words in (self.onto.categories, self.onto.attributes, self.onto.regions):
            if key in words:
                return str(words[key].name)
        return key

    def _a(self, noun: str, *values: str) -> str:
        words = " ".join([*(self._adjective(v) for v in values), self.name(noun)])
        if self.onto.categories[noun].pair:
            return f"a pair of {words}"
        return words if self.onto.categories[noun].mass else f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    def _adjective(self, key: str) -> str:
        attribute, value = key.split("/")
        return self.onto.attributes[attribute].values[value].adj or self.name(key)

    def _is(self, noun: str) -> str:
        return "are" if self.onto.categories[noun].pair else "is"

    def _said(self, key: str) -> str:
        """What is said of an item: "striped", or "of the kind with short sleeves"."""
        attribute, value = key.split("/")
        entry = self.onto.attributes[attribute]
        words = entry.values[value].pred or self.name(key)
        return words if entry.verb == "be" else f"of the kind with {words}"

    def render(self, sample: Sample, paraphrase: int) -> tuple[str, str]:
        """Question and answer as text; `paraphrase` counts around."""
        texts = TEXTS[sample.template]
        question = texts[paraphrase % len(texts)](self, *sample.slots)
        return question[0].upper() + question[1:], self.name(sample.answer)


Text = Callable[..., str]
R = Reference
TEXTS: dict[str, list[Text]] = {
    "B1": [
        lambda r, c: f"is there {R._a(r, c)}?",
        lambda r, c: f"can you see {R._a(r, c)} in the picture?",
        lambda r, c: f"does the picture show {R._a(r, c)}?",
        lambda r, c: f"do you notice {R._a(r, c)} here?",
    ],
    "B2": [
        lambda r, c, v: f"{R._is(r, c)} the {R.name(r, c)} {R._said(r, v)}?",
        lambda r, c, v: f"is it true that the {R.name(r, c)} {R._is(r, c)} {R._said(r, v)}?",
        lambda r, c, v: f"would you say that the {R.name(r, c)} {R._is(r, c)} {R._said(r, v)}?",
        lambda r, c, v: f"can you confirm that the {R.name(r, c)} {R._is(r, c)} {R._said(r, v)}?",
    ],
    "B3": [
        lambda r, c, v: f"is there {R._a(r, c, v)}?",
        lambda r, c, v: f"can you see {R._a(r, c, v)}?",
        lambda r, c, v: f"does the picture show {R._a(r, c, v)}?",
        lambda r, c, v: f"is {R._a(r, c, v)} part of this outfit?",
    ],
    "B4": [
        lambda r, c, k, v, w: f"{R._is(r, c)} the {R.name(r, c)} {R._said(r, v)} {k} {R._said(r, w)}?",
        lambda r, c, k, v, w: f"is it true that the {R.name(r, c)} {R._is(r, c)} {R._said(r, v)} {k} {R._said(r, w)}?",
        lambda r, c, k, v, w: f"would you say the {R.name(r, c)} {R._is(r, c)} {R._said(r, v)} {k} {R._said(r, w)}?",
        lambda r, c, k, v, w: f"is it right that the {R.name(r, c)} {R._is(r, c)} {R._said(r, v)} {k} {R._said(r, w)}?",
    ],
    "B5": [
        lambda r, c, v: f"is it true that the {R.name(r, c)} {R._is(r, c)} not {R._said(r, v)}?",
        lambda r, c, v: f"would you agree that the {R.name(r, c)} {R._is(r, c)} not {R._said(r, v)}?",
        lambda r, c, v: f"is it the case that the {R.name(r, c)} {R._is(r, c)} not {R._said(r, v)}?",
        lambda r, c, v: f"can you confirm that the {R.name(r, c)} {R._is(r, c)} not {R._said(r, v)}?",
    ],
    "B6": [
        lambda r, c, d, a: f"do the {R.name(r, c)} and the {R.name(r, d)} have the same {R.name(r, a)}?",
        lambda r, c, d, a: f"do the {R.name(r, c)} and the {R.name(r, d)} match in {R.name(r, a)}?",
        lambda r, c, d, a: f"are the {R.name(r, c)} and the {R.name(r, d)} alike in {R.name(r, a)}?",
        lambda r, c, d, a: f"is the {R.name(r, a)} of the {R.name(r, c)} that of the {R.name(r, d)}?",
    ],
    "C1": [
        lambda r, c, a: f"what is the {R.name(r, a)} of the {R.name(r, c)}?",
        lambda r, c, a: f"as for the {R.name(r, c)}, which {R.name(r, a)} do you see?",
        lambda r, c, a: f"can you tell me the {R.name(r, a)} of the {R.name(r, c)}?",
        lambda r, c, a: f"how would you describe the {R.name(r, a)} of the {R.name(r, c)}?",
    ],
    "C2": [
        lambda r, c, v, w: f"{R._is(r, c)} the {R.name(r, c)} {R._said(r, v)} or {R._said(r, w)}?",
        lambda r, c, v, w: f"which is it: the {R.name(r, c)} {R._is(r, c)} {R._said(r, v)} or {R._said(r, w)}?",
        lambda r, c, v, w: f"would you say that the {R.name(r, c)} {R._is(r, c)} {R._said(r, v)} or {R._said(r, w)}?",
        lambda r, c, v, w: f"choose one: the {R.name(r, c)} {R._is(r, c)} {R._said(r, v)} or {R._said(r, w)}?",
    ],
    "C3": [
        lambda r, v: f"what is the {R._adjective(r, v)} item?",
        lambda r, v: f"what kind of item is the {R._adjective(r, v)} item?",
        lambda r, v: f"what would you call the {R._adjective(r, v)} item?",
        lambda r, v: f"what type of item is the {R._adjective(r, v)} item?",
    ],
    "C4": [
        lambda r, g: f"what is worn {r.onto.regions[g].phrase}?",
        lambda r, g: f"which item is worn {r.onto.regions[g].phrase}?",
        lambda r, g: f"what do you see {r.onto.regions[g].phrase}?",
        lambda r, g: f"can you tell me what is worn {r.onto.regions[g].phrase}?",
    ],
    "C6": [
        lambda r, v: f"where is the {R._adjective(r, v)} item worn?",
        lambda r, v: f"whereabouts is the {R._adjective(r, v)} item worn?",
        lambda r, v: f"where does one wear the {R._adjective(r, v)} item?",
        lambda r, v: f"can you tell me where the {R._adjective(r, v)} item is worn?",
    ],
    "C8": [
        lambda r, c: f"how many {r.onto.categories[c].plural} are visible?",
        lambda r, c: f"how many {r.onto.categories[c].plural} can you count?",
        lambda r, c: f"how many {r.onto.categories[c].plural} are there in the picture?",
        lambda r, c: f"what is the number of {r.onto.categories[c].plural} in this outfit?",
    ],
}
