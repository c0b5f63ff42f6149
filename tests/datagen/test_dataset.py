"""Reading for torch: what a sample is, that nothing is lost or read twice, and that a stopped epoch goes on exactly."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from fashionkit.datagen import dataset as module
from fashionkit.datagen.dataset import ImageBatches, SampleBatches, VQADataset, VQALoader, VQAStream, collate
from fashionkit.datagen.reading import reader as reading
from fashionkit.datagen.reading.wording import Wording
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError, write_manifest
from tests.datagen.conftest import FEW, Made, made, make_catalog, random_pictures

FILE, DAMAGED = "p0003", "p0004"  # a picture in a file of its own; one whose bytes are damaged
TEXT = {"qid", "image_id", "question", "answer", "answer_id", "family", "template"}
WORKERS = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def shade(image_id: str) -> int:
    return int(image_id[1:]) * 2 % 256


def encoded(image_id: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), (shade(image_id), 10, 20)).save(out, "PNG")
    return out.getvalue()


def to_tensor(image: Image.Image) -> torch.Tensor:
    """C, H, W uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


_stores: dict[tuple[str, bytes], VQAStore] = {}


@pytest.fixture(autouse=True)
def opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads the words of each question set once."""

    def store(path: str | Path) -> VQAStore:
        manifest = Path(path) / "manifest.json"
        key = str(path), manifest.read_bytes() if manifest.exists() else b""
        return _stores[key] if key in _stores else _stores.setdefault(key, VQAStore(path))

    monkeypatch.setattr(reading, "VQAStore", store)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Made:
    """Questions about 36 pictures that are there: all but one embedded, and one of them damaged."""
    folder = tmp_path_factory.mktemp("shown")
    pictures = random_pictures(folder / "catalog", 36, 5, one=False)
    pixels = {p.image_id: encoded(p.image_id) for p in pictures if p.image_id != FILE}
    pixels[DAMAGED] = pixels[DAMAGED][:40]
    paths = {FILE: "photos/three.png"}
    catalog = make_catalog(
        folder / "catalog", pictures, paths=paths, pixels=pixels, closed_categories=["item"], countable=["item"]
    )
    (catalog / "photos").mkdir()
    (catalog / "photos" / "three.png").write_bytes(encoded(FILE))
    return made(catalog, folder / "set", shard_images=7, families=FEW)


@pytest.fixture
def copy(shown: Made, tmp_path: Path) -> Made:
    """The questions once more, for a test that damages them."""
    return replace(shown, path=Path(shutil.copytree(shown.path, tmp_path / "copy")))


def qids(batches: Any) -> list[list[int]]:
    return [batch["qid"].tolist() for batch in batches]


def flat(batches: list[list[int]]) -> list[int]:
    return [qid for batch in batches for qid in batch]


def all_qids(made: Made, split: str = "train") -> list[int]:
    return sorted(row["qid"] for row in made.rows[split])


@pytest.fixture(scope="module")
def train(shown: Made) -> VQADataset:
    return VQADataset(shown.path)


@pytest.fixture(scope="module")
def pictured(shown: Made) -> VQADataset:
    return VQADataset(shown.path, catalog=shown.catalog, transform=to_tensor, damaged="skip")


# One sample and one batch.


def test_a_sample_is_what_the_store_says(shown: Made, train: VQADataset) -> None:
    store = VQAStore(shown.path)
    assert len(train) == len(shown.rows["train"])
    for row in (0, 1, len(train) // 2, len(train) - 1, -1):
        sample, said = train[row], store[int(train[row]["qid"])]
        assert set(sample) == TEXT and sample == {name: said[name] for name in TEXT}


def test_batches_and_samples_are_the_same(train: VQADataset) -> None:
    rows = [5, 3, 5, len(train) - 1, 0, -2]
    batch, samples = train[rows], train.__getitems__(rows)
    assert samples == [train[row] for row in rows]
    again = collate(samples)
    assert batch.keys() == again.keys() == TEXT
    for name in TEXT:
        same = torch.equal if isinstance(batch[name], torch.Tensor) else lambda a, b: a == b
        assert same(batch[name], again[name])
    assert batch["qid"].dtype == batch["answer_id"].dtype == torch.int64
    assert train[np.array(rows)]["question"] == batch["question"]


def test_prepared_texts_are_the_same_and_written_once(shown: Made, train: VQADataset) -> None:
    found, rows = VQADataset(shown.path), range(0, len(train), 3)
    known = found.reader._wording._known
    assert len(known) == 0 and found.prepare() is found
    written = len(known)
    assert written > 100 and found[list(rows)]["question"] == train[list(rows)]["question"] and len(known) == written
    full = VQADataset(shown.path)
    full.reader._wording = Wording(full.reader.store.renderer, kept=50)
    assert full.prepare()[list(rows)]["question"] == train[list(rows)]["question"]


@pytest.mark.parametrize("row", [10**9, -(10**9)])
def test_rows_beyond_the_end_are_refused(train: VQADataset, row: int) -> None:
    with pytest.raises(IndexError, match=str(len(train))):
        train[row]
    with pytest.raises(IndexError):
        train[[0, row]]


@pytest.mark.parametrize("family", ["B2", ["C1", "N1"], None])
def test_families_can_be_chosen(shown: Made, family: Any) -> None:
    store, found = VQAStore(shown.path), VQADataset(shown.path, "test", family)
    wanted = {None: None, "B2": {"B2"}}.get(family, {"C1", "N1"}) if not isinstance(family, list) else set(family)
    templates = store.pack.templates
    rows = [r["qid"] for r in shown.rows["test"] if wanted is None or templates[r["template"]].family in wanted]
    assert rows and found.records["qid"].tolist() == rows
    stream = VQAStream(shown.path, "test", family, batch_size=50)
    assert sorted(flat(qids(stream))) == rows


def test_the_absent_split_is_the_not_present_questions(shown: Made) -> None:
    store = VQAStore(shown.path)
    wanted = [row["qid"] for batch in store.iter("absent") for row in batch.to_pylist()]
    assert wanted and VQADataset(shown.path, "absent").records["qid"].tolist() == wanted
    assert VQADataset(shown.path, "absent", family="C1")[[]]["question"] == []


# Pictures.


def test_pictures_are_those_of_the_samples(shown: Made) -> None:
    """From the catalogue's bytes and from a file; read by row, and stacked once in a batch."""
    found = VQADataset(shown.path, catalog=shown.catalog, transform=to_tensor, damaged="skip")
    ids = found.reader.store.image_ids
    rows = [int(np.flatnonzero(found.records["image"] == n)[0]) for n in np.unique(found.records["image"])]
    seen = set()
    for row in rows:
        if ids[found.records["image"][row]] == DAMAGED:
            continue
        sample = found[row]
        assert sample["image"].shape == (3, 6, 8) and sample["image"][0, 0, 0] == shade(sample["image_id"])
        seen.add(sample["image_id"])
    assert {FILE} < seen and DAMAGED not in seen
    batch = found[rows + rows[::-1]]
    assert batch["images"].shape == (len(seen), 3, 6, 8) and batch["skipped"] == 2
    assert [shade(i) for i in batch["image_id"]] == batch["images"][batch["image_of"], 0, 0, 0].tolist()


