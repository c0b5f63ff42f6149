"""What the words of a question set give away: answers that stand in questions, telling lengths, repeats, old wording.

    block of pictures ─► distinct (template, wording, slots) ─► text, folded ─┬─► holds the answer or a synonym?
         │                                                                    └─► hash ─┬─► in the paraphrase split?
         ├─► programs of choices: is the longer option the right one?                   │
         └─► (picture, hash) twice: with one answer or with two? ◄──────────────────────┘

All samples are looked at. Each distinct question of a block is put into words once; texts are then compared by hash
(`hashes`), and what seems to repeat is compared letter by letter. A block is one part of each split: parts of equal
number hold the same pictures, so a picture's questions are never in two blocks (which is checked, too).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fashionkit.datagen.audit.counts import Facts, facts_of, programs
from fashionkit.datagen.audit.options import AuditOptions
from fashionkit.datagen.audit.verdicts import Verdict, at_most
from fashionkit.datagen.audit.wording import distinct, folded, hashes, in_words, questions_of, words_of
from fashionkit.datagen.counter import mix, stream
from fashionkit.datagen.samples import PARAPHRASE, SAMPLE_SPLITS, SLOTS, sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.engine import run_shards
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
Say = Callable[[str], None]
Block = tuple[tuple[str, Path], ...]  # (split, part)
Rows = dict[str, Array]

FORMS = 256  # wordings of a template that a sample can tell apart
TEXTS = 1 << 17  # put into words at a time
EXAMPLES = 5
HELD = SAMPLE_SPLITS.index(PARAPHRASE)


def text_checks(
    store: VQAStore, options: AuditOptions, workers: int = 1, say: Say = lambda line: None
) -> list[Verdict]:
    """Looks at every question text of a set.

    Args:
        store: The set. options: Thresholds. workers: Processes. say: Gets a line about each step.

    Returns:
        Verdicts of `answer-in-question` (by template), `option-length` (by template), `duplicates`,
        `contradictions` and `held-out-wording` (by split).

    Raises:
        InputError: A part is damaged or names an id that its template cannot say.
    """
    job = job_of(store)
    held = sample_files(store.path, PARAPHRASE)
    show: dict[str, Any] = {"initializer": _adopt, "initargs": (job,)}
    heard = np.concatenate([np.zeros((0, 2), np.uint64), *run_shards(_heard, held, workers, **show)])
    job.heard = np.ascontiguousarray(heard[np.unique(heard[:, 0], return_index=True)[1]].T)
    say(f"{job.heard.shape[1]:,} held-out texts")
    blocks = blocks_of(store)
    show |= {"describe": "reading texts", "total_rows": len(store), "rows": lambda found: found.rows}
    parts = sorted(run_shards(_look, list(enumerate(blocks)), workers, **show), key=lambda found: found.block)
    found = Found.of(job.facts.templates)
    for part in parts:
        found.add(part)
    pictures = np.concatenate([np.zeros(0, np.int64), *(part.pictures for part in parts)])
    torn = len(pictures) - len(np.unique(pictures))
    verdicts = [*_in_question(job, found), *_lengths(job, found, options), *_repeats(found, torn)]
    return [*verdicts, *_wording(found)]


@dataclass
class Job:
    """What a worker needs.

    Attributes:
        store: The set. facts: Of its templates and words.
        told: (T,) bool: the question may not hold the answer. forms: (T,) number of wordings.
        held: (T, FORMS) bool: kept for the paraphrase split.
        kinds: (T, SLOTS) code of the kind of id that each stored slot holds. kind: (vocab,) code of each id.
        words: Answer id → what says it, folded. same: (vocab,) a number for each answer text.
        heard: (2, m) uint64: both hashes of each text of the paraphrase split, the first ones ascending.
    """

    store: VQAStore
    facts: Facts
    told: Array
    forms: Array
    held: Array
    kinds: Array
    kind: Array
    words: dict[int, tuple[str, ...]]
    same: Array
    heard: Array = field(default_factory=lambda: np.zeros((2, 0), np.uint64))


def job_of(store: VQAStore) -> Job:
    """What can be known before any sample is read."""
    templates, vocab = store.pack.templates, store.vocab
    facts = facts_of(store)
    held = np.zeros((len(templates), FORMS), bool)
    kinds = np.zeros((len(templates), SLOTS), np.int64)
    names = {name: number for number, name in enumerate(dict.fromkeys(["none", *vocab.kind]))}
    for row, (t, slots) in enumerate(zip(templates, store.slots, strict=True)):
        held[row, : len(t.paraphrases)] = [form.held_out for form in t.paraphrases]
        kinds[row, : len(slots)] = [names.get(t.slot(name).kind, -1) for name in slots]
    texts = folded(pa.array(vocab.text)).dictionary_encode()
    return Job(
        store=store,
        facts=facts,
        told=np.array([not (facts.binary[n] or facts.choice[n] or t.family == "N1") for n, t in enumerate(templates)]),
        forms=np.array([len(t.paraphrases) for t in templates]),
        held=held,
        kinds=kinds,
        kind=np.array([names[kind] for kind in vocab.kind]),
        words={n: words for n in range(len(vocab)) if (words := words_of(store, n))},
        same=texts.indices.to_numpy(),
    )


@dataclass
class Found:
    """What was seen of one or several blocks.

    Attributes:
        block, rows: Number and samples of the block. pictures: (p,) those it holds.
        leaks: (T, 2) samples of open templates: with the answer in the question, and in all.
        longer: (T, 2) programs of choices whose options differ in length: with the longer one right, and in all.
        doubled, contradicted: Samples beyond the first of a picture and text; pictures and texts with two answers.
        wording: (splits, 3) samples: wording of another split, text of the paraphrase split, all.
        examples: (check, template or split) → lines for people.
    """

    block: int
    rows: int
    pictures: Array
    leaks: Array
    longer: Array
    wording: Array
    doubled: int = 0
    contradicted: int = 0
    examples: dict[tuple[str, int], list[str]] = field(default_factory=dict)

    @staticmethod
    def of(templates: int, block: int = 0) -> Found:
        """Nothing seen yet."""
        wording = np.zeros((len(SAMPLE_SPLITS), 3), np.int64)
        leaks, longer = np.zeros((2, templates, 2), np.int64)
        return Found(block, 0, np.zeros(0, np.int64), leaks, longer, wording)

    def add(self, other: Found) -> None:
        """Takes in what another block shows; its pictures are left to the caller."""
        self.rows += other.rows
        self.leaks += other.leaks
        self.longer += other.longer
        self.wording += other.wording
        self.doubled += other.doubled
        self.contradicted += other.contradicted
        for place, lines in other.examples.items():
            self.tell(*place, lines)

    def tell(self, check: str, scope: int, lines: list[str]) -> None:
        """Keeps the first few examples."""
        known = self.examples.setdefault((check, scope), [])
        known += lines[: EXAMPLES - len(known)]


_job: Job | None = None


def _adopt(job: Job) -> None:
    global _job
    _job = job


def _current() -> Job:
    assert _job is not None, "a task runs where no job was adopted"
    return _job


def blocks_of(store: VQAStore) -> list[Block]:
    """The parts of all splits, those of one number together."""
    blocks: dict[str, list[tuple[str, Path]]] = {}
    for split in SAMPLE_SPLITS:
        for path in sample_files(store.path, split):
            blocks.setdefault(path.name, []).append((split, path))
    return [tuple(blocks[name]) for name in sorted(blocks)]


def _read(job: Job, block: Block) -> Rows:
    """All samples of a block: columns of ids, `split`, and `first` of each program's wordings."""
    parts: list[Rows] = []
    for split, path in block:
        for columns, first in programs(path, job.facts):
            _say_able(job, path, columns)
            number = np.full(len(first), SAMPLE_SPLITS.index(split), np.uint8)
            parts.append({**columns, "first": first, "split": number})
    names = list(parts[0]) if parts else []
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in names if name != "qid"}


