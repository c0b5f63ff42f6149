"""An independent, slow checker of question sets: is each sample right by docs/programs.md, and is the whole in balance?

    catalogue ─► Interpreter ─────────────────────────────────────┐
    samples, images, vocab, templates, packs/*.yaml ─► Questions ─┴─► check_one (drawn samples), check_all ─► findings

It shares no code with the engine (see `slow_interpreter`) and imports nothing of the package.

    python tests/datagen/slow_checker.py CATALOG QUESTIONS --n 600 --seed 0 --json report.json
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a script

from tests.datagen.slow_interpreter import Id, Interpreter, Pictures, parse, rows, without_one_filter

DEGENERATE_FAMILIES = ("B6", "C3", "C4", "C5")
TEST_SPLITS = ("test", "compositional", "paraphrase")  # all made of the test's pictures
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


@dataclass(frozen=True)
class Finding:
    """Something wrong: where, what kind, and the particulars."""

    kind: str
    split: str
    qid: int | None
    detail: str


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
        self.templates = {r["template"]: {**said[r["id"]], "stored": r["slots"], "texts": r["texts"]} for r in rows(folder, "templates")}
        self.programs = {n: parse(t["program"]) for n, t in self.templates.items()}
        self.by_id = {t["id"]: n for n, t in self.templates.items()}
        self.samples = list(self._samples(folder / "samples"))

    def _samples(self, folder: Path) -> Iterator[Sample]:
        names = ("qid", "image", "template", "paraphrase", "slot0", "slot1", "slot2", "slot3", "answer")
        width = {n: len(t["stored"]) for n, t in self.templates.items()}
        for part in sorted(folder.glob("*/part-*.parquet")):
            table = pq.read_table(part, partitioning=None)
            for row in zip(*(table[n].to_pylist() for n in names), strict=True):
                yield Sample(part.parent.name, *row[:4], row[4 : 4 + width[row[2]]], row[8])

    def family(self, s: Sample) -> str:
        """The family of a sample."""
        return str(self.templates[s.template]["family"])

    def slots(self, s: Sample) -> dict[str, Id]:
        """Slot → vocabulary entry, with the attribute slots that a value implies."""
        template = self.templates[s.template]
        found = {name: self.ids[number] for name, number in zip(template["stored"], s.slots, strict=True)}
        for name, spec in template["slots"].items():
            if "of" in spec and name in found:
                found.setdefault(spec["of"], ("attribute", found[name][1].split("/")[0]))
        return found

    def cell(self, s: Sample) -> tuple[Any, ...]:
        """The cell in which a sample's answer is balanced: the `cell` slots, all attribute slots, and the split."""
        template, slots = self.templates[s.template], self.slots(s)
        ids = [slots[n] for n in template["cell"] if n not in pair_slots(template)]
        attributes = sorted((n, slots[n]) for n, spec in template["slots"].items() if "attribute" in spec)
        return (s.split, *ids, *attributes)

    def held_out(self, s: Sample) -> bool:
        """Whether the sample's paraphrase is kept for the test."""
        text = self.templates[s.template]["text"][s.paraphrase]
        return isinstance(text, dict) and bool(text.get("held_out"))


def pair_slots(template: dict[str, Any]) -> tuple[str, ...]:
    """The two slots that a choice offers."""
    tree = parse(template["program"])
    return (tree[2], tree[4]) if tree[0] == "which" else ()