def test_collating_samples_joins_their_pictures_again(pictured: VQADataset) -> None:
    rows = list(range(0, len(pictured), 9))
    one, two = pictured[rows], collate(pictured.__getitems__(rows))
    assert torch.equal(one["images"], two["images"]) and torch.equal(one["image_of"], two["image_of"])


def test_each_picture_is_decoded_once_a_batch(shown: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[int] = Counter()
    true_open = reading.Pictures.open
    monkeypatch.setattr(reading.Pictures, "open", lambda self, n: opened.update([n]) or true_open(self, n))
    found = VQADataset(shown.path, catalog=shown.catalog, damaged="skip")
    batch = found[list(range(len(found)))]
    assert set(opened.values()) == {1} and len(opened) == len(np.unique(found.records["image"]))
    assert isinstance(batch["images"], list) and batch["images"][0].mode == "RGB"


def test_a_damaged_picture_is_named_or_skipped(shown: Made) -> None:
    strict = VQADataset(shown.path, catalog=shown.catalog)
    number = strict.reader.store.image_ids.index(DAMAGED)
    row = int(np.flatnonzero(strict.records["image"] == number)[0])
    for read in (lambda: strict[row], lambda: strict[[0, row]]):
        with pytest.raises(InputError, match=rf"cannot be used(.|\n)*{DAMAGED}"):
            read()
    kind = VQADataset(shown.path, catalog=shown.catalog, damaged="skip")
    with pytest.raises(InputError, match="damaged"):
        kind[row]
    batch = kind[[row]]
    assert batch["qid"].tolist() == [] == batch["images"] and batch["skipped"] == 1
    whole = kind[list(range(len(kind)))]
    lost = int((kind.records["image"] == number).sum())
    assert whole["skipped"] == lost > 0 and len(whole["qid"]) == len(kind) - lost


def test_a_picture_file_that_is_gone_is_named(shown: Made, tmp_path: Path) -> None:
    catalog = Path(shutil.copytree(shown.catalog, tmp_path / "catalog"))
    found = VQADataset(shown.path, catalog=catalog)
    row = int(np.flatnonzero(found.records["image"] == found.reader.store.image_ids.index(FILE))[0])
    assert found[row]["image"].size == (8, 6)
    (catalog / "photos" / "three.png").unlink()
    with pytest.raises(InputError, match=rf"three\.png(.|\n)*{FILE}"):
        found[row]


def test_unpacked_pictures_are_the_same_and_made_once(shown: Made, tmp_path: Path) -> None:
    arguments = {"catalog": shown.catalog, "transform": to_tensor, "damaged": "skip", "cache": tmp_path}
    one = VQADataset(shown.path, **arguments)
    (file,) = tmp_path.iterdir()
    made_at = file.stat().st_mtime_ns
    two, held = VQADataset(shown.path, **arguments), VQADataset(shown.path, **{**arguments, "cache": None})
    rows = list(range(0, len(one), 5))
    assert torch.equal(one[rows]["images"], held[rows]["images"]) and torch.equal(
        two[rows]["images"], one[rows]["images"]
    )
    assert [file.stat().st_mtime_ns] == [made_at] and len(list(tmp_path.iterdir())) == 1
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=file.name):
        VQADataset(shown.path, **arguments)


