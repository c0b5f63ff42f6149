"""Questions run again: a clean set agrees with its catalogue, one altered sample is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.datagen.audit import counts
from fashionkit.datagen.audit.rerun import rerun_checks
from fashionkit.datagen.audit.verdicts import Verdict
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, YES
from fashionkit.tables import InputError
from tests.datagen.conftest import Made


def values(found: list[Verdict]) -> tuple[float | None, float | None]:
    """Samples that the tables leave open, and that they contradict."""
    return found[0].value, found[1].value


@pytest.mark.parametrize("name", ["outfit_set", "product_set"])
def test_what_was_generated_agrees(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Made = request.getfixturevalue(name)
    store = VQAStore(made.path)
    found = rerun_checks(store, made.catalog, 1)
    assert values(found) == (0.0, 0.0) and [v.verdict for v in found] == ["pass", "pass"]
    assert [v.n for v in found] == [len(store)] * 2
    monkeypatch.setattr(counts, "BATCH_ROWS", 101)
    assert rerun_checks(store, made.catalog, 2) == found


def altered(path: Path, change: Callable[[dict[str, Any]], bool], times: int = 1) -> tuple[VQAStore, int]:
    """The set with the first sample that `change` accepts altered; all samples `times` times. Returns its `qid`."""
    store, found = VQAStore(path), -1
    for part in sorted((path / "samples").rglob("*.parquet")):
        table = pq.read_table(part, partitioning=None)
        rows = table.to_pylist()
        if found < 0:
            found = next((row["qid"] for row in rows if change(row)), -1)
        rows = [row for row in rows for _ in range(times)]
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), part)
    assert found >= 0
    return store, found


@pytest.mark.parametrize("times", [1, 3])
def test_one_wrong_answer_is_found(outfits: Path, small_set: Path, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every wording, even where a batch ends between two."""
    monkeypatch.setattr(counts, "BATCH_ROWS", 100)
    template = VQAStore(small_set).pack.index("B2.verify")

    def lie(row: dict[str, Any]) -> bool:
        wanted = row["template"] == template
        row["answer"] = {YES: NO, NO: YES}[row["answer"]] if wanted else row["answer"]
        return bool(wanted)

    store, qid = altered(small_set, lie, times)
    found = rerun_checks(store, outfits, 1)
    assert values(found) == (0.0, float(times))
    assert found[1].verdict == "fail" and found[1].note.startswith(f"qid {qid}")


def test_a_question_that_the_tables_leave_open_is_found(outfits: Path, small_set: Path) -> None:
    """The same question asked of every picture in turn, until one does not settle it."""
    opened = VQAStore(small_set)
    template = opened.pack.index("B2.verify")
    seen = []
    for image in range(len(opened.image_ids)):
        copy = Path(shutil.copytree(small_set, small_set.parent / f"picture-{image}"))

        def move(row: dict[str, Any], image: int = image) -> bool:
            wanted = row["template"] == template
            row["image"] = image if wanted else row["image"]
            return bool(wanted)

        store, qid = altered(copy, move)
        found = rerun_checks(store, outfits, 1)
        if found[0].value:
            seen.append((values(found), found[0].verdict, found[0].note, qid))
            break
    assert seen and seen[0][0] == (1.0, 0.0) and seen[0][1:3] == ("fail", f"qid {seen[0][3]}")


def test_ids_of_another_kind_are_open_and_not_a_crash(outfits: Path, small_set: Path) -> None:
    """A region for a category, a value of another scope for a value."""
    opened = VQAStore(small_set)
    template, style = opened.pack.index("B2.verify"), opened.vocab.value["style", "casual"]
    for slot, wrong in (("slot0", opened.vocab.region["head"]), ("slot1", style), ("slot1", 0), ("slot0", YES)):

        def swap(row: dict[str, Any], slot: str = slot, wrong: int = wrong) -> bool:
            wanted = row["template"] == template
            row[slot] = wrong if wanted else row[slot]
            return bool(wanted)

        copy = Path(shutil.copytree(small_set, small_set.parent / f"{slot}-{wrong}"))
        assert values(rerun_checks(altered(copy, swap)[0], outfits, 1)) == (1.0, 0.0)


def test_without_a_catalogue_it_says_so(outfit_set: Made) -> None:
    (found,) = rerun_checks(VQAStore(outfit_set.path), None, 1)
    assert found.verdict == "skip" and "--catalog" in found.note


def test_another_catalogue_is_refused(outfit_set: Made, products: Path, tmp_path: Path) -> None:
    store = VQAStore(outfit_set.path)
    with pytest.raises(InputError, match="another catalogue"):
        rerun_checks(store, products, 1)
    with pytest.raises(InputError, match="no such folder"):
        rerun_checks(store, tmp_path / "nowhere", 1)
