"""Questions as training data: what batches hold is held against the question set itself, read another way."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.datagen.dataset import VQADataset
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, NOT_PRESENT, YES
from fashionkit.models.tokenizer import EOS, PAD, Tokenizer, normalise
from fashionkit.tables import InputError
from fashionkit.train.empty_pictures import empty_picture
from fashionkit.train.pictures import CatalogPictures, first_pictures
from fashionkit.train.questions import EMPTIES, QuestionData
from fashionkit.train.spoken import Answers
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.feature_store import FeatureStore
from fashionkit.vision.pictures import sized
from fashionkit.vision.preprocess import Preprocess
from tests.train.conftest import SEEING, SIDE, SPLITS
from tests.train.running import same

PREPROCESS = Preprocess(SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0)
Batch = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def opened() -> Iterator[None]:
    """Splits of a set are opened once for all tests: reading the ontology takes most of the time."""
    known: dict[str, Any] = {}

    def open_(path: Any, split: str, families: Any) -> VQADataset:
        key = f"{path} {split} {families}"
        known[key] = known.get(key) or VQADataset(path, split, families)
        found = VQADataset.__new__(VQADataset)
        found.__dict__ |= known[key].__dict__
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fashionkit.train.questions.VQADataset", open_)
        yield


@pytest.fixture
def made(drawn: Path, question_set: Path, maps: Path) -> Any:
    """Makes data that is prepared but for its test split, of maps; `features=None` of pixels."""

    def make(**options: Any) -> QuestionData:
        settings = {"features": str(maps), "images": 4, "per_image": 5, "words": 300, "noise": 0.0, "empties": 0.0}
        found = QuestionData(str(drawn), str(question_set), **settings | options)
        found.prepare(PREPROCESS, ("train", "val"))
        return found

    return make


def batches(data: QuestionData, split: str = "train", epochs: int = 1) -> list[list[Batch]]:
    data.prepare(PREPROCESS, (split,))
    loader = data.loader(split)
    return [list(loader) for _ in range(epochs)]


def words(data: QuestionData) -> Tokenizer:
    return Tokenizer.from_text(data.facts["tokenizer"])


def texts(data: QuestionData, ids: torch.Tensor) -> list[str]:
    tokenizer = words(data)
    return [tokenizer.decode([int(i) for i in row if i not in (PAD, EOS)]) for row in ids]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_batches_hold_what_the_set_says(made: Any, question_set: Path, maps: Path, split: str) -> None:
    """By qid, against the store's own rendering."""
    data, store, features = made(), VQAStore(question_set), FeatureStore(maps)
    seen = []
    for batch in batches(data, split)[0]:
        asked, answered = texts(data, batch["question"]), texts(data, batch["answer"])
        for row, qid in enumerate(batch["qid"].tolist()):
            told = store[qid]
            assert told["split"] == split
            assert asked[row] == normalise(told["question"]) and answered[row] == normalise(told["answer"])
            number = int(batch["answer_class"][row])
            assert number < 0 or normalise(data.facts["answers"][number]) == answered[row]
            cells = torch.from_numpy(features.maps([told["image_id"]])).float()[0]
            assert torch.equal(batch["cells"][batch["image_of"][row]], cells)
            length = int((batch["answer"][row] != PAD).sum())
            assert batch["answer"][row, length - 1] == EOS and (batch["question"][row] > EOS).sum() > 3
        seen += batch["qid"].tolist()
        assert batch["tokens"] == int((batch["question"] != PAD).sum() + (batch["answer"] != PAD).sum())
    assert len(seen) == len(set(seen)) and (split == "train" or len(seen) == len(data.dataset(split)))


def test_each_picture_comes_once_a_batch_and_once_an_epoch(made: Any) -> None:
    data = made(images=5)
    one, two = batches(data, epochs=2)
    assert len(one) == 3, "18 pictures: what does not fill a batch is left out"
    for epoch in (one, two):
        rows = torch.cat([batch["row"] for batch in epoch]).tolist()
        assert len(rows) == len(set(rows)) == 15 and set(rows) <= set(range(18))
        for batch in epoch:
            count = Counter(batch["image_of"].tolist())
            assert sorted(count) == list(range(5)) and max(count.values()) <= 5
            assert batch["cells"].shape[0] == 5
    asked = [{int(q) for batch in epoch for q in batch["qid"]} for epoch in (one, two)]
    assert len(asked[0]) > 60 and not asked[0] & asked[1], "the next epoch asks other questions"