def test_a_catalogue_that_does_not_fit_is_refused(shown: Made, outfits: Path) -> None:
    with pytest.raises(InputError, match="another catalogue"):
        VQADataset(shown.path, catalog=outfits)
    with pytest.raises(InputError, match="nearest allowed: 'skip'"):
        VQADataset(shown.path, catalog=shown.catalog, damaged="skp")


# Order: nothing lost, nothing twice.

SOURCES = ["samples", "stream", "images", "all questions"]


def source(kind: str, shown: Made, **options: Any) -> Any:
    """A source of batches of about 40 samples."""
    if kind == "stream":
        options = {"batch_size": 40, "window": 300, **options}
        return VQAStream(shown.path, **options)
    options.setdefault("seed", 0)
    dataset = VQADataset(shown.path, options.pop("split", "train"))
    if kind == "samples":
        return SampleBatches(dataset, options.pop("batch_size", 40), **options)
    options.pop("batch_size", None)
    return ImageBatches(dataset, 5, 8, cover=kind == "all questions", **options)


@pytest.fixture(params=SOURCES)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_the_seed_and_the_epoch_make_the_order(shown: Made, kind: str) -> None:
    one, same = VQALoader(source(kind, shown, seed=3)), VQALoader(source(kind, shown, seed=3))
    first, second = qids(one), qids(one)
    assert first == qids(same) and second == qids(same)
    other = qids(VQALoader(source(kind, shown, seed=4)))
    assert len(first) == len(second) == len(other) == len(one)
    assert first != second and first != other
    same.set_epoch(0)
    assert qids(same) == first


