"""Two small models that answer questions by id: one sees a thumbnail of the picture, one sees nothing.

    template, slots ──► embeddings, summed ──► question q ─────────────┬──► [q, a, q a] ──► MLP ──► answer
    32 x 32 thumbnail ──► 64 patches of 4 x 4 ──► attended to by q ──► a ┘    (blind: a = 0)

Made to be trained in less than a minute on one core: no tokenizer, no pretrained part, all questions of a picture at
once so that its patches are worked out once.

Letters: B questions, P pictures of a batch, K questions of a picture (padded), G patches, D width, H heads.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.catalog.catalog import Catalog
from fashionkit.datagen.samples import SLOTS, read_samples, sample_files

Array = npt.NDArray[Any]
SIDE, PATCH, WIDTH, HEADS = 32, 4, 64, 4
MIDDLE = (0.15, 0.85)  # the part of a picture's width that is looked at
PICTURES, QUESTIONS = 12, 24  # of a batch, and of one of its pictures
WEIGHT_DECAY = 0.01


@dataclass
class Questions:
    """Samples as arrays. code: (n, 5) template and slots. answer: (n,) vocabulary ids. image: (n,) rows of pictures."""

    qid: Array
    image: Array
    code: Array
    answer: Array
    difficulty: Array

    def __len__(self) -> int:
        return len(self.qid)

    def take(self, rows: Array) -> Questions:
        """The questions of a mask or index."""
        return Questions(*(getattr(self, f.name)[rows] for f in fields(Questions)))


def read_questions(folder: Path, split: str) -> Questions:
    """All samples of a split."""
    table = pa.concat_tables([read_samples(path) for path in sample_files(folder, split)])
    code = np.stack([table[n].to_numpy() for n in ("template", *(f"slot{i}" for i in range(SLOTS)))], 1)
    columns = [table[name].to_numpy() for name in ("qid", "image", "answer", "difficulty")]
    return Questions(columns[0], columns[1], code.astype(np.int64), columns[2].astype(np.int64), columns[3])


def thumbnails(catalog: Path, image_ids: list[str]) -> Tensor:
    """(I, 3, SIDE, SIDE) float32 in -1..1, in the order of the ids."""
    table = Catalog(catalog).table("images", ["image_id", "bytes"])
    files = dict(zip(table["image_id"].to_pylist(), table["bytes"].to_pylist(), strict=True))
    found = np.empty((len(image_ids), SIDE, SIDE, 3), np.uint8)
    for row, image_id in enumerate(image_ids):
        with Image.open(io.BytesIO(files[image_id])) as image:
            width, height = image.size
            middle = image.convert("RGB").crop((int(MIDDLE[0] * width), 0, int(MIDDLE[1] * width), height))
            found[row] = np.asarray(middle.resize((SIDE, SIDE), Image.Resampling.BOX))
    return torch.from_numpy(found).permute(0, 3, 1, 2).float() / 127.5 - 1


class Answerer(nn.Module):
    """Scores of all answers. `pictures` (P, 3, SIDE, SIDE); `code` (P K, 5) ids, K questions for each picture."""

    def __init__(self, vocabulary: int, templates: int, answers: int, blind: bool):
        super().__init__()
        self.blind, d = blind, WIDTH
        self.template, self.word = nn.Embedding(templates, d), nn.Embedding(vocabulary, d)
        nn.init.normal_(self.template.weight, 0, 0.3)
        nn.init.normal_(self.word.weight, 0, 0.3)
        self.role = nn.Parameter(1 + 0.1 * torch.randn(SLOTS, d))
        self.question = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        if not blind:
            self.patch = nn.Conv2d(3, d, PATCH, PATCH)
            self.place = nn.Parameter(0.3 * torch.randn((SIDE // PATCH) ** 2, d))
            self.see = nn.Sequential(nn.GELU(), nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))
            self.key_value, self.query, self.seen = nn.Linear(d, 2 * d), nn.Linear(d, d), nn.Linear(d, d)
        self.head = nn.Sequential(nn.Linear(3 * d, 2 * d), nn.GELU(), nn.Linear(2 * d, answers))

    def forward(self, pictures: Tensor, code: Tensor) -> Tensor:
        """(P K, answers) logits."""
        q = self.template(code[:, 0]) + (self.word(code[:, 1:]) * self.role).sum(1)  # B D
        q = q + self.question(q)
        a = torch.zeros_like(q) if self.blind else self._look(pictures, q)
        logits: Tensor = self.head(torch.cat([q, a, q * a], 1))
        return logits

    def _look(self, pictures: Tensor, q: Tensor) -> Tensor:
        x = self.patch(pictures).flatten(2).transpose(1, 2) + self.place  # P G D
        x = x + self.see(x)
        key, value = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in self.key_value(x).chunk(2, -1)
        )  # P H G D/H
        query = self.query(q).unflatten(0, (len(x), -1)).unflatten(2, (HEADS, -1)).transpose(1, 2)  # P H K D/H
        found: Tensor = F.scaled_dot_product_attention(query, key, value)
        return self.seen(found.transpose(1, 2).reshape(len(q), -1))  # type: ignore[no-any-return]


@dataclass
class Model:
    """A trained network. `answers`: (classes,) ascending, vocabulary id of each."""

    network: Answerer
    answers: Array

    @torch.no_grad()
    def judge(self, questions: Questions, pictures: Tensor) -> tuple[Array, Array]:
        """(n,) cross entropy, and (n,) vocabulary id answered. An answer never seen in training costs 20."""
        self.network.eval()
        target = torch.from_numpy(_classes(self.answers, questions.answer))
        code = torch.from_numpy(questions.code)
        loss, answered = np.zeros(len(questions)), np.zeros(len(questions), np.int64)
        for image, rows in _batches(questions.image, None):
            real = rows >= 0
            logits = self.network(pictures[image], code[np.maximum(rows, 0)])[real]
            some = target[rows[real]]
            found = F.cross_entropy(logits, some.clamp(min=0), reduction="none").masked_fill(some < 0, 20.0)
            loss[rows[real]], answered[rows[real]] = found.numpy(), self.answers[logits.argmax(1).numpy()]
        return loss, answered


def begin(questions: Questions, sizes: tuple[int, int], seed: int, blind: bool) -> Model:
    """A network that has learnt nothing.

    Args:
        questions: Whose answers it can give. sizes: Of the vocabulary and of the pack. seed: Of the weights.
        blind: Without the pictures.
    """
    torch.manual_seed(seed)
    answers = np.unique(questions.answer)
    return Model(Answerer(*sizes, len(answers), blind), answers)


def train(model: Model, questions: Questions, pictures: Tensor, seed: int, epochs: int, rate: float) -> Model:
    """What becomes of a model by more training; equal arguments give equal weights, and the model itself stays.

    Args:
        questions: What it learns from; those whose answer it cannot give teach nothing. pictures: Of all pictures.
        seed: Of the order. epochs: Times it sees each question. rate: Highest learning rate of the cycle.
    """
    rng, network, answers = np.random.default_rng(seed), copy.deepcopy(model.network).train(), model.answers
    code, target = torch.from_numpy(questions.code), torch.from_numpy(_classes(answers, questions.answer))
    steps = sum(1 for _ in _batches(questions.image, rng)) * epochs
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps + 1, pct_start=0.1)
    for _ in range(epochs):
        for image, rows in _batches(questions.image, rng):
            real = rows >= 0
            shown = pictures[image].flip(3) if rng.random() < 0.5 else pictures[image]
            logits = network(shown, code[np.maximum(rows, 0)])[real]
            optimizer.zero_grad()
            F.cross_entropy(logits, target[rows[real]], ignore_index=-1).backward()
            optimizer.step()
            schedule.step()
    return Model(network, answers)


def _classes(answers: Array, given: Array) -> Array:
    """(n,) position among the sorted `answers`, -1 for others."""
    at = np.minimum(np.searchsorted(answers, given), len(answers) - 1)
    return np.where(answers[at] == given, at, -1)


def _batches(image: Array, rng: np.random.Generator | None) -> Iterator[tuple[Array, Array]]:
    """(P,) pictures and (P K,) rows of their questions, -1 as padding; in random order if there is a generator."""
    order = np.argsort(image, kind="stable") if rng is None else np.lexsort((rng.random(len(image)), image))
    ordered = image[order].astype(np.int64)
    rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    group, at = np.unique(ordered << 32 | rank // QUESTIONS, return_inverse=True)
    rows = np.full((len(group), QUESTIONS), -1)
    rows[at, rank % QUESTIONS] = order
    turn = np.arange(len(group)) if rng is None else rng.permutation(len(group))
    for lo in range(0, len(turn), PICTURES):
        some = turn[lo : lo + PICTURES]
        yield group[some] >> 32, rows[some].reshape(-1)
