"""Questions that people wrote, in the form in which those of a question set are answered and judged.

    CSV: question_id, image_id, question, answer (alternatives with | between them), kind ─► checked row by row
      ─► `HumanQuestions`, in the place of `fashionkit.eval.vqa_questions.Questions`

An answer is right where its text is one of the alternatives. What such a question allows is known only where it asks
for yes or no; nobody but its writer can say which other answers would make sense.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fashionkit.catalog.mapping import TableSpec
from fashionkit.catalog.tabular import CsvSource, open_table
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, YES
from fashionkit.eval.vqa_asked import BINARY, Asked, Asking, plain_text
from fashionkit.eval.vqa_questions import QUESTIONS, Part, groups_of
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
HUMAN, OPEN = "human", "open"
NEEDED = ("question_id", "image_id", "question", "answer")
BETWEEN = "|"
YES_OR_NO = Asked(BINARY, "", {"yes": YES, "no": NO})


@dataclass(frozen=True)
class _Row:
    """A question, as its line has it."""

    line: int
    name: str
    image: int
    question: str
    answers: tuple[str, ...]
    kind: str


class HumanQuestions:
    """Questions of a CSV file about pictures of a question set, ordered by picture.

    Args:
        store: The question set. path: The file.

    Attributes:
        image: (n,) numbers of the pictures, in groups. split: `human`.

    Raises:
        InputError: No such file, a column that is missing, or a row that cannot be used; names file, row and column.
    """

    def __init__(self, store: VQAStore, path: str | Path):
        self.store, self.path, self.split = store, Path(path), HUMAN
        self.image_ids, self._asking = store.image_ids, Asking(store)
        rows = _read(self.path, {name: number for number, name in enumerate(self.image_ids)})
        self._rows = sorted(rows, key=lambda row: (row.image, row.line))
        self.image: Array = np.array([row.image for row in self._rows], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def key(self) -> str:
        """SHA-256 of the questions."""
        return hashlib.sha256(repr(self._rows).encode()).hexdigest()

    def part(self, lo: int, hi: int) -> Part:
        """Rows `lo` to `hi` - 1."""
        rows = self._rows[lo:hi]
        group = groups_of(self.store).take(pa.array([row.image for row in rows], pa.int32()))
        binary = [{plain_text(one) for one in row.answers} <= {"yes", "no"} for row in rows]
        columns = {
            "qid": [row.line for row in rows],
            "source": [None] * len(rows),
            "question_id": [row.name for row in rows],
            "image_id": [self.image_ids[row.image] for row in rows],
            "group": group,
            "family": [HUMAN] * len(rows),
            "template": [row.kind for row in rows],
            "attribute": [""] * len(rows),
            "kind": [BINARY if one else OPEN for one in binary],
            "question": [row.question for row in rows],
            "answer_id": [self._asking.id_of(row.answers[0], None) for row in rows],
            "answer": [BETWEEN.join(row.answers) for row in rows],
        }
        asked = [YES_OR_NO if one else None for one in binary]
        return Part(pa.table(columns, schema=QUESTIONS), [row.answers for row in rows], list(asked))

    @property
    def asking(self) -> Asking:
        """Finds vocabulary ids of answers."""
        return self._asking


def _read(path: Path, pictures: dict[str, int]) -> list[_Row]:
    source = open_table(path, TableSpec(delimiter=","))
    if not isinstance(source, CsvSource):
        raise InputError("questions of people are read from a CSV file", file=path, found=path.suffix)
    source.require(NEEDED)
    if source.broken:
        line, why = source.broken[0]
        raise InputError(why.detail, file=path, row=line, column=why.column, found=why.found)
    if not source.records:
        raise InputError("the file has no questions", file=path)
    rows, lines = [], dict[str, int]()
    for line, record in source.records:
        row = _row(path, line, {key: cell.strip() for key, cell in record.items()}, pictures)
        if row.name in lines:
            problem = f"the question_id stands in row {lines[row.name]}, too"
            raise InputError(problem, file=path, row=line, column="question_id", found=row.name)
        lines[row.name] = line
        rows.append(row)
    return rows


def _row(path: Path, line: int, cells: dict[str, str], pictures: dict[str, int]) -> _Row:
    for name in NEEDED:
        if not cells[name]:
            raise InputError("the cell is empty", file=path, row=line, column=name)
    if cells["image_id"] not in pictures:
        hint = "questions are asked about pictures that the question set knows"
        problem = "the set has no such picture"
        raise InputError(problem, file=path, row=line, column="image_id", found=cells["image_id"], hint=hint)
    answers = tuple(one.strip() for one in cells["answer"].split(BETWEEN))
    if not all(map(plain_text, answers)):
        problem = f"an alternative between `{BETWEEN}` is empty"
        raise InputError(problem, file=path, row=line, column="answer", found=cells["answer"])
    picture = pictures[cells["image_id"]]
    return _Row(line, cells["question_id"], picture, cells["question"], answers, cells.get("kind", ""))
