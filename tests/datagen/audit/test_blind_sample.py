"""Which questions the models see: against a plain loop, in whatever pieces the set is read."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fashionkit.datagen.audit import blind_sample
from fashionkit.datagen.audit.blind_sample import Questions, draw_questions, water_fill
from fashionkit.datagen.audit.blind_scopes import scopes_of
from fashionkit.datagen.samples import SAMPLES, read_samples, sample_files
from fashionkit.datagen.store import VQAStore
from tests.datagen.conftest import Made

PHRASINGS = 4


@pytest.fixture(scope="module")
def fourfold(outfit_set: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outfits' questions, each in four wordings that stand in consecutive rows."""
    folder = Path(shutil.copytree(outfit_set.path, tmp_path_factory.mktemp("sets") / "fourfold"))
    for split in ("train", "val", "test"):
        for path in sample_files(folder, split):
            table = read_samples(path)
            rows = np.repeat(np.arange(table.num_rows), PHRASINGS)
            qid = PHRASINGS * table["qid"].to_numpy()[rows] + np.arange(len(rows)) % PHRASINGS
            again = table.take(pa.array(rows)).set_column(0, SAMPLES.field("qid"), pa.array(qid))
            pq.write_table(again, path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["params"]["phrasings"] = PHRASINGS
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def store(fourfold: Path) -> VQAStore:
    return VQAStore(fourfold)


def by_scope(store: VQAStore, q: Questions) -> Counter[str]:
    """How many are judged, by scope."""
    scopes = scopes_of(store.pack, set(range(len(store.pack.templates))))
    name = {t: s.name for s in scopes for t in s.templates}
    return Counter(name[t] for t in q.template[q.judged].tolist())


def test_without_a_limit_every_program_is_taken_once(store: VQAStore, outfit_set: Made) -> None:
    q = draw_questions(store, 10**6, 0)
    for judged, splits in ((False, ("train",)), (True, ("val", "test"))):
        rows = [row for s in splits for row in outfit_set.rows[s]]  # one wording each
        assert sorted(q.qid[q.judged == judged]) == sorted(PHRASINGS * row["qid"] for row in rows)


def _samples(store: VQAStore, split: str) -> pa.Table:
    """All samples of a split."""
    return pa.concat_tables(store.iter(split))


def test_columns_are_those_of_the_sample(store: VQAStore) -> None:
    q = draw_questions(store, 300, 0)
    rows = {}
    for split in ("train", "val", "test"):
        table = _samples(store, split)
        drawn = table.filter(pc.is_in(table["qid"], pa.array(q.qid)))
        rows |= {row["qid"]: row for row in store.describe(drawn, split)}
    for n in range(0, len(q), 17):
        row = rows[int(q.qid[n])]
        names = store.slots[q.template[n]]
        assert row["template"] == store.pack.templates[q.template[n]].id
        assert row["answer_id"] == q.answer[n]
        assert [row["slots"][name] for name in names] == [store.vocab.key[i] for i in q.slots[n, : len(names)]]
        assert (row["split"] != "train") == q.judged[n]


def test_pictures_of_one_group_stay_one_group(store: VQAStore, outfit_set: Made) -> None:
    q = draw_questions(store, 10**6, 0)
    image = {PHRASINGS * row["qid"]: row["image"] for s in ("train", "val", "test") for row in outfit_set.rows[s]}
    pictures = np.array([image[i] for i in q.qid])
    assert len(np.unique(q.group)) < len(np.unique(pictures)) <= 2 * len(np.unique(q.group))


def test_scopes_share_the_limit_and_nothing_is_wasted(store: VQAStore) -> None:
    everything = by_scope(store, draw_questions(store, 10**6, 0))
    for limit in (120, 500):
        q = draw_questions(store, limit, 0)
        assert limit * 0.9 <= len(q) <= limit
        most = max(by_scope(store, q).values())
        assert all(by_scope(store, q)[s] >= min(n, most - 1) for s, n in everything.items())


def test_templates_of_a_scope_keep_their_shares(store: VQAStore) -> None:
    """Else a not-present answer would be more frequent among the drawn questions than it is in the set."""
    everything, q = draw_questions(store, 10**6, 0), draw_questions(store, 4000, 0)
    absent, there = store.pack.index("N1.query"), store.pack.index("C1.query")
    ratio = [(x.template == absent).sum() / (x.template == there).sum() for x in (everything, q)]
    assert (q.template == there).sum() < 0.6 * (everything.template == there).sum()
    assert ratio[1] == pytest.approx(ratio[0], rel=0.35)
    assert len(np.unique(q.template)) == len(np.unique(everything.template))


def test_how_the_set_is_read_changes_nothing(store: VQAStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = draw_questions(store, 400, 3)
    monkeypatch.setattr(blind_sample, "BATCH_ROWS", 1001)  # cuts the wordings of a program apart, and drops early
    pieces = draw_questions(store, 400, 3)
    assert whole.qid.tolist() == pieces.qid.tolist()


def test_the_seed_decides(store: VQAStore) -> None:
    assert draw_questions(store, 300, 1).qid.tolist() == draw_questions(store, 300, 1).qid.tolist()
    assert draw_questions(store, 300, 1).qid.tolist() != draw_questions(store, 300, 2).qid.tolist()


@pytest.mark.parametrize(
    ("available", "total", "expected"),
    [([5, 100, 100], 65, [5, 30, 30]), ([5, 7], 100, [5, 7]), ([10, 10], 5, [2, 3]), ([0, 9], 4, [0, 4]), ([], 9, [])],
)
def test_shares_are_equal_as_far_as_there_are_so_many(available: list[int], total: int, expected: list[int]) -> None:
    assert water_fill(np.array(available, np.int64), total).tolist() == expected
