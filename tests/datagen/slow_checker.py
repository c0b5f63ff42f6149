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
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a script

from tests.datagen.slow_entailment import follows, settled
from tests.datagen.slow_interpreter import Id, Interpreter, Pictures, Row, without_one_filter
from tests.datagen.slow_questions import PlainWords, Questions, Sample

DEGENERATE_FAMILIES = ("B6", "C3", "C4", "C5")
NOTHING = Row("unknown", (), False)
Pair = tuple[str, str]  # (category, attribute/value)
TEST_SPLITS = ("test", "compositional", "paraphrase")  # all made of the test's pictures


@dataclass(frozen=True)
class Finding:
    """Something wrong: where, what kind, and the particulars."""

    kind: str
    split: str
    qid: int | None
    detail: str


class Checker:
    """Checks of single samples against the interpreter, and of all samples against each other."""

    def __init__(self, catalog: Path, questions: Path) -> None:
        self.pictures = Pictures(catalog)
        self.questions = Questions(questions)
        self.run = Interpreter(self.pictures)
        self.words = self.pictures.words
        self.lack: dict[tuple[str, Id], int] = {}
        self.plain = PlainWords(self.questions, self.words)

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
        found = [*self._answer(s, slots, image), *self._entailed(s, image), *self._split(s, slots, image)]
        if self.questions.templates[s.template].get("leak", True) and (word := self.plain.leak(s, slots)):
            found.append(("leak", f"{word!r} stands in the question"))
        if self.questions.family(s) in DEGENERATE_FAMILIES and len(self.pictures.items[image]) > 1:
            for shorter in without_one_filter(self.questions.programs[s.template]):
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
        items = "; ".join(
            f"{i.category} { ({a: r[:2] for a, r in i.stated.items()}) }" for i in self.pictures.items[image]
        )
        name = self.questions.templates[s.template]["id"]
        answer = self.questions.ids[s.answer][1]
        return f"{name}({slots}) of {image} answers {answer!r}; {items}; labels: {dict(self.pictures.labels[image])}"

    def _same_answer(self, s: Sample, answer: Any) -> bool:
        if answer and answer[0] == "set":
            return bool(answer[1] == (self.questions.members[s.answer] or {self.questions.ids[s.answer][1]}))
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

    def _entailed(self, s: Sample, image: str) -> Iterator[tuple[str, str]]:
        """What the pack says follows from a sample must not be contradicted by the tables."""
        for f in follows(self.questions, self.run, s):
            answer = settled(self.run, self.questions, f, image)
            if answer is not None and answer != f.answer:
                yield "entailment", f"{f} but it is {answer}"

    def _split(self, s: Sample, slots: dict[str, Id], image: str) -> Iterator[tuple[str, str]]:
        split, group = self.pictures.splits[image]
        listed = self.questions.images[s.image]
        if (listed["split"], listed["group"]) != (split, group):
            yield "wrong_split", f"the images table says {listed['split']}, the catalogue {split}"
        if split != ("test" if s.split in TEST_SPLITS else s.split):
            yield "wrong_split", f"a picture of {split}"
        if self.questions.held_out(s) != (s.split == "paraphrase"):
            yield "paraphrase", "held out for the split `paraphrase`, or asked there without being so"
        must, may = self._kept_apart(s, slots, image)
        if must and s.split != "compositional":
            yield "composition", f"{sorted(must)} are kept for the split `compositional`"
        if not may and s.split == "compositional":
            yield "composition", "is about no pair that is kept apart"

    def _kept_apart(self, s: Sample, slots: dict[str, Id], image: str) -> tuple[set[Pair], set[Pair]]:
        """Pairs kept apart that a sample is about; and those with the leaves of all items, meant or not, beside."""
        self.run.answer(self.questions.programs[s.template], slots, image)
        ids, meant = {*slots.values(), self.questions.ids[s.answer]}, list(self.run.meant)
        values = {key for kind, key in ids if kind == "value"} | self.questions.members[s.answer]
        if self.questions.family(s) == "B6":  # the values compared
            attribute = slots["attr"][1]
            values |= {f"{attribute}/{v}" for i in meant for v in i.stated.get(attribute, NOTHING).values}
        named = {key for kind, key in ids if kind == "category"} | {i.category for i in meant}
        pairs = {p for p in self.pictures.kept_apart if p[1] in values}
        near = named | {i.category for i in self.pictures.items[image]}
        return {p for p in pairs if p[0] in named}, {p for p in pairs if p[0] in near}

    # All samples.

    def check_all(self) -> list[Finding]:
        """What can only be seen over the whole set."""
        return [*self._unique(), *self._groups(), *self._balance(), *self._order(), *self._ties(), *self._shares()]

    def _unique(self) -> Iterator[Finding]:
        qids: set[int] = set()
        asked: Counter[tuple[Any, ...]] = Counter()
        put: set[tuple[Any, ...]] = set()
        phrasings = self.questions.params.get("phrasings", 1)
        for s in self.questions.samples:
            if s.qid in qids:
                yield Finding("qid", s.split, s.qid, "given to two samples")
            program = (s.split == "paraphrase", s.image, s.template, s.slots)
            asked[program] += 1
            if (program, s.paraphrase) in put or asked[program] > phrasings:
                yield Finding("duplicate", s.split, s.qid, self.describe(s))
            qids.add(s.qid)
            put.add((program, s.paraphrase))

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
                yield Finding(
                    "per_image",
                    "",
                    None,
                    f"{count} samples of {self.questions.images[image]['image_id']}; {most} allowed",
                )

    def _balance(self) -> Iterator[Finding]:
        """Yes and no, or the two options of a choice, are equally many within one in every cell."""
        cells: dict[tuple[Any, ...], Counter[Any]] = defaultdict(Counter)
        for s in self.questions.samples:
            template, slots = self.questions.templates[s.template], self.questions.slots(s)
            pair = tuple(sorted(slots[n] for n in self.questions.pairs[s.template]))
            if template["balance"] == "choice" or s.answer in (1, 2):
                sides = pair or (("answer", "no"), ("answer", "yes"))
                cells[template["id"], sides, self.questions.cell(s)][self.questions.ids[s.answer]] += 1
        for (name, sides, cell), counts in cells.items():
            if abs(counts[sides[0]] - counts[sides[1]]) > 1:
                yield Finding("balance", cell[0], None, f"{name} {cell}: {dict(counts)}")

    def _order(self) -> Iterator[Finding]:
        """The right option stands first as often as second, within four standard deviations."""
        first: dict[str, list[int]] = defaultdict(list)
        for s in self.questions.samples:
            template = self.questions.templates[s.template]
            if (pair := self.questions.pairs[s.template]) and s.split != "paraphrase":
                first[template["id"]].append(self.questions.ids[s.answer] == self.questions.slots(s)[pair[0]])
        for name, places in first.items():
            if abs(sum(places) - len(places) / 2) > 2 * math.sqrt(len(places)):
                yield Finding("option_order", "", None, f"{name}: {sum(places)} of {len(places)} answers stand first")

    def _ties(self) -> Iterator[Finding]:
        """A tied template has its share of both together in every cell, within one for each answer that it has."""
        counts = Counter(
            (self.questions.templates[s.template]["id"], self.questions.cell(s)) for s in self.questions.samples
        )
        for template in self.questions.templates.values():
            if template["balance"] != "tied" or not any(name == template["id"] for name, _ in counts):
                continue
            ratio = template["share"] / (1 - template["share"])
            absent = template["family"] == "N1"
            for cell in {cell for name, cell in counts if name in (template["id"], template["tie"])}:
                have, whole = counts[template["id"], cell], counts[template["tie"], cell]
                if abs(have - ratio * whole) <= (1 if absent else 2):
                    continue
                if absent and not have and self._lacking(cell) < 3 * ratio * whole:
                    continue  # hardly any picture lacks it; what is asked for is kept without its share of absences
                detail = f"{template['id']} {cell}: {have} beside {whole}, {ratio * whole:.1f} wanted"
                yield Finding("tie", cell[0], None, detail)

    def _lacking(self, cell: tuple[Any, ...]) -> int:
        """How many pictures of the cell's split are known to lack its category."""
        split, category = cell[:2]
        # What is absent has no value, so it makes no pair that is kept apart.
        if split == "compositional" or not self.run.closed([category]):
            return 0
        if (split, category) not in self.lack:
            mine = "test" if split in TEST_SPLITS else split
            listed = [self.pictures.items[i] for i, (where, _) in self.pictures.splits.items() if where == mine]
            known = [all(self.run.holds(i, category) is False for i in items) for items in listed]
            self.lack[split, category] = sum(known)
        return self.lack[split, category]

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
        logs = (
            math.lgamma(n + 1)
            - math.lgamma(i + 1)
            - math.lgamma(n - i + 1)
            + i * math.log(p)
            + (n - i) * math.log1p(-p)
            for i in range(errors + 1)
        )
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


def main(arguments: list[str] | None = None) -> int:
    """Prints findings and figures; 1 where there are findings."""
    parser = argparse.ArgumentParser(
        description="Checks a question set against its catalogue, independently of the engine."
    )
    parser.add_argument("catalog", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--n", type=int, default=600, help="samples checked one by one; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=3, help="findings printed of each kind")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    findings, figures = check(given.catalog, given.questions, given.n or None, given.seed)
    shown: Counter[str] = Counter()
    for f in findings:
        shown[f.kind] += 1
        if shown[f.kind] <= given.show:
            print(f"{f.kind} [{f.split} {f.qid}] {f.detail}")
    for key, value in figures.items():
        print(f"{key}: {value}")
    if given.json:
        given.json.write_text(
            json.dumps({**figures, "findings": [asdict(f) for f in findings]}, indent=1), encoding="utf-8"
        )
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