def _say_able(job: Job, path: Path, columns: Rows) -> None:
    """Refuses wordings that a template does not have, and slots with ids of another kind than theirs."""
    template = columns["template"]
    forms = job.forms.take(template)
    if (columns["paraphrase"] >= forms).any():
        at = int(np.flatnonzero(columns["paraphrase"] >= forms)[0])
        problem = f"{job.store.pack.templates[template[at]].id} has the wordings 0 to {forms[at] - 1}"
        raise InputError(problem, file=path, column="paraphrase", found=int(columns["paraphrase"][at]))
    for number in range(SLOTS):
        name = f"slot{number}"
        wrong = job.kind.take(columns[name]) != job.kinds[:, number].take(template)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            t, names = job.store.pack.templates[template[at]], job.store.slots[template[at]]
            holds = f"{names[number]!r} of {t.id} holds a {t.slot(names[number]).kind}" if number < len(names) else ""
            problem = holds or f"{t.id} has {len(names)} slots"
            key = job.store.vocab.key[columns[name][at]]
            raise InputError(f"{problem}, and this is something else", file=path, column=name, found=key)


def _distinct_texts(job: Job, rows: Rows) -> tuple[Array, Array]:
    """(k,) a row of each distinct question, in order of templates, and (n,) the question of each row."""
    names = ["template", "paraphrase", *(f"slot{i}" for i in range(SLOTS))]
    limits = [job.facts.templates, FORMS, *[job.facts.vocab] * SLOTS]
    return distinct([rows[name] for name in names], limits)