class Checker:
    """Checks of single samples against the interpreter, and of all samples against each other."""

    def __init__(self, catalog: Path, questions: Path) -> None:
        self.pictures = Pictures(catalog)
        self.questions = Questions(questions)
        self.run = Interpreter(self.pictures)
        self.words = self.pictures.words

    def draw(self, n: int, seed: int) -> list[Sample]:
        """`n` samples, equally many a family and within it a split; all of a stratum that is too small."""
        strata: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
        for s in self.questions.samples:
            strata[self.questions.family(s)][s.split].append(s)
        rng, chosen, left = random.Random(seed), [], n
        by_size = sorted(strata.values(), key=lambda splits: sum(map(len, splits.values())))
        for number, splits in enumerate(by_size):
            share, taken = math.ceil(left / (len(by_size) - number)), 0
            for place, members in enumerate(sorted(splits.values(), key=len)):
                part = rng.sample(members, min(len(members), math.ceil((share - taken) / (len(splits) - place))))
                chosen += part
                taken += len(part)
            left -= taken
        return chosen

    # One sample.

    def check_one(self, s: Sample) -> list[Finding]:
        """All that is wrong with a sample by itself."""
        image, slots = self.questions.images[s.image]["image_id"], self.questions.slots(s)
        found = [*self._answer(s, slots, image), *self._entailed(s, slots, image), *self._split(s, slots, image)]
        if self.questions.templates[s.template].get("leak", True) and (word := self.leak(s, slots)):
            found.append(("leak", f"{word!r} stands in the question"))
        if self.questions.family(s) in DEGENERATE_FAMILIES and len(self.pictures.items[image]) > 1:
            tree = self.questions.programs[s.template]
            for shorter in without_one_filter(tree):
                if self._same_answer(s, self.run.answer(shorter, slots, image)):
                    found.append(("degenerate", f"{shorter} gives the same answer"))
        if self.questions.family(s) == "N1":
            states = [self.run.holds(i, slots["cat"]) for i in self.pictures.items[image]]
            if any(state is not False for state in states) or not self.run.closed([slots["cat"]]):
                found.append(("n1_not_absent", f"{slots['cat'][1]} is not known to be absent"))
        return [Finding(kind, s.split, s.qid, f"{detail} | {self.describe(s)}") for kind, detail in found]

    def describe(self, s: Sample) -> str:
        """The sample in words: template, picture, slots, answer, and the items of the picture."""
        image = self.questions.images[s.image]["image_id"]
        slots = ", ".join(f"{n}={key}" for n, (_, key) in self.questions.slots(s).items())
        items = "; ".join(f"{i.category} {({a: r[:2] for a, r in i.stated.items()})}" for i in self.pictures.items[image])
        name = self.questions.templates[s.template]["id"]
        return f"{name}({slots}) of {image} answers {self.questions.ids[s.answer][1]!r}; items: {items}; labels: {self.pictures.labels[image]}"

    def _same_answer(self, s: Sample, answer: Any) -> bool:
        if answer and answer[0] == "set":
            return answer[1] == (self.questions.members[s.answer] or {self.questions.ids[s.answer][1]})
        return bool(answer == self.questions.ids[s.answer])

    def _answer(self, s: Sample, slots: dict[str, Id], image: str) -> Iterator[tuple[str, str]]:
        answer = self.run.answer(self.questions.programs[s.template], slots, image)
        if answer is None:
            yield "unsettled", "the tables do not settle it"
        elif not self._same_answer(s, answer):
            yield "wrong_answer", f"expected {answer}"
        for attribute in {key.split("/")[0] for kind, key in slots.values() if kind in ("attribute", "value")}:
            if not self.words.attributes[attribute].get("visible", True):
                yield "invisible", f"a picture cannot show {attribute}"

    def _entailed(self, s: Sample, slots: dict[str, Id], image: str) -> Iterator[tuple[str, str]]:
        """What the pack says follows from a sample must not be contradicted by the tables."""
        mine = {**slots, "answer": self.questions.ids[s.answer]}
        for rule in self.questions.templates[s.template].get("entails", ()):
            if mine["answer"] == ("answer", "not_present") and "answer" in rule["slots"].values():
                continue
            there = {name: mine[source] for name, source in rule["slots"].items()}
            answer = self.run.answer(self.questions.programs[self.questions.by_id[rule["template"]]], there, image)
            said = {True: "yes", False: "no"}.get(rule["answer"], rule["answer"])  # YAML reads a bare yes as true
            if said == "opposite":
                said = {"yes": "no", "no": "yes"}[mine["answer"][1]]
            if answer is not None and answer != ("answer", said):
                yield "entailment", f"{rule} but it is {answer}"

    def _split(self, s: Sample, slots: dict[str, Id], image: str) -> Iterator[tuple[str, str]]:
        split, group = self.pictures.splits[image]
        listed = self.questions.images[s.image]
        if (listed["split"], listed["group"]) != (split, group):
            yield "wrong_split", f"the images table says {listed['split']}, the catalogue {split}"
        if split != ("test" if s.split in TEST_SPLITS else s.split):
            yield "wrong_split", f"a picture of {split}"
        if self.questions.held_out(s) != (s.split == "paraphrase"):
            yield "paraphrase", "held out for the split `paraphrase`, or asked there without being so"
        named = {*slots.values(), self.questions.ids[s.answer]}
        kept = [p for p in self.pictures.kept_apart if ("category", p[0]) in named and ("value", p[1]) in named]
        if kept and s.split != "compositional":
            yield "composition", f"{kept} are kept for the split `compositional`"
        if not kept and s.split == "compositional":
            yield "composition", "names no pair that is kept apart"

    # Held answers, over the words of a plain renderer.

    def leak(self, s: Sample, slots: dict[str, Id]) -> str | None:
        """A form of the answer that stands in the words of the question."""
        text = self.questions.templates[s.template]["texts"][s.paraphrase]
        words = PLACE.sub(lambda m: " | ".join(["", *self._place(m.group(1), slots), ""]), text)
        line = " ".join(re.findall(r"[\w/-]+|\|", words.lower()))
        return next((f for f in self._answer_forms(s) if f" {f.lower()} " in f" {line} "), None)

    def _answer_forms(self, s: Sample) -> list[str]:
        keys = sorted(self.questions.members[s.answer]) if self.questions.members[s.answer] else [self.questions.ids[s.answer][1]]
        kind = "value" if self.questions.members[s.answer] else self.questions.ids[s.answer][0]
        if kind not in ("value", "category", "region"):
            return []
        return [f for key in keys for f in (self._entry((kind, key), "name"), *self._data((kind, key)).get("synonyms", ()))]

    def _data(self, said: Id) -> dict[str, Any]:
        kind, key = said
        if kind == "value":
            attribute, value = key.split("/", 1)
            return dict(self.words.attributes[attribute]["values"][value])
        return dict({"category": self.words.categories, "region": self.words.regions, "attribute": self.words.attributes}[kind][key])

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
            predicate = function.startswith(("ask", "say")) and number == len(names) - 1
            if kind == "value":
                forms.append(self._entry(slots[name], *(("pred", "name") if predicate else ("adj", "with") if "adj" in self._data(slots[name]) or "with" in self._data(slots[name]) else ("name",))))
            elif kind == "region":
                forms.append(self._entry(slots[name], "worn", "phrase") if function == "worn" else self._entry(slots[name]))
            elif kind == "attribute" and function == "query":
                ask = self._data(slots[name]).get("ask", ())
                forms += [PLACE.sub(" ", a) for a in ([ask] if isinstance(ask, str) else ask)]
            elif kind != "look":
                forms.append(self._entry(slots[name], "plural") if function in ("many", "names") else self._entry(slots[name]))
        return forms

    # All samples.

    def check_all(self) -> list[Finding]:
        """What can only be seen over the whole set."""
        return [*self._unique(), *self._groups(), *self._balance(), *self._ties(), *self._shares()]

    def _unique(self) -> Iterator[Finding]:
        qids: set[int] = set()
        asked: set[tuple[Any, ...]] = set()
        for s in self.questions.samples:
            if s.qid in qids:
                yield Finding("qid", s.split, s.qid, "given to two samples")
            if s[2:6] in asked:
                yield Finding("duplicate", s.split, s.qid, self.describe(s))
            qids.add(s.qid)
            asked.add(s[2:6])

    def _groups(self) -> Iterator[Finding]:
        """No group of pictures is asked about on two sides, and no picture too often."""
        sides: dict[int, set[str]] = defaultdict(set)
        many: Counter[int] = Counter()
        for s in self.questions.samples:
            group = self.pictures.splits[self.questions.images[s.image]["image_id"]][1]
            sides[group].add("test" if s.split in TEST_SPLITS else s.split)
            many[s.image] += s.split != "paraphrase"
        for group, found in sides.items():
            if len(found) > 1:
                yield Finding("group", "+".join(sorted(found)), None, f"split group {group}")
        most = self.questions.params.get("per_image")
        for image, count in many.items():
            if most is not None and count > most:
                yield Finding("per_image", "", None, f"{count} samples of {self.questions.images[image]['image_id']}; {most} allowed")

    def _balance(self) -> Iterator[Finding]:
        """Yes and no, or the two options of a choice, are equally many within one in every cell."""
        cells: dict[tuple[Any, ...], Counter[Any]] = defaultdict(Counter)
        for s in self.questions.samples:
            template, slots = self.questions.templates[s.template], self.questions.slots(s)
            pair = tuple(sorted(slots[n] for n in pair_slots(template)))
            if template["balance"] == "choice" or s.answer in (1, 2):
                sides = pair or (("answer", "no"), ("answer", "yes"))
                cells[template["id"], sides, self.questions.cell(s)][self.questions.ids[s.answer]] += 1
        for (name, sides, cell), counts in cells.items():
            if abs(counts[sides[0]] - counts[sides[1]]) > 1:
                yield Finding("balance", cell[0], None, f"{name} {cell}: {dict(counts)}")

    def _ties(self) -> Iterator[Finding]:
        """A tied template has its share of both together in every cell, within rounding."""
        counts = Counter((self.questions.templates[s.template]["id"], self.questions.cell(s)) for s in self.questions.samples)
        for template in self.questions.templates.values():
            if template["balance"] != "tied":
                continue
            ratio = template["share"] / (1 - template["share"])
            cells = {cell for name, cell in counts if name in (template["id"], template["tie"])}
            if not any(counts[template["id"], cell] for cell in cells):
                continue
            for cell in cells:
                have, whole = counts[template["id"], cell], counts[template["tie"], cell]
                if abs(have - ratio * whole) > max(1, ratio):
                    detail = f"{template['id']} {cell}: {have} beside {whole} of {template['tie']}, {ratio * whole:.1f} wanted"
                    yield Finding("tie", cell[0], None, detail)

    def _shares(self) -> Iterator[Finding]:
        """No family is above its part of the whole."""
        options = self.questions.params.get("balance", {})
        cap = options.get("family_cap", 1.0) + options.get("slack", 0.0)
        families = Counter(self.questions.family(s) for s in self.questions.samples if s.split != "paraphrase")
        whole = sum(families.values())
        for family, count in families.items():
            if count > cap * whole + 1:
                yield Finding("family_share", "", None, f"{family} has {count} of {whole}")


