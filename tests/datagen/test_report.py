"""What a report counts is what a plain loop over all samples counts; it picks samples evenly, and always the same."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fashionkit.datagen import report as module
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.report import LEVELS, SetReport, gather
from fashionkit.datagen.samples import SAMPLE_SPLITS, sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError, read_table
from tests.datagen.conftest import FEW, Made, made


@pytest.fixture(scope="module")
def found(outfit_set: Made) -> SetReport:
    return gather(outfit_set.path, show=30, check=40, workers=1)


@pytest.fixture(scope="module")
def phrased(outfits: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A set in which each program stands in up to four wordings."""
    return made(outfits, tmp_path_factory.mktemp("phrased") / "set", phrasings=5, families=FEW)


def test_all_samples_are_counted(found: SetReport, outfit_set: Made) -> None:
    rows = outfit_set.rows
    assert found.samples() == {s: len(rows[s]) for s in SAMPLE_SPLITS if rows[s]}
    for number, split in enumerate(SAMPLE_SPLITS):
        templates = Counter(r["template"] for r in rows[split])
        assert found.counts.split[number].tolist() == [templates[n] for n in range(found.counts.split.shape[1])]
    every = [r for split in SAMPLE_SPLITS for r in rows[split]]
    answers = Counter((r["template"], r["answer"]) for r in every)
    assert {(int(t), int(a)): int(found.counts.answer[t, a]) for t, a in np.argwhere(found.counts.answer)} == answers
    levels = Counter((r["template"], float(r["difficulty"])) for r in every)
    scale = np.linspace(-4, 4, LEVELS)
    assert {
        (int(t), float(scale[n])): int(found.counts.level[t, n]) for t, n in np.argwhere(found.counts.level)
    } == levels
    images = Counter(r["image"] for r in every)
    assert found.counts.image.tolist() == [images[n] for n in range(len(found.counts.image))]


@pytest.mark.parametrize("name", ["outfit_set", "phrased"])
def test_programs_are_counted_once_in_whatever_wording(name: str, request: pytest.FixtureRequest) -> None:
    this: Made = request.getfixturevalue(name)
    report = gather(this.path, 0, 0, workers=1)
    for split, number in report.programs().items():
        asked = {tuple(v for k, v in r.items() if k not in ("qid", "paraphrase", "answer", "difficulty"))
                 for r in this.rows[split]}  # fmt: skip
        assert number == len(asked), split
    assert sum(n for s, n in report.programs().items() if s != "paraphrase") == this.report.programs


def test_figures_agree_with_the_manifest(found: SetReport, outfit_set: Made) -> None:
    figures = found.to_dict()
    assert figures["samples"] == {s: n for s, n in outfit_set.report.samples.items() if n}
    assert figures["set"] == VQAStore(outfit_set.path).manifest.content_hash()
    assert sum(figures["families"].values()) == sum(figures["samples"].values()) == sum(figures["templates"].values())
    splits = Counter(read_table(outfit_set.path, "images")["split"].to_pylist())
    assert figures["pictures"] == splits and figures["rejects"] == read_table(outfit_set.path, "rejects").to_pylist()
    json.dumps(figures)
    assert f"{sum(figures['samples'].values()):,} samples" in found.lines()[0]


def test_samples_are_picked_evenly_and_none_twice(found: SetReport) -> None:
    assert len(found.shown) == 30 and len(found.checked) == 40
    families = found.families()
    for chosen, number in ((found.shown, 30), (found.checked, 40)):
        each = Counter(row["family"] for row in chosen)
        assert set(each) == set(families)
        assert max(each.values()) <= number // len(families) + 1
        assert min(each.values()) >= number // len(families)
    qids = [row["qid"] for row in (*found.shown, *found.checked)]
    assert len(set(qids)) == len(qids)
    start = [row["family"] for row in found.checked[: len(families)]]
    assert sorted(start) == sorted(families), "the start of a sheet is even, too"


def test_picked_samples_are_those_of_the_set(found: SetReport, outfit_set: Made) -> None:
    store = VQAStore(outfit_set.path)
    for row in (*found.shown, *found.checked):
        told = store[row["qid"]]
        assert {name: row[name] for name in told} == told
        raw = next(r for r in outfit_set.rows[row["split"]] if r["qid"] == row["qid"])
        assert (row["image"], row["template_row"]) == (raw["image"], raw["template"])
        assert list(row["ids"].values()) == [raw[f"slot{n}"] for n in range(len(row["ids"]))]