@pytest.mark.parametrize("batch_size", [7, 40])
@pytest.mark.parametrize("kind", ["samples", "stream", "all questions"])
def test_an_epoch_has_everything_once(shown: Made, kind: str, batch_size: int) -> None:
    for options in ({}, {"shuffle": False}, {"split": "test"}):
        read = flat(qids(VQALoader(source(kind, shown, batch_size=batch_size, **options))))
        assert sorted(read) == all_qids(shown, options.get("split", "train"))
        if options.get("shuffle") is False:
            assert read == sorted(read), "the order of the set"
        else:
            assert read != sorted(read)


@WORKERS
def test_three_ranks_with_two_workers_share_everything_once(shown: Made, kind: str) -> None:
    whole = qids(VQALoader(source(kind, shown, seed=5)))
    ranks = [qids(VQALoader(source(kind, shown, seed=5, rank=r, world=3), num_workers=2)) for r in range(3)]
    assert sorted(flat(flat_list(ranks))) == sorted(flat(whole))
    assert len({len(batches) for batches in ranks}) <= 2
    for number in range(len(whole) // 3):
        assert [ranks[r][number] for r in range(3)] == whole[3 * number : 3 * number + 3], "dealt out in turn"


def flat_list(nested: list[list[Any]]) -> list[Any]:
    return [one for part in nested for one in part]


@WORKERS
@pytest.mark.parametrize("batch_size", [40, None])
def test_torchs_own_loader_shares_a_stream_between_ranks_and_workers(shown: Made, batch_size: int | None) -> None:
    read: list[int] = []
    for rank in range(3):
        stream = VQAStream(shown.path, batch_size=batch_size, window=200, rank=rank, world=3)
        loader = DataLoader(
            stream, batch_size=None if batch_size else 16, num_workers=2, collate_fn=None if batch_size else collate
        )
        read += flat(qids(loader))
    assert sorted(read) == all_qids(shown)


@WORKERS
def test_torchs_own_loader_reads_in_the_order_of_the_batches(shown: Made, train: VQADataset) -> None:
    batches = SampleBatches(train, 40, seed=2)
    for workers in (0, 2):
        found = qids(DataLoader(train, batch_sampler=batches, collate_fn=collate, num_workers=workers))
        assert found == qids(VQALoader(batches))
    stream = VQAStream(shown.path, batch_size=40, seed=2)
    assert qids(DataLoader(stream, batch_size=None, num_workers=2)) == qids(stream)


def test_batches_of_other_sizes_follow_one_order(shown: Made) -> None:
    for kind in ("samples", "stream"):
        assert flat(qids(VQALoader(source(kind, shown, batch_size=40)))) == flat(
            qids(VQALoader(source(kind, shown, batch_size=17)))
        )


def test_the_last_round_can_be_left_out(shown: Made, kind: str) -> None:
    ranks = [qids(VQALoader(source(kind, shown, rank=r, world=3, drop_last=True))) for r in range(3)]
    assert len({len(batches) for batches in ranks}) == 1
    if kind in ("samples", "stream"):
        assert {len(batch) for batches in ranks for batch in batches} == {40}
    read = flat(flat_list(ranks))
    assert len(set(read)) == len(read)


def test_a_stream_mixes_parts(shown: Made) -> None:
    """With a window of everything a batch has pictures of all parts; with the least, of one row group."""
    parts = {row["qid"]: n for n, p in enumerate(sorted((shown.path / "samples" / "train").iterdir()))
             for row in pq.read_table(p, partitioning=None, columns=["qid"]).to_pylist()}  # fmt: skip
    wide = qids(VQAStream(shown.path, batch_size=40))
    narrow = qids(VQAStream(shown.path, batch_size=40, window=1))
    assert len(set(parts.values())) > 2
    assert {parts[q] for q in wide[0]} == set(parts.values()) and len({parts[q] for q in narrow[0]}) == 1
    assert sorted(flat(wide)) == sorted(flat(narrow)) == all_qids(shown)


def test_a_stream_holds_one_window(shown: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row group is read once an epoch, however many batches lie in it."""
    stream, reads = VQAStream(shown.path, batch_size=7, window=1), Counter()
    true_read = stream.reader.samples.read
    monkeypatch.setattr(stream.reader.samples, "read", lambda group: reads.update([group]) or true_read(group))
    assert sorted(flat(qids(stream))) == all_qids(shown)
    assert set(reads.values()) == {1} and len(reads) == len(stream.reader.samples.groups)


def test_what_a_stream_read_before_changes_nothing(shown: Made) -> None:
    """As where one window holds everything, in another order of row groups each epoch."""
    stream, fresh = (VQAStream(shown.path, batch_size=40) for _ in range(2))
    first = qids(stream)
    stream.set_epoch(1)
    fresh.set_epoch(1)
    assert first != qids(stream) == qids(fresh)
    last = len(stream) - 1
    assert fresh.fetch(0, last)["qid"].tolist() == first[last] and fresh.fetch(0, 2)["qid"].tolist() == first[2]


def test_single_samples_stream_like_batches(shown: Made) -> None:
    batches = flat(qids(VQAStream(shown.path, batch_size=40, seed=6)))
    singles = VQAStream(shown.path, batch_size=None, seed=6)
    samples = list(singles)
    assert [s["qid"] for s in samples] == batches and len(singles) == len(samples)
    assert samples[3] == VQADataset(shown.path)[batches[3] - min(batches)]


def test_single_samples_stream_with_pictures(shown: Made) -> None:
    stream = VQAStream(
        shown.path, catalog=shown.catalog, transform=to_tensor, damaged="skip", batch_size=None, family="C1"
    )
    samples = list(stream)
    assert samples and all(s["image"][0, 0, 0] == shade(s["image_id"]) for s in samples)
    assert 0 < len(samples) < len(stream), "those with the damaged picture are left out"


# Pictures with several questions.


def test_image_batches_have_some_questions_of_each_picture(shown: Made, pictured: VQADataset) -> None:
    have = Counter(pictured.records["image"].tolist())
    seen: list[str] = []
    for batch in VQALoader(ImageBatches(pictured, images=4, questions=6, seed=1)):
        assert len(batch["images"]) <= 4 and len(batch["qid"]) == len(batch["image_of"])
        for number, count in enumerate(torch.bincount(batch["image_of"]).tolist()):
            name = batch["image_id"][batch["image_of"].tolist().index(number)]
            assert count == min(6, have[pictured.reader.store.image_ids.index(name)])
            assert batch["images"][number, 0, 0, 0] == shade(name)
            seen.append(name)
    assert len(set(seen)) == len(seen) == len(have) - 1, "each picture once, but for the damaged one"


def test_epochs_ask_other_questions_until_all_are_asked(train: VQADataset) -> None:
    batches = ImageBatches(train, images=10, questions=8, seed=1)
    most = max(Counter(train.records["image"].tolist()).values())
    seen: Counter[int] = Counter()
    for epoch in range(-(-most // 8)):
        rows = [row for number in range(len(batches)) for row in batches.rows(epoch, number).tolist()]
        assert len(set(rows)) == len(rows)
        seen.update(rows)
    assert len(seen) == len(train)
    image = train.records["image"]
    for number in np.unique(image):
        asked = [seen[row] for row in np.flatnonzero(image == number).tolist()]
        assert max(asked) - min(asked) <= 1, "none is asked twice more often than another"


def test_covering_epochs_meet_a_picture_in_other_company(train: VQADataset) -> None:
    batches = ImageBatches(train, images=3, questions=5, cover=True, seed=1)
    epochs = [[frozenset(batches.rows(epoch, n).tolist()) for n in range(len(batches))] for epoch in range(2)]
    assert sorted(r for b in epochs[0] for r in b) == list(range(len(train))) and not set(epochs[0]) & set(epochs[1])


def test_rows_in_any_order_are_grouped(train: VQADataset) -> None:
    """As where a set's pictures lie in several runs."""

    class Mixed:
        records = train.records[np.random.default_rng(0).permutation(len(train))]

        def identity(self) -> dict[str, Any]:
            return {}

    batches = ImageBatches(Mixed(), images=3, questions=5)  # type: ignore[arg-type]
    for number in range(len(batches)):
        images = Mixed.records["image"][batches.rows(0, number)]
        assert len(np.unique(images)) == len(images) // 5 <= 3


# Stopped and continued.


@WORKERS
@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 2), (0, 2)])
def test_a_stopped_epoch_goes_on_exactly(shown: Made, kind: str, before: int, after: int) -> None:
    whole = VQALoader(source(kind, shown, seed=8))
    epochs = [qids(whole) for _ in range(3)]
    middle = 1 + len(whole) * len(kind) // 20  # somewhere
    for stop in (1, middle, len(whole)) if before == after == 0 else (middle,):
        first = VQALoader(source(kind, shown, seed=8), num_workers=before)
        first.set_epoch(1)
        seen = []
        for batch in first:
            seen.append(batch["qid"].tolist())
            if len(seen) == stop:
                state = json.loads(json.dumps(first.state_dict()))
                break
        second = VQALoader(source(kind, shown, seed=8), num_workers=after)
        second.load_state_dict(state)
        assert second.state_dict() == state
        if stop < len(whole):
            assert seen + qids(second) == epochs[1]
        if before == after == 0:
            assert qids(second) == epochs[2], "and the next epoch is whole"