def test_few_pictures_make_one_batch(made: Any) -> None:
    data = made(images=500, limit=3)
    (batch,) = batches(data)[0]
    assert batch["row"].tolist() == [0, 1, 2] and len(data.examples["train"]) == 3
    assert len(batches(made(limit=3, images=2))[0]) == 1
    assert made(limit=3).facts == made().facts, "the words do not depend on the limit"


def test_batches_depend_on_seed_epoch_and_number_alone(made: Any) -> None:
    options = {"noise": 0.5, "empties": 0.3, "features": None}
    reference = batches(made(**options), epochs=2)
    assert same(reference, batches(made(**options), epochs=2))
    assert same(reference, batches(made(workers=2, **options), epochs=2))
    late = made(**options).loader("train")
    late.set_epoch(1)
    assert same(list(late), reference[1])
    other = batches(made(seed=1, **options))[0]
    assert not same([batch["qid"] for batch in other], [batch["qid"] for batch in reference[0]])


def test_a_loader_goes_on_where_another_stood(made: Any) -> None:
    reference = batches(made(noise=0.5), epochs=2)
    first = made(noise=0.5).loader("train")
    taken = iter(first)
    next(taken), next(taken), next(taken)
    again = made(noise=0.5, workers=1).loader("train")
    again.load_state_dict(first.state_dict())
    again.set_epoch(0)  # as Lightning says it
    assert same(list(again), reference[0][3:]) and same(list(again), reference[1])


def test_lightning_counts_the_epochs_of_passes_that_were_not_finished(made: Any) -> None:
    loader = made().loader("train")
    next(iter(loader))
    loader.sampler.set_epoch(1)
    assert same(list(loader), batches(made(), epochs=2)[1])


def test_pixels_are_prepared_as_everywhere(made: Any, drawn_catalog: Catalog) -> None:
    data = made(features=None)
    pictures = CatalogPictures(drawn_catalog, [])
    for split in ("train", "val"):
        batch = batches(data, split)[0][0]
        assert "cells" not in batch and batch["image"].dtype == torch.uint8
        ids = data.ids(split)
        for row, pixels in zip(batch["row"].tolist(), batch["image"], strict=True):
            expected = sized(Image.fromarray(pictures.named(ids[row])), PREPROCESS)
            assert np.array_equal(pixels, expected)


def test_augmented_pixels_change_from_epoch_to_epoch(made: Any) -> None:
    data = made(features=None, augment="street", limit=4)
    (one,), (two,) = batches(data, epochs=2)
    assert one["row"].tolist() == two["row"].tolist() and not torch.equal(one["image"], two["image"])
    assert same(batches(data, "val"), batches(made(features=None), "val"))


def test_maps_are_held_in_memory_or_read_again(made: Any) -> None:
    held, read = made(), made(memory=0)
    assert isinstance(held.examples["train"].values, np.ndarray) and held.examples["train"].values.dtype == np.float16
    assert not isinstance(read.examples["train"].values, np.ndarray)
    assert same(batches(held), batches(read))


def test_the_validation_sample_is_the_same_every_time(made: Any) -> None:
    data = made(val_questions=37)
    one, two = batches(data, "val", epochs=2)
    assert same(one, two) and same(one, batches(made(val_questions=37, workers=1), "val")[0])
    qid = torch.cat([batch["qid"] for batch in one]).tolist()
    assert len(qid) == 37 and qid == sorted(qid)
    assert torch.cat([batch["qid"] for batch in batches(made(val_questions=37, seed=2), "val")[0]]).tolist() != qid
    rows = [row for batch in one for row in batch["row"].tolist()]
    assert len(set(rows)) == 6 and len(rows) <= 6 + len(one), "the questions of a picture stand together"
    assert len(made(val_questions=None, test_questions=9).dataset("test")) == 9
    assert len(made(val_questions=10**6).dataset("val")) == len(made(val_questions=None).dataset("val"))


