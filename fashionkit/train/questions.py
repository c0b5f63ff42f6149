"""Questions about a catalogue's pictures as training data.

    question set ─► `VQADataset` of each split ─► `ImageBatches` ─┐
    catalogue ─► pixels, each picture once a batch ──────────┐    ├─► `QuestionBatches` ─► `QuestionLoader` ─► batches
    or features ─► maps, in memory where there is room ──────┼────┘
    or catalogue ─► maps made of facts (`truth`) ────────────┘

An epoch of training shows each picture once, with some of its questions; the next epoch asks it others. Validation asks
the same questions every time: a sample that depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.schema import SPLITS
from fashionkit.datagen.dataset import VQADataset
from fashionkit.datagen.reading.batches import ImageBatches
from fashionkit.tables import InputError
from fashionkit.train.data import TrainData, begin_worker
from fashionkit.train.empty_pictures import Empties, empty_picture
from fashionkit.train.pictures import CatalogPictures, Examples, first_pictures
from fashionkit.train.question_batches import Changes, Maps, Pictures, QuestionBatches, QuestionLoader
from fashionkit.train.slips import Slips
from fashionkit.train.spoken import Answers, Questions, canonical, learn_tokenizer, read_tokenizer
from fashionkit.train.truth import TruthMaps
from fashionkit.vision.augment import Augment
from fashionkit.vision.feature_store import FeatureStore
from fashionkit.vision.pictures import sized
from fashionkit.vision.preprocess import Preprocess

Array = npt.NDArray[Any]
STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
UNSEEN = Preprocess(1, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0)  # of pictures that are not looked at
EMPTIES = 64  # empty pictures whose maps are made, where maps come from disk
COMPARED, NEAR = 2, 0.05  # pictures of the catalogue that cached features are held against, and how near they must be


class QuestionData(TrainData):
    """Questions about pictures.

    Args:
        catalog: Its folder. questions: The question set that was made from it.
        features: Folder of `fashionkit features` with maps, which stand in for pixels.
        truth: Maps are made of what the catalogue says (`fashionkit.train.truth`), and no picture is looked at.
        images: Pictures of a batch in each process. per_image: Questions of each.
        families: Question families; empty: all. words: Most tokens of the tokenizer.
        tokenizer: File of one that is there; without it, one is learnt from the questions.
        noise: Share of training questions with a slip of the pen (`fashionkit.train.slips`).
        empties: Share of training pictures that are empty ones; to every question about such the answer is not present.
            A blind network, which could not know, is shown none.
        augment: Preset of random changes in training (`fashionkit.vision.augment`); of pixels only.
        val_questions, test_questions: So many of the split, drawn by seed; None: all.
        limit: At most so many training pictures, the first of an order by `seed`.
        workers: Processes that prepare batches; 0: the training process.
        memory: MiB for maps, which are read from disk each time where they need more, or for decoded pictures.
        seed: Of order, slips, empty pictures and samples. predict: Not used: `fashionkit eval vqa` writes answers.

    Raises:
        InputError: No such folder, a set of another catalogue, no such family, or a setting out of range.
    """

    def __init__(
        self,
        catalog: str,
        questions: str,
        features: str | None = None,
        truth: bool = False,
        images: int = 64,
        per_image: int = 8,
        families: Sequence[str] = (),
        words: int = 2048,
        tokenizer: str | None = None,
        noise: float = 0.1,
        empties: float = 0.02,
        augment: str | None = None,
        val_questions: int | None = 4096,
        test_questions: int | None = None,
        limit: int | None = None,
        workers: int = 0,
        memory: int = 2048,
        seed: int = 0,
        predict: str = "test",
    ):
        super().__init__()
        self.save_hyperparameters()
        least = {"images": (images, 1), "per_image": (per_image, 1)}
        least |= {"workers": (workers, 0), "memory": (memory, 0)}
        optional = {"val_questions": val_questions, "test_questions": test_questions, "limit": limit}
        least |= {name: (value, 1) for name, value in optional.items() if value is not None}
        for name, (value, lowest) in least.items():
            if value < lowest:
                raise InputError(f"a number of at least {lowest} is needed", column=name, found=value)
        if truth and features is not None:
            raise InputError("maps are made of facts or read from a folder", column="truth", hint="say one of the two")
        if augment is not None and (truth or features is not None):
            raise InputError("maps are of unchanged pictures", column="augment", found=augment, hint="leave it out")
        self.questions, self.features, self.truth, self.augment = questions, features, truth, augment
        self.images, self.per_image, self.families, self.limit = images, per_image, list(families), limit
        self.words, self.tokenizer = words, tokenizer
        self.samples = {"val": val_questions, "test": test_questions}
        self.workers, self.memory, self.seed, self.predict = workers, memory, seed, predict
        self.changes = Changes(Slips(noise, seed), Empties(empties, seed))
        self._datasets: dict[str, VQADataset] = {}
        self._row_of: dict[str, Array] = {}
        self._facts: dict[str, Any] | None = None
        self._pictures: CatalogPictures | None = None
        self._truth: TruthMaps | None = None
        self._read: tuple[Questions, Answers] | None = None
        self.source: Catalog = self.dataset("train").reader.store.catalog(catalog)

    @property
    def facts(self) -> dict[str, Any]:
        """With `tokenizer`, its JSON, and `answers`, texts in the order of their classes; of maps that stand in for
        pixels `channels`, `cells` (h, w), `features`, the fingerprint of what makes them, and `preprocess`, all None
        where pixels are read; `truth`, whether they are made of facts."""
        if self._facts is None:
            questions, answers = self.read
            found: dict[str, Any] = {"tokenizer": questions.tokenizer.to_text(), "answers": answers.texts}
            self._facts = found | self._of_maps()
        return self._facts

    @property
    def read(self) -> tuple[Questions, Answers]:
        """How questions and answers become tokens."""
        self.dataset("train")
        assert self._read is not None
        return self._read

    def dataset(self, split: str) -> VQADataset:
        """The questions of a split: of `train` those of the pictures within `limit`, of the others the sample.

        Raises:
            InputError: The split has none.
        """
        if split not in self._datasets:
            found = VQADataset(self.questions, split, self.families or None)
            if not len(found):
                raise InputError(f"the split {split!r} has no question", file=self.questions)
            if split == "train":
                self._read = self._learnt(found)
            found.records = self._chosen(split, found.records)
            self._datasets[split] = found
        return self._datasets[split]

    def prepare(self, preprocess: Preprocess, splits: Sequence[str] = SPLITS) -> None:
        """Makes pictures or maps of some splits ready."""
        wanted = {split: np.unique(self.dataset(split).records["image"]) for split in splits}
        share = {split: len(images) / sum(map(len, wanted.values())) for split, images in wanted.items()}
        for split, images in wanted.items():
            if split not in self.examples:
                store = self.dataset(split).reader.store
                ids = [store.image_ids[number] for number in images.tolist()]
                self._row_of[split] = np.full(len(store.image_ids), -1, np.int64)
                self._row_of[split][images] = np.arange(len(images))
                memory = int((self.memory << 20) * share[split])
                self.examples[split] = self._shown(split, ids, preprocess, memory)

    def setup(self, stage: str) -> None:
        """Prepares what a stage needs; for training with cached features, the task encodes empty pictures.

        Raises:
            InputError: Predictions are asked for; or features of other pictures, weights or preparation.
        """
        if stage not in STAGES:
            hint = "`fashionkit eval vqa` writes the answers of a run"
            raise InputError("`predict` is about pictures, not about questions", column="data", hint=hint)
        assert self.trainer is not None
        task: Any = self.trainer.lightning_module
        self.prepare(task.preprocess, STAGES[stage])
        if stage == "fit" and task.blind:
            self.changes.empties = Empties(0.0, self.seed)
        elif stage == "fit" and self.changes.maps is None:
            self.changes.maps = self._empty_maps(task)

    def train_dataloader(self) -> QuestionLoader:
        return self.loader("train")

    def val_dataloader(self) -> QuestionLoader:
        return self.loader("val")

    def test_dataloader(self) -> QuestionLoader:
        return self.loader("test")

    def loader(self, split: str) -> QuestionLoader:
        """Batches of a split, those of this process only: training's, or all of its questions in order.

        Raises:
            InputError: There are fewer pictures than processes.
        """
        rank, world, pin = 0, 1, False
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            pin = self.trainer.strategy.root_device.type == "cuda"
        dataset, number, train = self.dataset(split), len(self.examples[split]), split == "train"
        if number < world:
            raise InputError(f"{number} pictures of {split!r} are too few for {world} processes", file=self.questions)
        # In training all processes get equally many whole batches; otherwise all questions, each once.
        images = min(self.images, number // world) if train else self.images
        options: dict[str, Any] = {"seed": self.seed, "rank": rank, "world": world, "drop_last": train}
        batches = ImageBatches(dataset, images, self.per_image, cover=not train, shuffle=train, **options)
        changes = self.changes if train else None
        source = QuestionBatches(
            batches, dataset, self.examples[split], self._row_of[split], *self.read, changes=changes
        )
        return QuestionLoader(
            source,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=pin,
            worker_init_fn=begin_worker,
        )

    def _learnt(self, train: VQADataset) -> tuple[Questions, Answers]:
        found = learn_tokenizer(train, self.words) if self.tokenizer is None else read_tokenizer(self.tokenizer)
        known = list(canonical(train).values())
        return Questions(found), Answers(train.reader.store.vocab, known, found)

    def _chosen(self, split: str, records: Array) -> Array:
        """The records of the pictures within `limit`, or of the sample, in their order."""
        rng = np.random.default_rng([self.seed, 1])
        if split == "train":
            if self.limit is None:
                return records
            images = np.unique(records["image"])
            kept = images[rng.permutation(len(images))[: self.limit]]
            return records[np.isin(records["image"], kept)]
        number = self.samples[split]
        return records if number is None else records[np.sort(rng.permutation(len(records))[:number])]

    def _of_maps(self) -> dict[str, Any]:
        if self.truth:
            maps = self._of_truth()
            return _facts(maps.shape, maps.fingerprint, UNSEEN, True)
        if self.features is None:
            return dict.fromkeys(("channels", "cells", "features", "preprocess"), None) | {"truth": False}
        store = FeatureStore(self.features)
        if "map" not in store.shapes:
            hint = "`fashionkit features` keeps maps with --maps"
            raise InputError("the features hold no maps", file=self.features, column="features", hint=hint)
        return _facts(store.shapes["map"], store.fingerprint, store.preprocess, False)

    def _of_truth(self) -> TruthMaps:
        self._truth = self._truth or TruthMaps(self.source.path)
        return self._truth

    def _shown(self, split: str, ids: list[str], preprocess: Preprocess, memory: int) -> Pictures:
        """Pictures or maps of a split; memory: bytes."""
        if self.truth:
            return Maps(self._of_truth().rows(ids))
        if self.features is not None:
            rows = FeatureStore(self.features).rows("map", ids)
            return Maps(rows[:] if 2 * int(np.prod(rows.shape)) <= memory else rows)
        self._pictures = self._pictures or CatalogPictures(self.source, [])
        augment = Augment(self.augment, preprocess.size, self.seed) if self.augment and split == "train" else None
        memory //= max(1, self.workers)
        return Examples(self._pictures.of(ids), {}, preprocess, augment, memory=memory)

    def _empty_maps(self, task: Any) -> Tensor | None:
        """(E, C, h, w) maps of empty pictures; None where pixels are read. Cached features are held against pictures.

        Raises:
            InputError: The features are of other pictures than the catalogue's.
        """
        if self.truth:
            return torch.zeros(1, *self._of_truth().shape)  # nothing is there, not even a picture
        if self.features is None:
            return None
        names, pictures = first_pictures(self.source, COMPARED)
        pixels = [empty_picture(number, task.preprocess.size) for number in range(EMPTIES)]
        found: Tensor = task.maps_of(np.stack([*pixels, *(sized(one, task.preprocess) for one in pictures)]))
        kept = torch.from_numpy(FeatureStore(self.features).maps(names)).float()
        off = (found[EMPTIES:] - kept).flatten(1).norm(dim=1) / kept.flatten(1).norm(dim=1).clamp(min=1e-6)
        if (off > NEAR).any():
            problem = "the features are not those of the catalogue's pictures"
            row = int(off.argmax())
            hint = "`fashionkit features` makes them for this catalogue"
            raise InputError(problem, file=self.features, column="features", found=names[row], hint=hint)
        return found[:EMPTIES]


def _facts(shape: Sequence[int], features: str, preprocess: Preprocess, truth: bool) -> dict[str, Any]:
    """What is known of maps of (C, h, w), in plain types."""
    found = {"channels": shape[0], "cells": list(shape[1:]), "features": features}
    return {**found, "preprocess": preprocess.to_dict(), "truth": truth}