def test_state_counts_what_was_handed_out(shown: Made, kind: str) -> None:
    loader = VQALoader(source(kind, shown))
    assert loader.state_dict()["seen"] == 0
    batches = iter(loader)
    for number in range(1, 4):
        next(batches)
        assert loader.state_dict()["seen"] == loader.source.rounds.seen(number)
    assert list(batches) and (loader.state_dict()["epoch"], loader.state_dict()["seen"]) == (1, 0)


def test_who_counts_batches_gets_the_next_epoch(shown: Made, kind: str) -> None:
    """As Lightning does, which never asks for one batch too many."""
    counted, looped = VQALoader(source(kind, shown)), VQALoader(source(kind, shown))
    epochs = [qids(batch for _, batch in zip(range(len(counted)), counted, strict=False)) for _ in range(2)]
    assert epochs == [qids(looped), qids(looped)] and counted.state_dict() == looped.state_dict()


@pytest.mark.parametrize("kind", ["samples", "stream"])
def test_a_state_goes_on_with_other_ranks_and_batches(shown: Made, kind: str) -> None:
    whole = flat(qids(VQALoader(source(kind, shown))))
    loader = VQALoader(source(kind, shown, rank=1, world=3))
    batches = iter(loader)
    next(batches), next(batches)
    state = loader.state_dict()
    assert state["seen"] == 240
    alone = VQALoader(source(kind, shown, batch_size=60))
    alone.load_state_dict(state)
    assert flat(qids(alone)) == whole[240:]
    with pytest.raises(InputError, match="divides 240"):
        VQALoader(source(kind, shown, batch_size=50)).load_state_dict(state)