def _examples(job: Job, rows: Rows, at: Array) -> list[str]:
    """The first of some rows, in words."""
    at = at[:EXAMPLES]
    return in_words(job.store, rows, at, [SAMPLE_SPLITS[split] for split in rows["split"][at].tolist()])


def _heard(path: Path) -> Array:
    """(m, 2) both hashes of the texts of one part."""
    job = _current()
    rows = _read(job, ((PARAPHRASE, path),))
    found = [np.zeros((0, 2), np.uint64)]
    if rows:
        index, _ = _distinct_texts(job, rows)
        for lo in range(0, len(index), TEXTS):
            texts = folded(questions_of(job.store, rows, index[lo : lo + TEXTS]))
            found.append(np.stack([hashes(texts, 0), hashes(texts, 1)], 1))
    return np.concatenate(found)


def _look(task: tuple[int, Block]) -> Found:
    """Everything about one block."""
    job, (number, block) = _current(), task
    found = Found.of(job.facts.templates, number)
    rows = _read(job, block)
    if not rows:
        return found
    found.rows = len(rows["image"])
    found.pictures = np.flatnonzero(np.bincount(rows["image"], minlength=job.facts.images))
    index, question = _distinct_texts(job, rows)
    pairs = _Pairs(job, rows, question)
    code, heard = np.zeros(len(index), np.uint64), np.zeros(len(index), bool)
    for lo in range(0, len(index), TEXTS):
        here = slice(lo, lo + TEXTS)
        texts = folded(questions_of(job.store, rows, index[here]))
        code[here] = hashes(texts, 0)
        heard[here] = _among(job.heard, texts, code[here])
        pairs.look(texts, lo)
    pairs.count(found)
    _count_lengths(job, rows, found)
    _count_wording(job, rows, heard.take(question), found)
    _count_repeats(job, rows, index, question, code, found)
    return found


def _among(heard: Array, texts: pa.Array, code: Array) -> Array:
    """(n,) bool: texts, whose first hash is given, of which both hashes stand in `heard`."""
    place = np.searchsorted(heard[0], code)
    found: Array = np.append(heard[0], 0)[place] == code
    found &= place < heard.shape[1]
    at = np.flatnonzero(found)
    found[at] = hashes(texts.take(pa.array(at)), 1) == heard[1, place[at]]
    return found


class _Pairs:
    """Distinct (question, answer) of the open templates of a block: does the text hold what says the answer?"""

    def __init__(self, job: Job, rows: Rows, question: Array) -> None:
        self.job, self.rows = job, rows
        self.open = np.flatnonzero(job.told.take(rows["template"]))
        pair = question[self.open] * job.facts.vocab + rows["answer"][self.open]
        pairs, self.at = np.unique(pair, return_inverse=True)
        self.question, self.answer = np.divmod(pairs, job.facts.vocab)
        self.bad = np.zeros(len(pairs), bool)

    def look(self, texts: pa.Array, lo: int) -> None:
        """Looks at the questions `lo` and on, whose texts are given."""
        first, last = np.searchsorted(self.question, [lo, lo + len(texts)])
        order = first + np.argsort(self.answer[first:last], kind="stable")
        answers, start = np.unique(self.answer[order], return_index=True)
        for answer, lower, upper in zip(answers.tolist(), start, [*start, len(order)][1:], strict=True):
            some = order[lower:upper]
            said = texts.take(pa.array(self.question[some] - lo))
            for word in self.job.words.get(answer, ()):
                self.bad[some] |= pc.match_substring(said, word).to_numpy(zero_copy_only=False)

    def count(self, found: Found) -> None:
        """Samples by template, and the first of those that are wrong."""
        template = self.rows["template"][self.open]
        wrong = self.open[self.bad.take(self.at)]
        found.leaks[:, 1] = np.bincount(template, minlength=len(found.leaks))
        found.leaks[:, 0] = np.bincount(self.rows["template"][wrong], minlength=len(found.leaks))
        for number in np.unique(self.rows["template"][wrong]).tolist():
            some = wrong[self.rows["template"][wrong] == number]
            found.tell("leak", number, _examples(self.job, self.rows, some))


def _count_lengths(job: Job, rows: Rows, found: Found) -> None:
    """Programs of choices by template: how often the longer option is right."""
    at = np.flatnonzero(job.facts.choice.take(rows["template"]) & rows["first"] & (rows["split"] != HELD))
    template, answer = rows["template"][at], rows["answer"][at]
    slots = np.stack([rows[f"slot{i}"][at] for i in range(SLOTS)])
    one, two = (slots[job.facts.options[:, k].take(template), np.arange(len(at))] for k in (0, 1))
    letters = np.array([len(text) for text in job.store.vocab.text])
    apart = letters.take(one) - letters.take(two)
    valid = (apart != 0) & ((answer == one) | (answer == two))
    right = valid & (answer == np.where(apart > 0, one, two))
    for column, mask in enumerate((right, valid)):
        found.longer[:, column] = np.bincount(template[mask], minlength=len(found.longer))


