"""A question set as it lies on the disk, and the plain words of its questions, for the slow checker.

    samples, images, vocab, templates, packs/*.yaml ─► Questions ─► slots, cell, words

Nothing of the package is imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import yaml

from tests.datagen.slow_interpreter import Id, Tree, Words, parse, rows

PLACE = re.compile(r"\{([^{}]*)\}")


class Sample(NamedTuple):
    """A row of the samples; `slots` are vocabulary ids in the order of the template's stored slots."""

    split: str
    qid: int
    image: int
    template: int
    paraphrase: int
    slots: tuple[int, ...]
    answer: int


class Questions:
    """A question set as it lies on the disk."""

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.params, self.about = manifest.get("params", {}), manifest.get("about", {})
        self.images = {r["image"]: r for r in rows(folder, "images")}
        vocab = {r["id"]: r for r in rows(folder, "vocab")}
        self.ids: dict[int, Id] = {n: (r["kind"], r["key"]) for n, r in vocab.items()}
        self.texts: dict[Id, str] = {(r["kind"], r["key"]): r["text"] for r in vocab.values()}
        self.members = {n: frozenset(vocab[m]["key"] for m in r["members"]) for n, r in vocab.items()}
        packs = [yaml.safe_load(p.read_text(encoding="utf-8")) for p in sorted((folder / "packs").glob("*.yaml"))]
        said = {t["id"]: t for pack in packs for t in pack["templates"]}
        self.templates = {
            r["template"]: {**said[r["id"]], "stored": r["slots"], "texts": r["texts"]}
            for r in rows(folder, "templates")
        }
        self.programs = {n: parse(t["program"]) for n, t in self.templates.items()}
        self.pairs = {n: pair_slots(tree) for n, tree in self.programs.items()}
        self.known: dict[tuple[int, tuple[int, ...]], dict[str, Id]] = {}
        self.by_id = {t["id"]: n for n, t in self.templates.items()}
        self.samples = list(self._samples(folder / "samples"))

    def _samples(self, folder: Path) -> Iterator[Sample]:
        names = ("qid", "image", "template", "paraphrase", "slot0", "slot1", "slot2", "slot3", "answer")
        width = {n: len(t["stored"]) for n, t in self.templates.items()}
        for part in sorted(folder.glob("*/part-*.parquet")):
            table = pq.read_table(part, partitioning=None)
            for row in zip(*(table[n].to_pylist() for n in names), strict=True):
                qid, image, template, paraphrase = row[:4]
                slots = row[4 : 4 + width[template]]
                yield Sample(part.parent.name, qid, image, template, paraphrase, slots, row[8])

    def family(self, s: Sample) -> str:
        """The family of a sample."""
        return str(self.templates[s.template]["family"])

    def slots(self, s: Sample) -> dict[str, Id]:
        """Slot → vocabulary entry, with the attribute slots that a value implies."""
        if (s.template, s.slots) in self.known:
            return self.known[s.template, s.slots]
        template = self.templates[s.template]
        found = {name: self.ids[number] for name, number in zip(template["stored"], s.slots, strict=True)}
        for name, spec in template["slots"].items():
            if "of" in spec and name in found:
                found.setdefault(spec["of"], ("attribute", found[name][1].split("/")[0]))
        self.known[s.template, s.slots] = found
        return found

    def cell(self, s: Sample) -> tuple[Any, ...]:
        """The cell in which a sample's answer is balanced: the `cell` slots, all attribute slots, and the split."""
        template, slots = self.templates[s.template], self.slots(s)
        ids = [slots[n] for n in template["cell"] if n not in self.pairs[s.template]]
        if template.get("anchor") == "pair":  # which of two items is named first means nothing
            ids.sort()
        attributes = sorted((n, slots[n]) for n, spec in template["slots"].items() if "attribute" in spec)
        return (s.split, *ids, *attributes)

    def held_out(self, s: Sample) -> bool:
        """Whether the sample's paraphrase is kept for the test."""
        text = self.templates[s.template]["text"][s.paraphrase]
        return isinstance(text, dict) and bool(text.get("held_out"))


def pair_slots(tree: Tree | str) -> tuple[str, ...]:
    """The two slots that a choice offers."""
    return (tree[2], tree[4]) if tree[0] == "which" else ()


class PlainWords:
    """The words of a question, without order and articles, to look for its answer among them."""

    def __init__(self, questions: Questions, words: Words) -> None:
        self.questions, self.words = questions, words

    def leak(self, s: Sample, slots: dict[str, Id]) -> str | None:
        """A form of the answer that stands in the words of the question."""
        text = self.questions.templates[s.template]["texts"][s.paraphrase]
        words = PLACE.sub(lambda m: " | ".join(["", *self._place(m.group(1), slots), ""]), text)
        line = " ".join(re.findall(r"[\w/-]+|\|", words.lower()))
        return next((f for f in self._answer_forms(s) if f" {f.lower()} " in f" {line} "), None)

    def _answer_forms(self, s: Sample) -> list[str]:
        keys = (
            sorted(self.questions.members[s.answer])
            if self.questions.members[s.answer]
            else [self.questions.ids[s.answer][1]]
        )
        kind = "value" if self.questions.members[s.answer] else self.questions.ids[s.answer][0]
        if kind not in ("value", "category", "region"):
            return []
        return [
            f for key in keys for f in (self._entry((kind, key), "name"), *self._data((kind, key)).get("synonyms", ()))
        ]

    def _data(self, said: Id) -> dict[str, Any]:
        kind, key = said
        if kind == "value":
            attribute, value = key.split("/", 1)
            return dict(self.words.attributes[attribute]["values"][value])
        return dict(
            {"category": self.words.categories, "region": self.words.regions, "attribute": self.words.attributes}[kind][
                key
            ]
        )

    def _entry(self, said: Id, *forms: str) -> str:
        data = self._data(said)
        name = data.get("name") or said[1].split("/")[-1].replace("_", " ")
        return str(next((data[f] for f in forms if data.get(f)), name))

    def _place(self, place: str, slots: dict[str, Id]) -> list[str]:
        """The words that a place of a text brings in; roughly, for order and articles do not matter here."""
        function, *names = place.split()
        forms = []
        for number, name in enumerate(names):
            if name in ("root", "look"):
                forms.append(str(self.questions.about.get("noun" if name == "root" else "look", "")))
                continue
            kind = slots[name][0]
            if kind == "value":
                predicate = function.startswith(("ask", "say")) and number == len(names) - 1
                forms.append(self._entry(slots[name], *(("pred",) if predicate else ("adj", "with"))))
            elif kind == "region":
                forms.append(
                    self._entry(slots[name], "worn", "phrase") if function == "worn" else self._entry(slots[name])
                )
            elif kind == "attribute" and function == "query":
                ask = self._data(slots[name]).get("ask", ())
                forms += [PLACE.sub(" ", a) for a in ([ask] if isinstance(ask, str) else ask)]
            elif kind != "look":
                forms.append(
                    self._entry(slots[name], "plural") if function in ("many", "names") else self._entry(slots[name])
                )
        return forms