def test_a_state_of_another_order_is_refused(shown: Made, copy: Made, kind: str) -> None:
    state = VQALoader(source(kind, shown)).state_dict()
    for other in ({"seed": 1}, {"shuffle": False}, {"split": "test"}):
        with pytest.raises(InputError, match="another order"):
            VQALoader(source(kind, shown, **other)).load_state_dict(state)
    (copy.path / "notes.txt").write_text("another set")
    write_manifest(copy.path, VQAStore(copy.path).manifest)
    with pytest.raises(InputError, match="another order"):
        VQALoader(source(kind, copy)).load_state_dict(state)
    with pytest.raises(InputError, match="no state"):
        VQALoader(source(kind, shown)).load_state_dict({"epoch": 0})


@pytest.mark.parametrize("batch_size", [40, None])
def test_a_stream_alone_goes_on_exactly(shown: Made, batch_size: int | None) -> None:
    def read(stream: VQAStream) -> Iterator[Any]:
        return (item["qid"] if batch_size is None else item["qid"].tolist() for item in stream)

    stream = VQAStream(shown.path, batch_size=batch_size, window=300)
    stream.set_epoch(1)
    whole = list(read(stream))
    stream.set_epoch(1)
    batches = read(stream)
    seen = [next(batches) for _ in range(len(whole) // 2)]
    other = VQAStream(shown.path, batch_size=batch_size, window=300)
    other.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert seen + list(read(other)) == whole
    other.set_epoch(1)
    assert list(read(other)) == whole
    with pytest.raises(InputError, match="another order"):
        VQAStream(shown.path, batch_size=13, window=300).load_state_dict(stream.state_dict())


@WORKERS
def test_workers_that_stay_read_every_epoch(shown: Made, kind: str) -> None:
    plain = VQALoader(source(kind, shown))
    staying = VQALoader(source(kind, shown), num_workers=2, persistent_workers=True)
    assert [qids(staying) for _ in range(2)] == [qids(plain) for _ in range(2)]


SPAWNED = """
import json, sys
from fashionkit.datagen.dataset import ImageBatches, VQADataset, VQALoader, VQAStream
from tests.datagen.test_dataset import to_tensor

if __name__ == "__main__":
    path, catalog = sys.argv[1:]
    arguments = dict(catalog=catalog, transform=to_tensor, damaged="skip")
    sources = [ImageBatches(VQADataset(path, **arguments), 9, 9, seed=1), VQAStream(path, batch_size=90, **arguments)]
    for source in sources:
        for workers in ({}, dict(num_workers=2, multiprocessing_context="spawn")):
            batches = list(VQALoader(source, **workers))
            print(json.dumps([[b["qid"].tolist(), b["images"].sum().item(), b["question"]] for b in batches]))
"""


@pytest.mark.slow
def test_spawned_workers_read_the_same(shown: Made, tmp_path: Path, root: Path) -> None:
    (tmp_path / "spawned.py").write_text(SPAWNED)
    command = [sys.executable, str(tmp_path / "spawned.py"), str(shown.path), str(shown.catalog)]
    found = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(root)})
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert len(lines) == 4 and lines[0] == lines[1] and lines[2] == lines[3] and len(json.loads(lines[2])) > 3