def test_any_number_of_workers_and_batches_picks_the_same(
    found: SetReport, outfit_set: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    for workers, rows in ((2, 1 << 20), (1, 97)):
        monkeypatch.setattr(module, "BATCH_ROWS", rows)
        again = gather(outfit_set.path, 30, 40, workers=workers)
        assert again.checked == found.checked and again.shown == found.shown and again.to_dict() == found.to_dict()
    assert gather(outfit_set.path, 30, 40, seed=1, workers=1).checked != found.checked


def test_random_picks_favour_no_part_of_a_family(outfit_set: Made) -> None:
    """Over many seeds, the mean place of a picked sample among those of its family is the middle."""
    rows = [r for split in SAMPLE_SPLITS for r in outfit_set.rows[split]]
    store = VQAStore(outfit_set.path)
    family = np.array([FAMILIES.index(store.pack.templates[r["template"]].family) for r in rows])
    mine = np.flatnonzero(family == FAMILIES.index("B2"))
    places = []
    for seed in range(40):
        lowest = module.count(store, 5, seed, 1).lowest
        places += (np.searchsorted(mine, lowest.row[lowest.family == FAMILIES.index("B2")]) / len(mine)).tolist()
    assert len(places) == 200 and abs(np.mean(places) - 0.5) < 4 * np.sqrt(1 / 12 / 200)


def test_a_small_family_is_shown_again_rather_than_left_out(outfit_set: Made) -> None:
    sizes = gather(outfit_set.path, 0, 0, workers=1).to_dict()["families"]
    small = min(sizes, key=lambda family: sizes[family])
    report = gather(outfit_set.path, len(sizes) * sizes[small], len(sizes) * sizes[small], workers=1)
    shown, checked = ({r["qid"] for r in rows if r["family"] == small} for rows in (report.shown, report.checked))
    assert shown == checked and len(shown) == sizes[small]
    assert len(report.shown) == len(report.checked) == len(sizes) * sizes[small]


def test_no_samples_to_look_at_is_allowed(outfit_set: Made) -> None:
    report = gather(outfit_set.path, 0, 0, workers=1)
    assert report.shown == report.checked == [] and report.samples()


def rewritten(folder: Path, change: Any) -> Path:
    """A set with one damaged part; returns the part."""
    path = sample_files(folder, "train")[0]
    pq.write_table(change(pq.read_table(path, partitioning=None)), path)
    return path


def replaced(column: str, value: Any, kind: pa.DataType | None = None) -> Any:
    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index(column)
        numbers = table[column].to_pylist()
        numbers[3] = value
        return table.set_column(place, column, pa.array(numbers, kind or table[column].type))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced("image", 90), ["column 'image'", "found: 90", "below 90"]),
        (replaced("image", -1), ["column 'image'", "found: -1"]),
        (replaced("template", 60000), ["column 'template'", "found: 60000"]),
        (replaced("answer", 65535), ["column 'answer'", "found: 65535"]),
        (replaced("answer", None), ["column 'answer'", "1 nulls"]),
        (replaced("answer", 3, pa.int64()), ["column 'answer'", "int64"]),
        (replaced("difficulty", np.float16("nan")), ["column 'difficulty'", "from -4 to 4", "nan"]),
        (replaced("difficulty", np.float16(4.0625)), ["column 'difficulty'", "found: 4.0625"]),
        (replaced("difficulty", np.float16(0.03)), ["column 'difficulty'", "steps of 1/16"]),
        (lambda t: t.drop_columns(["answer"]), ["a column is missing", "found: answer"]),
        (lambda t: t.drop_columns(["slot3"]), ["a column is missing", "found: slot3"]),
        (lambda t: t.set_column(4, "slot0", pa.array([65535] * len(t), pa.uint16())), ["column 'slot0'", "65535"]),
        (lambda t: t.set_column(3, "paraphrase", pa.array([200] * len(t), pa.uint8())), ["column 'paraphrase'", "200"]),
    ],
)
def test_damage_is_named(small_set: Path, change: Any, words: list[str]) -> None:
    rewritten(small_set, change)
    with pytest.raises(InputError) as error:
        gather(small_set, 4000, 0, workers=1)
    assert all(word in str(error.value) for word in [*words, str(small_set)]), error.value


def test_samples_out_of_order_are_named(small_set: Path) -> None:
    def shifted(table: pa.Table) -> pa.Table:
        return table.set_column(0, "qid", pc.add(table["qid"], 1))

    rewritten(small_set, shifted)
    with pytest.raises(InputError, match="not numbered from 0"):
        gather(small_set, 100, 0, workers=1)


def test_a_part_that_is_no_parquet_is_named(small_set: Path) -> None:
    path = sample_files(small_set, "train")[0]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="damaged or not Parquet"):
        gather(small_set, workers=1)


def test_an_empty_set_and_numbers_below_zero_are_refused(small_set: Path) -> None:
    with pytest.raises(InputError, match="0 or more"):
        gather(small_set, show=-1)
    manifest = json.loads((small_set / "manifest.json").read_text())
    manifest["files"] = {n: e for n, e in manifest["files"].items() if not n.startswith("samples/")}
    (small_set / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(small_set / "samples")
    with pytest.raises(InputError, match="no samples"):
        gather(small_set)


def test_a_set_without_rejects_is_reported(small_set: Path) -> None:
    manifest = json.loads((small_set / "manifest.json").read_text())
    manifest["files"] = {n: e for n, e in manifest["files"].items() if not n.startswith("rejects/")}
    (small_set / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(small_set / "rejects")
    assert gather(small_set, 0, 0, workers=1).rejects == []


def test_figures_are_read_by_column(small_set: Path) -> None:
    """Rejects with a column missing are an error that names it, not a wrong count."""
    path = small_set / "rejects" / "part-00000.parquet"
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["count"]), path)
    with pytest.raises(InputError, match="a column is missing"):
        gather(small_set, 0, 0, workers=1)