def test_answers_that_training_never_gave_have_no_class(made: Any, question_set: Path) -> None:
    data, store = made(val_questions=None), VQAStore(question_set)
    given = {row["answer"] for row in store.sample(10**6, split="train")} | {"yes", "no", "not present"}
    assert set(data.facts["answers"]) == given and len(data.facts["answers"]) == len(given)
    place = {text: number for number, text in enumerate(store.vocab.text)}
    assert sorted(place[text] for text in given) == [place[text] for text in data.facts["answers"]]
    assert data.facts["answers"][:3] == [store.vocab.text[number] for number in (YES, NO, NOT_PRESENT)]
    known = [place[text] for text in data.facts["answers"] if text not in ("yes", "0")]
    data._read = data.read[0], Answers(store.vocab, known, words(data))  # as if training had none of these
    found: set[tuple[str, str]] = set()
    for batch in batches(data, "val")[0]:
        for qid, number in zip(batch["qid"].tolist(), batch["answer_class"].tolist(), strict=True):
            found.add((store[qid]["answer"], "nothing" if number < 0 else data.read[1].texts[number]))
    assert all(said == ("nothing" if text in ("yes", "0") else text) for text, said in found)
    assert {("yes", "nothing"), ("0", "nothing"), ("no", "no")} <= found


def test_slips_leave_the_answer_alone(made: Any) -> None:
    plain, noisy = batches(made(empties=0.0))[0], batches(made(noise=0.4))[0]
    data = made()
    changed = total = 0
    for one, two in zip(plain, noisy, strict=True):
        assert one.keys() == two.keys()
        assert all(same(one[name], two[name]) for name in one if name not in ("question", "tokens"))
        pairs = list(zip(texts(data, one["question"]), texts(data, two["question"]), strict=True))
        changed, total = changed + sum(a != b for a, b in pairs), total + len(pairs)
    assert 0.25 < changed / total < 0.55
    assert same(batches(made(), "val"), batches(made(noise=1.0, empties=1.0), "val")), "validation is as it is"


def test_every_question_about_an_empty_picture_is_answered_not_present(made: Any) -> None:
    plain, some = batches(made(features=None))[0], batches(made(features=None, empties=0.5))[0]
    nothing = made().facts["answers"].index("not present")
    blank = 0
    for one, two in zip(plain, some, strict=True):
        emptied = [not torch.equal(a, b) for a, b in zip(one["image"], two["image"], strict=True)]
        blank += sum(emptied)
        about = torch.tensor(emptied)[two["image_of"]]
        assert torch.equal(two["question"], one["question"]) and torch.equal(two["image_of"], one["image_of"])
        assert (two["answer_class"][about] == nothing).all()
        assert torch.equal(two["answer_class"][~about], one["answer_class"][~about])
        assert set(texts(made(), two["answer"][about])) <= {"not present"}
    assert 3 < blank < 14
    data = made(features=None, empties=1.0)
    (number,) = data.changes.empties.numbers(0, data.dataset("train").records["image"][:1]).tolist()
    shown = next(b["image"][0] for b in batches(data)[0] if 0 in b["row"] for b in [one_of(b, 0)])
    assert np.array_equal(shown, empty_picture(number, SIDE))


def one_of(batch: Batch, row: int) -> Batch:
    return {"image": batch["image"][batch["row"] == row]}


def test_maps_of_empty_pictures_stand_in_for_maps(made: Any) -> None:
    data = made(empties=1.0)
    with pytest.raises(AssertionError, match="before training"):
        batches(data)
    data.changes.maps = torch.arange(3.0)[:, None, None, None].expand(3, *data.examples["train"].values.shape[1:])
    shown = {int(cells.unique()) for batch in batches(data)[0] for cells in batch["cells"]}
    assert shown == {0, 1, 2}
    truth = made(features=None, truth=True, empties=1.0)
    attach(truth, SimpleNamespace(preprocess=PREPROCESS, blind=False), "fit")
    assert not any(batch["cells"].any() for batch in batches(truth)[0])


