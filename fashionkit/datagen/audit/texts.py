"""What the words of a question set give away: answers that stand in questions, telling lengths, repeats, old wording.

    block of pictures ─► batches ─► questions, once in words (`asked`) ─┬─► holds the answer or what says it?
                            ├─► programs of choices: is the longer      ├─► hash in the paraphrase split, too?
                            │   option the right one?                   └─► (picture, hash) ─► sorted: twice?
                            └─► wording kept for another split?                                  │
                                          those samples again, letter by letter: one answer or two?

All samples are looked at. A block is one part of each split: parts of equal number hold the same pictures, so a
picture's questions are never in two blocks (which is checked, too). Memory holds a batch, eight bytes for each sample
of a block, and the questions that were met before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.audit.asked import Part, Questions, Rows
from fashionkit.datagen.audit.options import AuditOptions
from fashionkit.datagen.audit.verdicts import Verdict, at_most
from fashionkit.datagen.audit.wording import distinct, folded, in_words, questions_of
from fashionkit.datagen.counter import mix, stream
from fashionkit.datagen.samples import PARAPHRASE, SAMPLE_SPLITS, SLOTS, sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.engine import run_shards

Array = npt.NDArray[Any]
Say = Callable[[str], None]
Block = tuple[Part, ...]

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
    questions = Questions(store)
    held = [(PARAPHRASE, path) for path in sample_files(store.path, PARAPHRASE)]
    show: dict[str, Any] = {"initializer": _adopt, "initargs": (questions,)}
    heard = np.concatenate([np.zeros((0, 2), np.uint64), *run_shards(_hear, held, workers, **show)])
    questions.heard = np.ascontiguousarray(heard[np.unique(heard[:, 0], return_index=True)[1]].T)
    say(f"{questions.heard.shape[1]:,} texts of the split {PARAPHRASE!r}")
    show |= {"describe": "reading texts", "total_rows": len(store), "rows": lambda found: found.rows}
    parts = run_shards(_look, list(enumerate(blocks_of(store))), workers, **show)
    found, pictures = Found.of(store), [np.zeros(0, np.int64)]
    for part in sorted(parts, key=lambda found: found.block):
        found.add(part)
        pictures.append(part.pictures)
    several = np.concatenate(pictures)
    torn = len(several) - len(np.unique(several))
    verdicts = [*_in_question(store, found), *_lengths(store, found, options), *_repeats(found, torn)]
    return [*verdicts, *_wording(found)]


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
    def of(store: VQAStore, block: int = 0) -> Found:
        """Nothing seen yet."""
        templates = len(store.pack.templates)
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


_questions: Questions | None = None


def _adopt(questions: Questions) -> None:
    global _questions
    _questions = questions


def _current() -> Questions:
    assert _questions is not None, "a task runs where no questions were adopted"
    return _questions


def _hear(part: Part) -> Array:
    return _current().hashes_of(part)


def blocks_of(store: VQAStore) -> list[Block]:
    """The parts of all splits, those of one number together."""
    blocks: dict[str, list[Part]] = {}
    for split in SAMPLE_SPLITS:
        for path in sample_files(store.path, split):
            blocks.setdefault(path.name, []).append((split, path))
    return [tuple(blocks[name]) for name in sorted(blocks)]


def _look(task: tuple[int, Block]) -> Found:
    """Everything about one block."""
    questions, (number, block) = _current(), task
    found, keys = Found.of(questions.store, number), [np.zeros(0, np.uint64)]
    there = np.zeros(questions.facts.images, bool)
    for part in block:
        for rows in questions.read(part):
            asked = questions.ask(rows)
            found.rows += len(asked)
            there[rows["image"]] = True
            keys.append(_keys(questions, rows, asked))
            _count_leaks(questions, rows, asked, found)
            _count_lengths(questions, rows, found)
            _count_wording(questions, rows, questions.repeats.take(asked), found)
    found.pictures = np.flatnonzero(there)
    key = np.concatenate(keys)
    del keys
    key.sort()
    twice = key[1:][key[1:] == key[:-1]]
    if len(twice):
        _count_repeats(questions, block, np.unique(twice), found)
    return found


def _keys(questions: Questions, rows: Rows, asked: Array) -> Array:
    """(n,) uint64: a hash of each row's picture and text."""
    return questions.code.take(asked) + mix(stream(2, "picture"), rows["image"])


