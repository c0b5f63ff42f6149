"""Verdicts read back from an export: the exact bound, and every way in which such a file can be wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fashionkit.datagen.report_verdicts import Judgement, by_family, read_verdicts, tally, upper_bound
from fashionkit.tables import InputError

SET = "ab" * 32
HEAD = "set,qid,verdict,comment\r\n"


def at_most(wrong: int, judged: int, share: float) -> float:
    """The binomial distribution, summed term by term."""
    return sum(math.comb(judged, k) * share**k * (1 - share) ** (judged - k) for k in range(wrong + 1))


@pytest.mark.parametrize(("wrong", "judged"), [(0, 1), (0, 200), (1, 30), (3, 200), (5, 10), (199, 200), (40, 60)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_the_bound_is_where_so_few_are_found_just_as_rarely(wrong: int, judged: int, level: float) -> None:
    bound = upper_bound(wrong, judged, level)
    assert at_most(wrong, judged, bound) == pytest.approx(1 - level, rel=1e-6)


def test_the_bound_of_none_is_the_closed_form() -> None:
    assert upper_bound(0, 200) == pytest.approx(1 - 0.05 ** (1 / 200))
    assert upper_bound(0, 10**6) == pytest.approx(-math.log(0.05) / 10**6, rel=1e-5)


def test_nothing_found_out_bounds_nothing() -> None:
    assert upper_bound(0, 0) == upper_bound(7, 7) == 1.0


@pytest.mark.parametrize(("wrong", "judged", "level"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 0.0)])
def test_what_is_no_share_is_refused(wrong: int, judged: int, level: float) -> None:
    with pytest.raises(ValueError, match="no share"):
        upper_bound(wrong, judged, level)


def test_verdicts_are_counted_as_a_whole_and_by_family() -> None:
    given = [Judgement(n, v) for n, v in enumerate(["right", "right", "wrong", "cannot_tell", "", "right"])]
    told = tally(given)
    assert (told.right, told.wrong, told.cannot_tell, told.judged) == (3, 1, 1, 5)
    assert told.bound == upper_bound(1, 4) and told.worst == upper_bound(2, 5)
    families = by_family(given, {n: "B1" if n < 3 else "C2" for n in range(6)} | {9: "N1"})
    assert [(f, t.right, t.wrong, t.cannot_tell) for f, t in families.items()] == [
        ("B1", 2, 1, 0), ("C2", 1, 0, 1), ("N1", 0, 0, 0),
    ]  # fmt: skip
    assert told.to_dict()["errors_at_most"] == told.bound


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "checked.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_csv_and_json_are_read_alike(tmp_path: Path) -> None:
    comment = 'a "b"; c,\nd é'
    quoted = comment.replace('"', '""')
    table = f'{HEAD}{SET},3,right,\r\n{SET},5,wrong,"{quoted}"\r\n{SET},7,,only said\r\n'
    rows = [
        {"qid": 3, "verdict": "right", "comment": ""},
        {"qid": 5, "verdict": "wrong", "comment": comment},
        {"qid": 7, "verdict": "", "comment": "only said"},
    ]
    wanted = [Judgement(3, "right"), Judgement(5, "wrong", comment), Judgement(7, "", "only said")]
    assert read_verdicts(written(tmp_path, table), SET, range(10)) == wanted
    assert read_verdicts(written(tmp_path, "\ufeff" + table), SET, range(10)) == wanted
    text = json.dumps({"set": SET, "verdicts": rows})
    assert read_verdicts(written(tmp_path, text), SET, range(10)) == wanted


def test_what_a_spreadsheet_makes_of_it_is_read(tmp_path: Path) -> None:
    table = f'\ufeffset;qid;verdict;comment;more\n{SET}; 3;right;"a, b";x\n'
    assert read_verdicts(written(tmp_path, table), SET, [3]) == [Judgement(3, "right", "a, b")]


def test_an_export_without_rows_is_read(tmp_path: Path) -> None:
    assert read_verdicts(written(tmp_path, HEAD), SET, [3]) == []
    assert read_verdicts(written(tmp_path, json.dumps({"set": SET, "verdicts": []})), SET, [3]) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["a column is missing", "found: set, qid, verdict, comment"]),
        ("set,qid,verdict\r\n", ["a column is missing", "found: comment"]),
        (f"{HEAD}{'cd' * 32},3,right,\r\n", ["row 2, column 'set'", "another question set"]),
        (
            f"{HEAD}{SET},3,right,\r\n{SET},4,good,\r\n",
            ["row 3, column 'verdict'", "found: good", "cannot_tell, right"],
        ),
        (f"{HEAD}{SET},3,right,\r\n{SET},3,right,\r\n", ["row 3, column 'qid'", "judged twice"]),
        (f"{HEAD}{SET},11,right,\r\n", ["column 'qid'", "found: 11", "not on the sheet", "--seed"]),
        (f"{HEAD}{SET},three,right,\r\n", ["whole number", "found: three"]),
        (f"{HEAD}{SET},-3,right,\r\n", ["whole number", "found: -3"]),
        (f"{HEAD}{SET},{'9' * 5000},right,\r\n", ["whole number"]),
        (f"{HEAD}{SET},3,right\r\n", ["row 2", "4 cells"]),
        (f"{HEAD}{SET},3,right,a,b\r\n", ["row 2", "4 cells"]),
        (f'{HEAD}{SET},3,right,"open\r\n', ["not CSV"]),
        (f"{HEAD}{SET},3,right,{'x' * 501}\r\n", ["at most 500 letters"]),
        (b"\xff\xfe\x00", ["not UTF-8"]),
        ("{", ["not JSON"]),
        ("[" * 100_000, ["not JSON"]),
        ("[]", ["`set` and a list `verdicts`"]),
        ('{"set": "x", "verdicts": [3]}', ["`set` and a list `verdicts`"]),
        (json.dumps({"verdicts": [{"qid": 3, "verdict": "right", "comment": ""}]}), ["another question set"]),
        (json.dumps({"set": SET, "verdicts": [{"qid": 3.5, "verdict": "right", "comment": ""}]}), ["whole number"]),
        (json.dumps({"set": SET, "verdicts": [{"qid": True, "verdict": "right", "comment": ""}]}), ["whole number"]),
        (json.dumps({"set": SET, "verdicts": [{"qid": 3, "verdict": ["right"], "comment": ""}]}), ["no such verdict"]),
        (json.dumps({"set": SET, "verdicts": [{"qid": 3, "verdict": "right"}]}), ["a comment is text"]),
    ],
)
def test_a_wrong_file_is_named_with_its_place(tmp_path: Path, text: Any, words: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as error:
        read_verdicts(path, SET, range(10))
    assert all(word in str(error.value) for word in [*words, str(path)]), error.value


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Export CSV"):
        read_verdicts(tmp_path / "none.csv", SET, [])
