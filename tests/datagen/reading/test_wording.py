"""Questions written a few at a time are those that whole columns say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fashionkit.datagen.reading import wording
from fashionkit.datagen.reading.records import SplitRecords
from fashionkit.datagen.reading.wording import Wording
from fashionkit.datagen.samples import SAMPLE_SPLITS
from fashionkit.datagen.store import VQAStore
from tests.datagen.conftest import Made


@pytest.fixture(scope="module", params=["outfit_set", "product_set"])
def store(request: pytest.FixtureRequest) -> VQAStore:
    found: Made = request.getfixturevalue(request.param)
    return VQAStore(found.path)


def columns(records: Any) -> tuple[Any, Any, Any]:
    return records["template"], records["paraphrase"], records["slots"]


def rendered(store: VQAStore, split: str) -> list[str]:
    return [q for batch in store.iter(split, rendered=True) for q in batch["question"].to_pylist()]


@pytest.mark.parametrize("split", SAMPLE_SPLITS)
def test_all_questions_are_those_of_the_store(store: VQAStore, split: str) -> None:
    records, expected = SplitRecords(store, split).read_all(), rendered(store, split)
    writer, found = Wording(store.renderer), []
    for lo in range(0, len(records), 512):
        found += writer.questions(*columns(records[lo : lo + 512]))
    assert found == expected
    assert writer.questions(*columns(records)) == expected, "known ones are the same"


def test_what_is_kept_has_a_limit_and_changes_nothing(store: VQAStore) -> None:
    records, expected = SplitRecords(store, "test").read_all(), rendered(store, "test")
    writer = Wording(store.renderer, kept=50)
    for lo in range(0, len(records), 40):
        assert writer.questions(*columns(records[lo : lo + 40])) == expected[lo : lo + 40]
        assert len(writer._known) < 50 + 40 and len(writer._words) < 50 + 200


def test_where_codes_do_not_fit_the_renderer_writes(store: VQAStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wording, "MOST_CODES", 10)
    writer = Wording(store.renderer)
    assert not writer.fits and Wording(store.renderer).fits is False
    assert writer.questions(*columns(SplitRecords(store, "test").read_all())) == rendered(store, "test")


def test_signs_of_formats_are_letters_here(store: VQAStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text may hold a percent sign."""
    grammar = store.renderer.grammar
    said = type(grammar).say
    monkeypatch.setattr(type(grammar), "say", lambda self, place, ids: said(self, place, ids) + " 100 %s %(x)d")
    records = SplitRecords(store, "val").read_all()[:50]
    assert any("100 %s %(x)d" in q for q in Wording(store.renderer).questions(*columns(records)))


def test_nothing_gives_nothing(store: VQAStore) -> None:
    empty = np.zeros(0, np.int64)
    assert Wording(store.renderer).questions(empty, empty, np.zeros((0, 4), np.int64)) == []