def test_a_set_that_changed_is_not_read_by_a_new_worker(copy: Made) -> None:
    """A spawned worker opens the set anew."""
    found, path = VQADataset(copy.path), copy.path
    function, arguments = found.__reduce__()[:2]
    assert len(function(*arguments)) == len(found)
    manifest = found.reader.store.manifest
    (path / "extra.txt").write_text("x")
    write_manifest(path, manifest)
    with pytest.raises(InputError, match="has changed"):
        function(*arguments)


@WORKERS
def test_errors_of_workers_name_the_picture(shown: Made) -> None:
    found = VQADataset(shown.path, catalog=shown.catalog)
    with pytest.raises(InputError, match=DAMAGED):
        list(VQALoader(ImageBatches(found, 40, 2), num_workers=1))


def test_a_function_of_the_callers_ends_each_batch(train: VQADataset) -> None:
    loader = VQALoader(SampleBatches(train, 30), collate_fn=lambda batch: len(batch["question"]))
    assert next(iter(loader)) == 30


# Misuse and damage.


def test_splits_and_families_that_are_not_there(shown: Made) -> None:
    for kind in (VQADataset, VQAStream):
        with pytest.raises(InputError, match="nearest allowed: 'train'"):
            kind(shown.path, "trian")
        with pytest.raises(InputError, match="no such family"):
            kind(shown.path, family="C9")
        with pytest.raises(InputError, match="no such folder"):
            kind(shown.path / "nowhere")