def _count_wording(job: Job, rows: Rows, heard: Array, found: Found) -> None:
    """Samples by split: in a wording that is kept for another split, or with a text of the paraphrase split."""
    split = rows["split"]
    held = job.held[rows["template"], rows["paraphrase"]]
    for column, mask in enumerate((held != (split == HELD), heard & (split != HELD), np.ones(len(split), bool))):
        found.wording[:, column] = np.bincount(split[mask], minlength=len(SAMPLE_SPLITS))
        for number in np.unique(split[mask]).tolist() if column < 2 else ():
            some = np.flatnonzero(mask & (split == number))
            found.tell(("form", "text")[column], number, _examples(job, rows, some))


def _count_repeats(job: Job, rows: Rows, index: Array, question: Array, code: Array, found: Found) -> None:
    """Samples whose picture and text were there before, and pictures and texts with several answers."""
    key = code.take(question)
    key += mix(stream(2, "picture"), rows["image"])
    ordered = np.sort(key)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return
    at = np.flatnonzero(np.isin(key, twice))
    asked, of = np.unique(question[at], return_inverse=True)  # now letter by letter
    text = folded(questions_of(job.store, rows, index[asked])).dictionary_encode().indices.to_numpy().take(of)
    _, group = distinct([rows["image"][at], text], [job.facts.images, len(asked)])
    size = np.bincount(group)
    found.doubled = int((size - 1).sum())
    answers, _ = distinct([group, job.same.take(rows["answer"][at])], [len(size), job.facts.vocab])
    many = np.bincount(group[answers]) > 1
    found.contradicted = int(many.sum())
    for check, groups in (("double", size > 1), ("contradiction", many)):
        some = np.flatnonzero(groups.take(group))
        found.tell(check, 0, _examples(job, rows, at[some[np.argsort(group[some], kind="stable")]]))


# Verdicts.


def _note(found: Found, check: str, scope: int) -> str:
    return "; ".join(found.examples.get((check, scope), ()))


def _in_question(job: Job, found: Found) -> Iterator[Verdict]:
    if not found.leaks[:, 1].any():
        yield Verdict("answer-in-question", "the set", "skip", note="no template has an open answer")
    for number in np.flatnonzero(found.leaks[:, 1]).tolist():
        bad, n = found.leaks[number].tolist()
        scope = job.store.pack.templates[number].id
        yield at_most("answer-in-question", scope, float(bad), 0.0, n, _note(found, "leak", number))


def _lengths(job: Job, found: Found, options: AuditOptions) -> Iterator[Verdict]:
    """The share of programs whose longer option is right, against one half.

    Either option of a pair is right equally often wherever a set is balanced, so the threshold holds for sets of any
    size, but for the odd program that cannot be divided.
    """
    kinds = np.flatnonzero(found.longer[:, 1]).tolist()
    if not kinds:
        yield Verdict("option-length", "the set", "skip", note="no choice has options of different lengths")
    for number in kinds:
        longer, n = found.longer[number].tolist()
        off = max(abs(longer - n / 2) - (n % 2) / 2, 0) / n
        note = f"the longer option is right in {longer / n:.4f}"
        yield at_most("option-length", job.store.pack.templates[number].id, off, options.option_length, n, note)


def _repeats(found: Found, torn: int) -> Iterator[Verdict]:
    if torn:
        note = f"{torn:,} pictures have samples in parts of different numbers, which are not compared with each other"
        yield at_most("duplicates", "pictures in several parts", float(torn), 0.0, found.rows, note)
    yield at_most("duplicates", "the set", float(found.doubled), 0.0, found.rows, _note(found, "double", 0))
    wrong = float(found.contradicted)
    yield at_most("contradictions", "the set", wrong, 0.0, found.rows, _note(found, "contradiction", 0))


def _wording(found: Found) -> Iterator[Verdict]:
    held = bool(found.wording[HELD, 2])
    for number, split in enumerate(SAMPLE_SPLITS):
        form, text, n = found.wording[number].tolist()
        if n:
            note = _note(found, "form", number)
            yield at_most("held-out-wording", f"wordings of {split}", float(form), 0.0, n, note)
        if n and held and number != HELD:
            yield at_most("held-out-wording", f"texts of {split}", float(text), 0.0, n, _note(found, "text", number))
    if not held:
        yield Verdict("held-out-wording", "texts", "skip", note=f"the set has no samples of the split {PARAPHRASE!r}")
