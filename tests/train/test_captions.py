"""Captions: what they say, alike for equal seeds, and of which pictures they hold, against a slow reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fashionkit.catalog.catalog import Catalog, copy_ontology, write_facts, write_rows
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.catalog.ontology import Ontology
from fashionkit.catalog.schema import KIND, SCHEMA, Facts
from fashionkit.recipes import find
from fashionkit.tables import InputError, Manifest, write_manifest
from fashionkit.train.captions import NOTHING, CaptionData, Captions, listed, same, truths
from fashionkit.vision.preprocess import Preprocess

PREPROCESS = Preprocess(32, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
Stated = dict[str, tuple[str, list[str]]]
Made = Callable[..., Captions]


def item(category: str, **attributes: str | list[str] | None) -> tuple[str, Stated]:
    """An item: a value, several, a state in brackets, or None for absent."""
    stated: Stated = {}
    for name, value in attributes.items():
        values = [value] if isinstance(value, str) else value or []
        stated[name] = ("absent" if value is None else "present", values)
        if isinstance(value, str) and value.startswith("["):
            stated[name] = (value.strip("[]"), [])
    return category, stated


@pytest.fixture(scope="module")
def ontology() -> Ontology:
    return Ontology.load(find("datagen/ontologies", "fashion"))


@pytest.fixture
def made(tmp_path: Path, ontology: Ontology) -> Made:
    """Captions of a catalogue of these pictures, each a list of items."""

    def make(pictures: list[list[tuple[str, Stated]]], facts: dict[str, Any] | None = None, **options: Any) -> Captions:
        folder = tmp_path / "catalog"
        images = [{"image_id": f"{n:03d}", "bytes": b"x"} for n in range(len(pictures))]
        items, attributes = [], []
        for n, found in enumerate(pictures):
            for k, (category, stated) in enumerate(found):
                name = f"{n:03d}.{k}"
                items.append({"item_id": name, "image_id": f"{n:03d}", "category": category, "area": 0.5 - k / 100})
                items[-1]["region"] = ontology.region_of(category)
                for attribute, (state, values) in stated.items():
                    row = {"item_id": name, "attribute": attribute, "state": state, "values": values}
                    attributes.append(row | {"complete": False})
        splits = [{"image_id": row["image_id"], "split_group": n, "split": "train"} for n, row in enumerate(images)]
        tables = {"images": images, "items": items, "attributes": attributes, "splits": splits}
        for name, rows in tables.items():
            write_rows(folder, name, 0, rows)
        write_facts(folder, Facts("made", **({"scene": "product", "noun": "product"} | (facts or {}))))
        copy_ontology(folder, find("datagen/ontologies", "fashion"))
        write_manifest(folder, Manifest(KIND, SCHEMA))
        return Captions(Catalog(folder), **options)

    return make


def stacked(captions: Captions, epoch: int | None = None) -> tuple[torch.Tensor, ...]:
    """said, closed, sure, may of all pictures."""
    found = [captions.caption(row, epoch) for row in range(len(captions))]
    said, closed = (torch.from_numpy(np.stack(part)) for part in list(zip(*found, strict=True))[1:])
    return said, closed, *captions.facts(range(len(captions)))


def test_a_caption_says_present_values_and_nothing_else(made: Made) -> None:
    found = made(
        [
            [item("shirt", colour="navy", pattern="checked")],
            [item("jeans", colour="[unknown]", pattern="[not_visible]")],
            [item("coat", colour="red", closure=None)],
            [item("shirt_or_blouse")],  # nobody says so; a top is what people call it
        ]
    )
    texts = [found.caption(row, None).text for row in range(4)]
    assert texts == [
        "a photo of a navy blue checked shirt",
        "a photo of a pair of jeans",
        "a photo of a red coat",
        texts[3],
    ]
    assert texts[3] == "a photo of a top"


def test_equal_seeds_say_equal_captions_and_epochs_differ(made: Made) -> None:
    pictures = [[item("shirt", colour="navy", pattern="checked", fit="slim", sleeve_length="long")]] * 6
    one, two = made(pictures, seed=1), made(pictures, seed=2)
    assert [one.caption(r, 3).text for r in range(6)] == [one.caption(r, 3).text for r in range(6)]
    drawn = {one.caption(r, e).text for r in range(6) for e in range(8)}
    assert len(drawn) > 20 and drawn != {two.caption(r, e).text for r in range(6) for e in range(8)}
    assert all("shirt" in text for text in drawn)
    sizes = {(one.caption(r, e).said != NOTHING).sum() for r in range(6) for e in range(8)}
    assert sizes == {2, 3, 4}  # the noun and one to three values


def test_wordings_of_the_same_facts_have_one_key(made: Made) -> None:
    found = made([[item("shirt", colour="navy")], [item("shirt", colour="navy")], [item("shirt", colour="red")]])
    drawn = [found.caption(0, e) for e in range(30)] + [found.caption(1, e) for e in range(30)]
    assert len({c.text for c in drawn}) > 1
    assert len({c.said.tobytes() for c in drawn}) == 1
    assert found.caption(2, 0).said.tobytes() != drawn[0].said.tobytes()


def test_of_which_pictures_a_caption_holds(made: Made) -> None:
    found = made(
        [
            [item("shirt", colour="navy")],
            [item("shirt")],  # of unknown colour
            [item("shirt", colour="red")],
            [item("shirt", colour="blue")],  # perhaps navy
            [item("dress_shirt", colour="navy")],  # a shirt
            [item("dress", colour="navy")],
            [item("shirt", colour=None)],  # absent: it has none of the values
            [item("shirt", colour="[not_visible]")],
        ]
    )
    holds, could = truths(*stacked(found))
    navy, shirt = holds[:, 0].tolist(), holds[:, 1].tolist()
    assert navy == [True, False, False, False, True, False, False, False]
    assert shirt == [True, True, True, True, True, False, True, True]
    assert could[:, 0].tolist() == [True, True, False, True, True, False, False, True]
    assert holds[0, 3] and not holds[3, 0]  # navy is a blue
    assert could[1, 4]  # a shirt of unknown colour may be a navy dress shirt
    assert bool((holds <= could).all()) and bool(holds.diagonal().all())


def test_values_that_are_not_all_that_hold(made: Made) -> None:
    """A list that may be longer, and the colour of a striped shirt, rule nothing out."""
    found = made(
        [
            [item("shirt", details=["bow"])],
            [item("shirt", details=["pockets"])],
            [item("shirt", colour="red")],
            [item("shirt", colour="navy", pattern="striped")],
        ]
    )
    holds, could = truths(*stacked(found))
    assert could[0, 1] and could[1, 0] and not holds[0, 1]
    assert could[3, 2] and not could[2, 3]  # no colour besides red on a plain one that is not known to be striped


def test_outfits_need_each_item_and_a_closed_world_for_a_no(made: Made) -> None:
    pictures = [
        [item("coat", colour="red"), item("jeans", colour="blue")],
        [item("coat", colour="red")],
        [item("jeans", colour="blue"), item("coat", colour="green")],
    ]
    _, could = truths(*stacked(made(pictures, {"scene": "outfit", "closed_categories": ["item"]})))
    assert could.tolist() == [[True, True, False], [False, True, False], [False, False, True]]
    _, could = truths(*stacked(made(pictures, {"scene": "outfit"})))
    assert bool(could.all())  # a second coat may be worn that nobody listed
    _, could = truths(*stacked(made(pictures, {"scene": "outfit", "closed_categories": ["coat"]})))
    assert could.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_an_outfit_is_a_list_of_some_of_its_items(made: Made) -> None:
    pictures = [[item("coat"), item("shirt"), item("jeans"), item("boots"), item("hat")]]
    found = made(pictures, {"scene": "outfit"}, items=3)
    assert found.caption(0, None).text == "a photo of a coat, a shirt and a pair of jeans"
    numbers = {(found.caption(0, e).said[:, 0] != NOTHING).sum() for e in range(40)}
    assert numbers == {1, 2, 3}
    assert any("hat" in found.caption(0, e).text for e in range(40))
    assert listed(["a"]) == "a" and listed(["a", "b"]) == "a and b"


def slowly(captions: Captions, text: np.ndarray, picture: int) -> bool:
    """Whether all that is said of an item is stated of one, by the tables of the scene, one clause after another."""
    s, at = captions.scenes, int(captions._pictures[picture])
    clauses = {int(column): number for number, column in enumerate(s.clause) if column >= 0}
    onto, vocab = s.ontology, s.vocab
    for said in text[(text != NOTHING).any(1)]:
        for i in range(s.start[at], s.start[at + 1]):
            leaf = vocab.key[s.leaf[i]]
            stated = {vocab.category[k] for k in (leaf, *onto.ancestors(leaf))}
            for a, name in enumerate(s.attributes):
                for value in vocab.members[s.value[i, a]] or (int(s.value[i, a]),) if s.value[i, a] else ():
                    key = vocab.key[value].split("/")[1]
                    stated |= {vocab.value[name, k] for k in (key, *onto.value_ancestors(name, key))}
            if {clauses[c] for c in said[said != NOTHING].tolist()} <= stated:
                break
        else:
            return False
    return True


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "catalog"
    draw_catalog(folder, DrawOptions(24, seed=1, size=64, workers=1))
    return folder


def test_truth_is_what_a_slow_reading_finds(drawn: Path) -> None:
    found = Captions(Catalog(drawn), seed=3, items=2, values=1)
    said, closed, sure, may = stacked(found, epoch=0)
    holds, could = truths(said, closed, sure, may)
    slow = [[slowly(found, said[t].numpy(), p) for t in range(len(found))] for p in range(len(found))]
    assert holds.tolist() == slow
    assert int(holds.sum()) > len(found) and bool((holds <= could).all()) and not bool(could.all())
    assert same(said, said).diagonal().all()


def test_chunks_do_not_change_truth(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = stacked(Captions(Catalog(drawn)), epoch=0)
    whole = truths(*found)
    monkeypatch.setattr("fashionkit.train.captions._CHUNK", 1)
    assert all(torch.equal(a, b) for a, b in zip(whole, truths(*found), strict=True))


def test_batches_carry_captions_of_their_pictures(drawn: Path) -> None:
    data = CaptionData(str(drawn), seed=5, limit=7, batch=4)
    data.prepare(PREPROCESS)
    train: Any = data.examples["train"]
    val = data.examples["val"]
    assert len(train) == 7
    batch: Any = train.__getitems__([(2, 3), (0, 1)])
    row = data.captions.ids.index(train.examples.pictures.ids[3])
    assert batch["caption"][0] == data.captions.caption(row, 2).text
    assert batch["image"].shape == (2, 32, 32, 3) and batch["said"].shape == (2, 4, 4)
    assert truths(batch["said"], batch["closed"], batch["sure"], batch["may"])[0].diagonal().all()
    one, two = (val.__getitems__([(epoch, 0)])["caption"] for epoch in (0, 1))
    assert one == two  # judged by the same captions in each epoch


def test_misuse(made: Made, drawn: Path) -> None:
    with pytest.raises(InputError, match="no attribute of items that pictures show"):
        Captions(Catalog(drawn), attributes=["style"])
    with pytest.raises(InputError, match="at least 1 item"):
        Captions(Catalog(drawn), items=0)
    with pytest.raises(InputError, match="cannot be fine-tuned"):
        CaptionData(str(drawn), features="somewhere")
    with pytest.raises(InputError, match="no picture has an item"):
        made([[]])