def upper_bound(errors: int, n: int, alpha: float = 0.05) -> float:
    """One-sided Clopper-Pearson bound: the rate at which `errors` or fewer of `n` would be seen with chance `alpha`."""
    if errors >= n:
        return 1.0
    low, high = errors / n, 1.0
    for _ in range(60):
        p = (low + high) / 2
        logs = (math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p) for i in range(errors + 1))
        low, high = (p, high) if sum(map(math.exp, logs)) > alpha else (low, p)
    return high


def check(catalog: Path, questions: Path, n: int | None = 600, seed: int = 0) -> tuple[list[Finding], dict[str, Any]]:
    """Checks `n` drawn samples one by one (all where it is None) and the balance of all.

    Returns:
        The findings, and figures: samples checked a family, those with a fault, the bound of the rate at 95 %.
    """
    checker = Checker(catalog, questions)
    drawn = checker.questions.samples if n is None else checker.draw(n, seed)
    single = [f for s in drawn for f in checker.check_one(s)]
    wrong = len({f.qid for f in single})
    checked = Counter(checker.questions.family(s) for s in drawn)
    figures = {
        "samples": len(checker.questions.samples),
        "checked": len(drawn),
        "by_family": dict(sorted(checked.items())),
        "wrong": wrong,
        "rate_upper_95": upper_bound(wrong, len(drawn)) if drawn else 1.0,
    }
    findings = single + checker.check_all()
    figures["kinds"] = dict(Counter(f.kind for f in findings))
    return findings, figures


def main() -> int:
    """Prints findings and figures; 1 where there are findings."""
    parser = argparse.ArgumentParser(description="Checks a question set against its catalogue, independently of the engine.")
    parser.add_argument("catalog", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--n", type=int, default=600, help="samples checked one by one; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=3, help="findings printed of each kind")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    findings, figures = check(given.catalog, given.questions, given.n or None, given.seed)
    shown: Counter[str] = Counter()
    for f in findings:
        shown[f.kind] += 1
        if shown[f.kind] <= given.show:
            print(f"{f.kind} [{f.split} {f.qid}] {f.detail}")
    for key, value in figures.items():
        print(f"{key}: {value}")
    if given.json:
        given.json.write_text(json.dumps({**figures, "findings": [asdict(f) for f in findings]}, indent=1), encoding="utf-8")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
