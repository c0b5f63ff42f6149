"""What can be answered without looking: models that see only the question, judged on pictures they never learnt from.

    samples ─► Exam ─┬─► word n-grams ────────┐
                     ├─► slots, combined ─────┼─► right in val and test? ─► by picture group ─► interval ─► verdict
                     ├─► tiny transformer ────┘                                                    ▲
                     └─► table of the cells = chance ──────────────────────────────────────────────┘

A yes/no family may be answered right in `blind_binary` of cases, one of two in 1/2 + `blind_open`. An open family has a
most frequent answer by design (`temper`), so its chance is what a table of the balanced cells gets: it knows template,
asked attribute and cell, as training fills them, and nothing else. A model may exceed it by `blind_open`.

**How often a clean set fails.** Each model looks at each scope, up to some forty looks. All their intervals are made to
hold together with 95 % (see `metrics.intervals`), so a set with nothing to find fails in fewer than one of twenty
audits even at a threshold equal to its true accuracy; the thresholds lie two points above that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.audit.blind_exam import Exam, exam_of, key_of, most_frequent
from fashionkit.datagen.audit.blind_sample import draw_questions
from fashionkit.datagen.audit.blind_scopes import Scope
from fashionkit.datagen.audit.options import AuditOptions
from fashionkit.datagen.audit.verdicts import Verdict
from fashionkit.datagen.store import VQAStore
from fashionkit.metrics.intervals import Intervals, group_sums, intervals

Array = npt.NDArray[Any]
Say = Callable[[str], None]
FEWEST_GROUPS = 20  # of pictures; an interval from fewer says little
CLUE = 0.01  # gain over chance from which a template's note says which slots it comes from


def blind_checks(store: VQAStore, options: AuditOptions, seed: int = 0, say: Say = lambda line: None) -> list[Verdict]:
    """Trains the models and judges them: a verdict for each model and scope, and one to read for each template.

    Args:
        store: The set. options: Thresholds, and how many samples to use.
        seed: Of the choice of samples, first weights and resamples. say: Gets a line about each step.
    """
    from fashionkit.datagen.audit.blind_linear import guess_by_slots, guess_by_words  # these load torch
    from fashionkit.datagen.audit.blind_transformer import guess_by_transformer

    questions = draw_questions(store, options.model_samples, seed)
    judged = int(questions.judged.sum())
    say(f"question-only models: {len(questions) - judged:,} questions to learn from, {judged:,} to be judged on")
    exam = exam_of(store, questions)
    models: dict[str, Callable[[], Array]] = {
        "blind-ngram": lambda: guess_by_words(exam, store),
        "blind-slots": lambda: guess_by_slots(exam),
        "blind-transformer": lambda: guess_by_transformer(exam, seed, say),
    }
    guesses = {}
    for check, guess in models.items():
        guesses[check] = guess()
        say(f"{check}: learnt and judged")
    return judge(store, exam, guesses, options, seed)


@dataclass(frozen=True)
class Look:
    """One model at one scope or template: what is compared with what."""

    check: str
    scope: str
    templates: tuple[int, ...]
    limit: float  # of accuracy, or of the gain over chance
    open: bool


def judge(
    store: VQAStore, exam: Exam, guesses: dict[str, Array], options: AuditOptions, seed: int = 0
) -> list[Verdict]:
    """Verdicts on guesses, whoever made them.

    Args:
        store: The set. exam: What was asked. guesses: Check → (n,) guessed answers. options, seed: As above.
    """
    if not exam.questions.judged.any() or exam.questions.judged.all():
        note = "the set has no questions in train, or none in val and test"
        return [Verdict(check, "all families", "skip", note=note) for check in guesses]
    limits = {"yes/no": options.blind_binary, "choice": 0.5 + options.blind_open, "open": options.blind_open}
    bench = Bench(exam, guesses, len(store.pack.templates))
    by_scope, by_template = [], []
    for check, scope in itertools.product(guesses, exam.scopes):
        look = Look(check, scope.name, scope.templates, limits[scope.kind], scope.kind == "open")
        by_scope.append(look)
        by_template += [replace(look, scope=name, templates=of) for name, of in _wordings(store, exam, scope)]
    gates = bench.verdicts(by_scope, options.resamples, seed, together=True)
    read = bench.verdicts(by_template, options.resamples, seed, together=False)
    notes = {s.name: bench.clues(store, _wordings(store, exam, s)) for s in exam.scopes}
    told = {name: note for found in notes.values() for name, note in found.items()}
    for n, v in enumerate(gates):
        if v.verdict == "fail":
            gates[n] = replace(
                v, note="; ".join([v.note, *(f"{k}: {c}" for k, c in notes[v.scope].items())]).strip("; ")
            )
    return gates + [replace(v, verdict="info", note=v.note or told.get(v.scope, "")) for v in read]


def _wordings(store: VQAStore, exam: Exam, scope: Scope) -> list[tuple[str, tuple[int, ...]]]:
    """A scope's templates, those that ask in the same words together; each with its name."""
    q, found = exam.questions, dict[int, list[int]]()
    for template in scope.templates:
        found.setdefault(int(exam.wording[np.argmax(q.template == template)]), []).append(template)
    return [("+".join(store.pack.templates[t].id for t in some), tuple(some)) for some in found.values()]


