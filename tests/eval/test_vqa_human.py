"""People's questions: read with their alternatives, and each fault of a table told with file, row and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import YES
from fashionkit.eval.vqa_human import HumanQuestions
from fashionkit.tables import InputError

HEAD = "question_id,image_id,question,answer,kind\n"
GOOD = 'h1,p0001,"got this in navy, or not?",yes,yes/no\nh2,p0000,wot colour,navy|Navy Blue,colour\n'


def write(folder: Path, text: str | bytes, name: str = "human.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_questions_as_they_are_written(store: VQAStore, tmp_path: Path) -> None:
    asked = HumanQuestions(store, write(tmp_path, "\ufeff" + HEAD + GOOD))
    part = asked.part(0, 2)
    one, two = part.table.to_pylist()
    assert one["image_id"] == "p0000" and one["answer"] == "navy|Navy Blue" and one["kind"] == "open"
    assert part.right == [("navy", "Navy Blue"), ("yes",)] and part.asked[0] is None
    assert two["question"] == "got this in navy, or not?" and (two["qid"], two["question_id"]) == (2, "h1")
    assert two["kind"] == "yes/no" and two["answer_id"] == YES and part.asked[1] is not None
    assert two["template"] == "yes/no" and two["family"] == "human"
    other = HumanQuestions(store, write(tmp_path, HEAD + GOOD.replace("wot", "what")))
    assert other.key != asked.key


@pytest.mark.parametrize(
    ("text", "row", "column", "problem"),
    [
        ("question_id,image_id,question\nh1,p0001,what\n", None, None, "no such column"),
        (HEAD + GOOD + "h3,p9999,what is it,hat,type\n", 4, "image_id", "no such picture"),
        (HEAD + GOOD + "h1,p0001,what is it,hat,type\n", 4, "question_id", "stands in row 2, too"),
        (HEAD + "h1,p0001,  ,hat,type\n", 2, "question", "the cell is empty"),
        (HEAD + "h1,p0001,what,,type\n", 2, "answer", "the cell is empty"),
        (HEAD + "h1,p0001,what,hat||cap,type\n", 2, "answer", "is empty"),
        (HEAD + ",p0001,what,hat,type\n", 2, "question_id", "the cell is empty"),
        (HEAD + "h1,p0001,what,hat\n", 2, None, "4 cells and the header 5"),
        (HEAD + 'h1,p0001,"what,hat,type\n', 2, None, "does not end"),
        (HEAD.encode() + b"h1,p0001,wh\xff\xfet,hat,type\n", 2, None, "not UTF-8"),
        (HEAD, None, None, "no questions"),
        ("", None, None, "is empty"),
        ("question_id,image_id,question,answer,answer\n", None, None, "stands twice"),
    ],
)
def test_faults_are_named(
    store: VQAStore, tmp_path: Path, text: str | bytes, row: int | None, column: str | None, problem: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=problem) as told:
        HumanQuestions(store, path)
    assert (told.value.file, told.value.row, told.value.column) == (path, row, column)


def test_other_files_are_refused(store: VQAStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        HumanQuestions(store, tmp_path / "none.csv")
    with pytest.raises(InputError, match="from a CSV file"):
        HumanQuestions(store, write(tmp_path, '{"question_id": "a", "question": "b"}', "human.jsonl"))
    with pytest.raises(InputError, match="not a kind of table"):
        HumanQuestions(store, write(tmp_path, HEAD, "human.xlsx"))


def test_long_and_foreign_questions_are_taken_as_they_are(store: VQAStore, tmp_path: Path) -> None:
    long = "why " * 3000
    asked = HumanQuestions(store, write(tmp_path, f"{HEAD}h1,p0001,{long},no,x\nh2,p0001,これは何色ですか,青|blue,x\n"))
    texts = asked.part(0, 2).table["question"].to_pylist()
    assert texts == [long.strip(), "これは何色ですか"]


@pytest.mark.parametrize("name", ["products", "street"])
def test_the_questions_that_come_with_the_project_can_be_read(root: Path, name: str, store: VQAStore) -> None:
    """But for their pictures, which are not in this set."""
    with pytest.raises(InputError, match="no such picture") as told:
        HumanQuestions(store, root / "eval" / f"human_{name}.csv")
    assert told.value.row == 2