def attach(data: QuestionData, task: Any, stage: str) -> None:
    """As Lightning calls `setup`."""
    device = torch.device("cpu")
    strategy = SimpleNamespace(root_device=device)
    data.trainer = SimpleNamespace(lightning_module=task, global_rank=0, world_size=1, strategy=strategy)  # type: ignore[assignment]
    data.setup(stage)


def test_maps_of_facts_tell_what_is_in_a_picture(made: Any, question_set: Path) -> None:
    """`Is there a …?` is answered by the bit of the category, in a closed world."""
    data, store = made(features=None, truth=True, families=["B1"]), VQAStore(question_set)
    column = {name: number for number, name in enumerate(data._of_truth().facts)}
    assert data.facts["channels"] == len(column) and data.facts["cells"] == [data._of_truth().shape[1], 1]
    checked = 0
    for batch in batches(data, "test")[0]:
        there = batch["cells"].amax((2, 3)).bool()[batch["image_of"]]
        for row, qid in enumerate(batch["qid"].tolist()):
            told = store[qid]
            assert told["family"] == "B1"
            expected = there[row, column[f"category/{told['slots']['cat']}"]]
            assert told["answer"] == ("yes" if expected else "no")
            checked += 1
    assert checked > 20


def test_facts_are_plain(made: Any, maps: Path) -> None:
    store = FeatureStore(maps)
    facts = made().facts
    assert (facts["channels"], *facts["cells"]) == store.shapes["map"]
    assert facts["features"] == store.fingerprint and facts["truth"] is False
    assert Preprocess.from_dict(facts["preprocess"]) == store.preprocess
    assert len(words(made())) <= 300
    pixels = made(features=None).facts
    assert [pixels[name] for name in ("channels", "cells", "features", "preprocess")] == [None] * 4
    assert pixels["tokenizer"] == facts["tokenizer"] and made(seed=5).facts == facts
    assert made(features=None, truth=True).facts["truth"] is True


def test_a_tokenizer_of_ones_own(made: Any, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(Tokenizer.train(["is there a bag?"] * 9, 280).to_text(), encoding="utf-8")
    data = made(tokenizer=str(file))
    assert data.facts["tokenizer"] == file.read_text(encoding="utf-8")
    assert data.facts["answers"] == made().facts["answers"]
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="tokenizer"):
        made(tokenizer=str(file))
    with pytest.raises(InputError, match="cannot be read"):
        made(tokenizer=str(tmp_path / "none.json"))


def test_families_and_processes(made: Any, question_set: Path) -> None:
    data = made(families=["C8", "B1"], images=2)
    store = VQAStore(question_set)
    found = {store[qid]["family"] for batch in batches(data)[0] for qid in batch["qid"].tolist()}
    assert found == {"C8", "B1"}
    for split in ("train", "val"):
        seen = []
        for rank in (0, 1):
            strategy = SimpleNamespace(root_device=torch.device("cpu"))
            data.trainer = SimpleNamespace(global_rank=rank, world_size=2, strategy=strategy)
            loader = data.loader(split)
            seen.append([batch for batch in loader])
            assert len(seen[-1]) == len(loader)
        if split == "train":
            assert len(seen[0]) == len(seen[1]) == 4
            rows = [row for part in seen for batch in part for row in batch["row"].tolist()]
            assert len(rows) == len(set(rows)) == 16
        else:
            qid = sorted(q for part in seen for batch in part for q in batch["qid"].tolist())
            assert qid == data.dataset("val").records["qid"].tolist()
    data.trainer.world_size = 7
    with pytest.raises(InputError, match="too few for 7 processes"):
        data.loader("val")