def chance_guesses(exam: Exam) -> Array:
    """(n,) what a table of the cells answers, or of wording and asked attribute where training lacks the cell."""
    keys = [exam.cell, key_of(exam.wording, exam.asked)]
    return most_frequent(keys, exam.questions.answer, ~exam.questions.judged)


class Bench:
    """Right and wrong of every model on the judged questions, by picture group and template.

    Args:
        exam: What was asked. guesses: Check → (n,) guessed answers. templates: How many the pack has.
    """

    def __init__(self, exam: Exam, guesses: dict[str, Array], templates: int):
        q = exam.questions
        self.exam, rows = exam, q.judged
        self.template, self.group = q.template[rows], q.group[rows]

        def sums(guess: Array) -> tuple[Array, Array]:
            right = (guess == q.answer)[rows].astype(np.float64)
            return group_sums(right, self.group, self.template, templates)

        self.chance, self.counts = sums(chance_guesses(exam))  # (G, T) each
        self.right = {check: sums(guess)[0] for check, guess in guesses.items()}

    def verdicts(self, looks: list[Look], resamples: int, seed: int, together: bool) -> list[Verdict]:
        """A verdict for each look; intervals hold for all of them together, or each by itself."""
        counts = self._columns([self.counts[:, look.templates] for look in looks])
        groups = (counts > 0).sum(0)
        enough = [n for n in range(len(looks)) if groups[n] >= FEWEST_GROUPS]
        chosen = [looks[n] for n in enough]
        gains = self._columns([self._gain(look) for look in chosen])
        found: dict[int, Verdict] = {}
        if chosen:
            bounds = intervals(gains, counts[:, enough], resamples, seed, together=together)
            found = {n: self._verdict(looks[n], bounds, i, together) for i, n in enumerate(enough)}
        few = f"fewer than {FEWEST_GROUPS} groups of pictures to be judged on"
        return [
            found.get(n, Verdict(look.check, look.scope, "skip", n=int(counts[:, n].sum()), note=few))
            for n, look in enumerate(looks)
        ]

    def _columns(self, parts: list[Array]) -> Array:
        """(G, looks) sums of each look's templates."""
        sums = [part.sum(1) for part in parts]
        return np.stack(sums, axis=1) if sums else np.zeros((len(self.counts), 0))

    def _gain(self, look: Look) -> Array:
        """(G, t) right answers; of open questions, how many more than by chance."""
        at = list(look.templates)
        return self.right[look.check][:, at] - (self.chance[:, at] if look.open else 0)

    def _verdict(self, look: Look, bounds: Intervals, column: int, together: bool) -> Verdict:
        at = list(look.templates)
        n = int(self.counts[:, at].sum())
        chance = float(self.chance[:, at].sum()) / n if look.open else 0.0
        value, low, high = (float(x[column]) + chance for x in (bounds.value, bounds.low, bounds.high))
        threshold = look.limit + chance
        passed = low <= threshold
        note = f"chance is {chance:.4f}" if look.open and together else ""
        return Verdict(look.check, look.scope, "pass" if passed else "fail", value, threshold, low, high, n, note)

    def clues(self, store: VQAStore, wordings: list[tuple[str, tuple[int, ...]]]) -> dict[str, str]:
        """Name → which slots tell the answer, of those where they tell more than the cells do."""
        found = {name: self._clue(store, templates) for name, templates in wordings}
        return {name: note for name, note in found.items() if note}

    def _clue(self, store: VQAStore, templates: tuple[int, ...]) -> str:
        """The fewest slots that give most of what any table of them gives."""
        q, names = self.exam.questions, store.slots[templates[0]]
        rows = np.flatnonzero(np.isin(q.template, templates))
        slots, learnt, answer = self.exam.slots[rows], ~q.judged[rows], _sided(self.exam, rows)
        if not learnt.any() or learnt.all():
            return ""

        def accuracy(*key: Array) -> float:
            guess = most_frequent([key_of(*key), self.exam.cell[rows]], answer, learnt)
            return float((guess == answer)[~learnt].mean())

        base = accuracy(self.exam.cell[rows])
        some = [s for size in range(1, len(names) + 1) for s in itertools.combinations(range(len(names)), size)]
        found = [accuracy(self.exam.asked[rows], *slots[:, s].T) for s in some]
        best = max(found, default=base)
        if best < base + CLUE:
            return ""
        n = next(n for n, value in enumerate(found) if value >= base + 0.8 * (best - base))
        told = " + ".join(names[i] for i in some[n])
        return f"a table of {told} is right in {found[n]:.3f}, one of the cells in {base:.3f}"


def _sided(exam: Exam, rows: Array) -> Array:
    """(r,) answers; of choices which of the ordered options is right, so that tables can count it."""
    answer, options = exam.questions.answer[rows], exam.options[rows]
    choice = exam.scopes[exam.scope[rows[0]]].kind == "choice"
    return np.where(answer == options[:, 0], 1, 2) if choice else answer
