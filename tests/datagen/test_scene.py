"""Vocabulary and loading: ids are what the constants say, and a catalogue that does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashionkit.catalog.ontology import Ontology
from fashionkit.datagen.scene import load_scenes
from fashionkit.datagen.vocab import FIRST_INT, LOOK, MAX_INT, NO, NONE, NOT_PRESENT, YES, Vocab
from fashionkit.tables import InputError
from tests.datagen.conftest import ONTOLOGY, Item, Picture, make_catalog


def test_ids_are_as_the_constants_say(tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text(ONTOLOGY)
    vocab = Vocab(Ontology.load(tmp_path / "words.yaml"))
    assert [vocab.key[n] for n in (NONE, YES, NO, NOT_PRESENT, LOOK)] == ["", "yes", "no", "not_present", "look"]
    assert vocab.text[FIRST_INT] == "0" and vocab.text[FIRST_INT + MAX_INT] == "32"
    again = Vocab.from_table(vocab.ontology, vocab.table())
    assert (again.key, again.text, again.members) == (vocab.key, vocab.text, vocab.members)


def test_a_vocabulary_of_another_ontology_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(ONTOLOGY)
    (tmp_path / "two.yaml").write_text(ONTOLOGY.replace("hat:", "cap:"))
    table = Vocab(Ontology.load(tmp_path / "one.yaml")).table()
    with pytest.raises(InputError, match="does not belong"):
        Vocab.from_table(Ontology.load(tmp_path / "two.yaml"), table)


@pytest.mark.parametrize(
    ("pictures", "facts", "problem"),
    [
        ([], {}, "no splits"),
        ([Picture("a", [Item("hat", {})], split="exam")], {}, "unknown split"),
        ([Picture("a", [Item("hat", {})])], {"closed_categories": ["hatt"]}, "unknown category"),
        ([Picture("a", [Item("hat", {}, region="elbow")])], {}, "does not know"),
        ([Picture("a", [Item("hat", {"colour": "reddish"})])], {}, "does not know"),
    ],
)
def test_a_catalogue_that_does_not_fit_is_refused(
    tmp_path: Path, pictures: list[Picture], facts: dict[str, list[str]], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        load_scenes(make_catalog(tmp_path / "odd", pictures, **facts))


def test_held_out_compositions_of_unknown_words_are_refused(tmp_path: Path) -> None:
    folder = make_catalog(
        tmp_path / "odd", [Picture("a", [Item("hat", {})])], compositions=(("hat", "colour", "reddish"),)
    )
    with pytest.raises(InputError, match="unknown words"):
        load_scenes(folder)