def test_an_empty_split_gives_nothing(shown: Made) -> None:
    empty = VQADataset(shown.path, "compositional")
    sources = [SampleBatches(empty, 8), ImageBatches(empty, 4, 4), ImageBatches(empty, 4, 4, cover=True)]
    for found in (*sources, VQAStream(shown.path, "compositional")):
        loader = VQALoader(found)
        assert len(loader) == 0 and list(loader) == [] and list(found) == []
        loader.load_state_dict(loader.state_dict())
    assert len(empty) == 0 and collate([])["qid"].shape == (0,)


def test_options_that_the_source_decides_are_refused(train: VQADataset, shown: Made) -> None:
    with pytest.raises(InputError, match="shuffle"):
        VQALoader(SampleBatches(train, 8), shuffle=True)
    with pytest.raises(InputError, match="single samples"):
        VQALoader(VQAStream(shown.path, batch_size=None))
    for wrong in (
        lambda: SampleBatches(train, 0),
        lambda: ImageBatches(train, 4, 0),
        lambda: ImageBatches(train, 0, 1),
    ):
        with pytest.raises(InputError):
            wrong()
    with pytest.raises(InputError, match="window"):
        VQAStream(shown.path, window=0)


@pytest.mark.parametrize(
    ("column", "value"), [("template", 60_000), ("answer", 60_000), ("paraphrase", 250), ("image", -1)]
)
def test_ids_that_mean_nothing_are_named(copy: Made, column: str, value: int) -> None:
    path = sorted((copy.path / "samples" / "train").iterdir())[0]
    table = pq.read_table(path, partitioning=None)
    values = table[column].to_numpy().copy()
    values[4] = value
    at = table.column_names.index(column)
    pq.write_table(
        table.set_column(at, table.schema.field(column), pa.array(values, table.schema.field(column).type)), path
    )
    with pytest.raises(InputError, match=rf"{path.name}, row 5, column '{column}'"):
        VQADataset(copy.path)
    with pytest.raises(InputError, match="row 5"):
        list(VQAStream(copy.path))


def test_a_missing_column_and_a_damaged_part_are_named(copy: Made) -> None:
    path = sorted((copy.path / "samples" / "train").iterdir())[0]
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.drop_columns(["slot2"]), path)
    with pytest.raises(InputError, match=r"(?s)column is missing.*slot2"):
        VQADataset(copy.path)
    stream = VQAStream(copy.path, "test")
    part = sorted((copy.path / "samples" / "test").iterdir())[0]
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(InputError, match=part.name):
        list(stream)


def test_ranks_come_from_the_process_group(train: VQADataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SampleBatches(train, 8).rounds.world == 1
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 5)
    assert (SampleBatches(train, 8).rounds.rank, SampleBatches(train, 8).rounds.world) == (2, 5)
    assert SampleBatches(train, 8, rank=0, world=1).rounds.world == 1


def test_nothing_but_the_data_set_imports_torch(root: Path) -> None:
    names = [p.stem for p in (root / "fashionkit/datagen/reading").glob("*.py") if p.stem != "__init__"]
    modules = ", ".join(f"fashionkit.datagen.reading.{name}" for name in names)
    script = f"import sys, {modules}; assert 'torch' not in sys.modules"
    assert len(names) > 4 and module.torch is torch
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)
