"""The audit on the page: read with care, failures first and open, stale ones called so."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fashionkit.datagen.audit.verdicts import Verdict
from fashionkit.datagen.report_audit import MOST, AuditFile, audit_part, read_audit
from fashionkit.tables import InputError

EVIL = '"><script>alert(1)</script>'
SET = "ab" * 32
FAILED = Verdict("majority", "B1.exist", "fail", 0.6, 0.52, 0.58, 0.62, 1234, "too many")
PASSED = Verdict("majority", "B2.verify", "pass", 0.5, 0.52, n=99)
OTHER = Verdict("blind", "B1", "skip", note="left out")


def data(*verdicts: Verdict, **more: Any) -> dict[str, Any]:
    return {"set": SET, "passed": not any(v.verdict == "fail" for v in verdicts), "options": {},
            "verdicts": [asdict(v) for v in verdicts], **more}  # fmt: skip


def written(folder: Path, content: Any) -> Path:
    (folder / "audit.json").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def test_an_audit_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = data(FAILED, PASSED, OTHER, left_out=["blind"], loosened=["majority_binary"])
    found = read_audit(written(tmp_path, content))
    assert found is not None and found.verdicts == (FAILED, PASSED, OTHER) and not found.passed and found.content == SET
    assert [note.split(": ")[1] for note in found.notes] == ["blind", "majority_binary"]


def test_a_later_version_may_say_more(tmp_path: Path) -> None:
    content = data(PASSED)
    content["verdicts"][0]["colour"] = "blue"
    found = read_audit(written(tmp_path, content))
    assert found is not None and found.verdicts == (PASSED,)


def test_no_audit_is_no_error(tmp_path: Path) -> None:
    assert read_audit(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        "{", "[]", "{}", "\x00", json.dumps({"set": SET}), json.dumps({"set": 3, "passed": True, "verdicts": []}),
        json.dumps({"set": SET, "passed": "yes", "verdicts": []}), json.dumps({"set": SET, "passed": True}),
        json.dumps({"set": SET, "passed": True, "verdicts": [3]}),
        json.dumps({"set": SET, "passed": True, "verdicts": [{"check": "a", "scope": "b"}]}),
        json.dumps(data(PASSED)).replace('"pass"', '"fine"'),
        json.dumps(data(PASSED)).replace("0.5,", '"much",'),
        json.dumps(data(PASSED)).replace("99", "true"),
        json.dumps(data(OTHER)).replace('"left out"', "7"),
    ],
)  # fmt: skip
def test_a_damaged_audit_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="the audit is damaged") as error:
        read_audit(written(tmp_path, content))
    assert "audit.json" in str(error.value) and "datagen audit" in str(error.value)


def part(*verdicts: Verdict, content: str = SET, notes: tuple[str, ...] = ()) -> str:
    passed = not any(v.verdict == "fail" for v in verdicts)
    return audit_part(AuditFile(content, passed, verdicts, notes), SET, "run it")


def test_a_set_without_audit_says_how_to_run_it() -> None:
    made = audit_part(None, SET, "fashionkit datagen audit X")
    assert "has not been audited" in made and "<code>fashionkit datagen audit X</code>" in made


def test_failures_come_first_and_open() -> None:
    made = part(PASSED, OTHER, FAILED, notes=("Left out: x",))
    assert "The bias gate failed: 1 failed, 1 passed, 1 left out" in made and "Left out: x" in made
    assert made.index("B1.exist") < made.index("B2.verify") and "Stale" not in made
    assert len(re.findall("<details open>", made)) == 1 and len(re.findall("<details", made)) == 2
    assert "0.6000" in made and "0.5200" in made and "0.5800 – 0.6200" in made and "1,234" in made
    assert "The bias gate passed: 1 passed." in part(PASSED)


def test_an_audit_of_another_state_is_stale() -> None:
    made = part(PASSED, content="cd" * 32)
    assert "Stale" in made and "cdcdcd" in made and "run it" in made and "banner pass" not in made


def test_many_verdicts_are_cut_but_no_failure() -> None:
    many = [Verdict("leak", f"slot{n}", "pass", n / 1000, 1.0, n=1) for n in range(100)]
    bad = [Verdict("leak", f"bad{n}", "fail", 2.0, 1.0, n=1) for n in range(MOST + 5)]
    made = part(*many)
    assert f"{100 - MOST} more are in audit.json" in made and "slot99" in made and "slot1<" not in made
    assert all(f"bad{n}<" in part(*many, *bad) for n in range(MOST + 5))


def test_texts_are_escaped_and_odd_numbers_do_no_harm() -> None:
    odd = [Verdict(EVIL, EVIL, "info", float("nan"), 0.1, note=EVIL), Verdict("x", "y", "info", float("inf"), None),
           Verdict("x", "z", "pass", -0.2, 0.05, -0.3, 0.0), Verdict("w", "w", "pass", 0.0, 0.0)]  # fmt: skip
    made = part(*odd)
    assert "<script" not in made and made.count("&lt;script&gt;") == 3 and 'width="nan' not in made