def _examples(questions: Questions, rows: Rows, at: Array) -> list[str]:
    """The first of some rows, in words."""
    at = at[:EXAMPLES]
    return in_words(questions.store, rows, at, [SAMPLE_SPLITS[split] for split in rows["split"][at].tolist()])


def _count_leaks(questions: Questions, rows: Rows, asked: Array, found: Found) -> None:
    """Samples of open templates, and those of which the question says the answer."""
    some, bad = questions.answer(rows, asked)
    template = rows["template"][some]
    for column, kinds in enumerate((template[bad], template)):
        found.leaks[:, column] += np.bincount(kinds, minlength=len(found.leaks))
    for number in np.unique(template[bad]).tolist():
        found.tell("leak", number, _examples(questions, rows, some[bad & (template == number)]))


def _count_lengths(questions: Questions, rows: Rows, found: Found) -> None:
    """Programs of choices by template: how often the longer option is right."""
    choice, options = questions.facts.choice, questions.facts.options
    at = np.flatnonzero(choice.take(rows["template"]) & rows["first"] & (rows["split"] != HELD))
    template, answer = rows["template"][at], rows["answer"][at]
    slots = np.stack([rows[f"slot{i}"][at] for i in range(SLOTS)])
    one, two = (slots[options[:, k].take(template), np.arange(len(at))] for k in (0, 1))
    letters = np.array([len(text) for text in questions.store.vocab.text])
    apart = letters.take(one) - letters.take(two)
    valid = (apart != 0) & ((answer == one) | (answer == two))
    right = valid & (answer == np.where(apart > 0, one, two))
    for column, mask in enumerate((right, valid)):
        found.longer[:, column] += np.bincount(template[mask], minlength=len(found.longer))


def _count_wording(questions: Questions, rows: Rows, heard: Array, found: Found) -> None:
    """Samples by split: in a wording that is kept for another split, or with a text of the paraphrase split."""
    split = rows["split"]
    held = questions.held[rows["template"], rows["paraphrase"]]
    for column, mask in enumerate((held != (split == HELD), heard & (split != HELD), np.ones(len(split), bool))):
        found.wording[:, column] += np.bincount(split[mask], minlength=len(SAMPLE_SPLITS))
        for number in np.unique(split[mask]).tolist() if column < 2 else ():
            some = np.flatnonzero(mask & (split == number))
            found.tell(("form", "text")[column], number, _examples(questions, rows, some))


def _count_repeats(questions: Questions, block: Block, twice: Array, found: Found) -> None:
    """Samples whose picture and text were there before, and pictures and texts with several answers.

    Args:
        twice: Ascending keys (`_keys`) that several samples of the block have.
    """
    parts: list[Rows] = []
    for part in block:
        for rows in questions.read(part):
            key = _keys(questions, rows, questions.ask(rows))
            place = np.minimum(np.searchsorted(twice, key), len(twice) - 1)
            at = np.flatnonzero(twice[place] == key)
            parts.append({name: column[at] for name, column in rows.items()})
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    at, question, _ = questions.distinct(rows)
    text = folded(questions_of(questions.store, rows, at)).dictionary_encode().indices.to_numpy().take(question)
    _, group, _ = distinct([rows["image"], text], [questions.facts.images, len(at)])
    size = np.bincount(group)
    found.doubled = int((size - 1).sum())
    answers, _, _ = distinct([group, questions.same.take(rows["answer"])], [len(size), questions.facts.vocab])
    many = np.bincount(group[answers]) > 1
    found.contradicted = int(many.sum())
    for check, groups in (("double", size > 1), ("contradiction", many)):
        some = np.flatnonzero(groups.take(group))
        found.tell(check, 0, _examples(questions, rows, some[np.argsort(group[some], kind="stable")]))


# Verdicts.


def _note(found: Found, check: str, scope: int) -> str:
    return "; ".join(found.examples.get((check, scope), ()))


def _in_question(store: VQAStore, found: Found) -> Iterator[Verdict]:
    if not found.leaks[:, 1].any():
        yield Verdict("answer-in-question", "the set", "skip", note="no template has an open answer")
    for number in np.flatnonzero(found.leaks[:, 1]).tolist():
        bad, n = found.leaks[number].tolist()
        scope = store.pack.templates[number].id
        yield at_most("answer-in-question", scope, float(bad), 0.0, n, _note(found, "leak", number))


def _lengths(store: VQAStore, found: Found, options: AuditOptions) -> Iterator[Verdict]:
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
        yield at_most("option-length", store.pack.templates[number].id, off, options.option_length, n, note)


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