def test_features_are_held_against_the_pictures(made: Any, drawn_catalog: Catalog, maps: Path, tmp_path: Path) -> None:
    backbone = build_backbone(SEEING, "random:1", SIDE)
    given: list[np.ndarray] = []

    def maps_of(pixels: np.ndarray) -> torch.Tensor:
        given.append(pixels)
        names, _ = first_pictures(drawn_catalog, 2)
        found = torch.from_numpy(FeatureStore(maps).maps(names)).float()
        return torch.cat([torch.zeros(EMPTIES, *found.shape[1:]), found + off])

    off = 0.0
    data = made()
    attach(data, SimpleNamespace(preprocess=backbone.preprocess, maps_of=maps_of, blind=False), "fit")
    assert data.changes.maps is not None and len(data.changes.maps) == EMPTIES
    assert len(given[0]) == EMPTIES + 2 and np.array_equal(given[0][0], empty_picture(0, SIDE))
    off = 1.0
    with pytest.raises(InputError, match="not those of the catalogue's pictures"):
        attach(made(), SimpleNamespace(preprocess=backbone.preprocess, maps_of=maps_of, blind=False), "fit")
    attach(made(), SimpleNamespace(preprocess=backbone.preprocess), "validate")  # nothing is encoded
    blind = made(empties=1.0)
    attach(blind, SimpleNamespace(preprocess=backbone.preprocess, blind=True), "fit")
    assert same(batches(blind), batches(made())), "no picture is empty, and none is encoded"
    with pytest.raises(InputError, match="fashionkit eval vqa"):
        attach(made(), SimpleNamespace(preprocess=backbone.preprocess), "predict")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": ["B1", "Z9"]}, "no such family"),
        ({"families": ["C7"]}, "has no question"),
        ({"questions": "nowhere"}, "nowhere"),
        ({"catalog": "nowhere"}, "nowhere"),
        ({"images": 0}, "at least 1"),
        ({"per_image": 0}, "at least 1"),
        ({"val_questions": 0}, "at least 1"),
        ({"limit": 0}, "at least 1"),
        ({"workers": -1}, "at least 0"),
        ({"noise": 1.5}, "share"),
        ({"empties": -1.0}, "share"),
        ({"words": 10}, "tokens"),
        ({"truth": True}, "say one of the two"),
        ({"augment": "street"}, "unchanged pictures"),
        ({"augment": "sparkle", "features": None}, "no such preset"),
    ],
)
def test_misuse(made: Any, drawn: Path, question_set: Path, options: dict[str, Any], message: str) -> None:
    paths = {"catalog": str(drawn), "questions": str(question_set), "features": None}
    with pytest.raises(InputError, match=message):
        if "questions" in options or "catalog" in options:
            QuestionData(**paths | options)
        else:
            made(**options)


def test_a_set_and_features_of_another_catalogue(
    drawn: Path, question_set: Path, maps: Path, made: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    draw_catalog(other, DrawOptions(40, seed=1, size=64, workers=1, pictures=False, splits=SPLITS))
    with pytest.raises(InputError, match="another catalogue"):
        QuestionData(str(other), str(question_set))
    part = tmp_path / "part"
    shutil.copytree(maps, part)
    bare = tmp_path / "bare"
    from fashionkit.train.caching import cache_catalog

    cache_catalog(drawn, bare, build_backbone(SEEING, "random:1", SIDE), maps=False, colour=False)
    with pytest.raises(InputError, match="hold no maps"):
        _ = QuestionData(str(drawn), str(question_set), features=str(bare), words=300).facts
    names = FeatureStore(maps).ids
    from fashionkit.vision.features import cache_features

    few, pictures = tmp_path / "few", CatalogPictures(Catalog(drawn), names)
    cache_features(few, build_backbone(SEEING, "random:1", SIDE), names[:20], pictures.named, colour=False)
    with pytest.raises(InputError, match="there are no features of"):
        made(features=str(few))


def test_pictures_that_cannot_be_read_are_told(made: Any, drawn: Path, question_set: Path, tmp_path: Path) -> None:
    """Also where a worker process finds them."""
    data = made(features=None, workers=1)
    table = data._pictures._table
    broken = table.set_column(2, "bytes", [[b"no picture"] * len(table)])
    data.examples["train"].pictures._table = broken
    with pytest.raises(InputError, match="picture '"):
        list(data.loader("train"))
