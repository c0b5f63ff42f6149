"""Answers of a model to the questions of a split, kept on disk with what they are worth: a folder of kind `answers`.

    `Questions` ─► parts of whole pictures ─► maps: cached, or pixels through the model's backbone, once a picture ─┐
                                            └─► texts ──────────────────────────────────────────────────────────────┴─►
      log-probabilities of the known answers ─► judged ─► answers/part-00000.parquet, …   all there ─► losses, manifest

A part is whole or absent, so a run that was killed makes the parts that are missing. What a question's right answer was
given, `loss`, is what `fashionkit datagen reweight` learns from: `losses.parquet` has it with the set's content hash.

Letters: g pictures, n questions, K known answers, k alternatives that are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from math import log
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from fashionkit.datagen.reweight import SET_KEY
from fashionkit.datagen.store import VQAStore
from fashionkit.engine.alone import LOCK, alone
from fashionkit.engine.progress import Progress
from fashionkit.eval.vqa_asked import Asked, plain_text
from fashionkit.eval.vqa_human import HumanQuestions
from fashionkit.eval.vqa_pictures import MapSource, map_source
from fashionkit.eval.vqa_questions import QUESTIONS, Part, Questions, cut
from fashionkit.eval.vqa_schema import ANSWERS, KIND, LOSSES, SCHEMA
from fashionkit.models.answering import AnsweringModel
from fashionkit.tables import (
    MANIFEST,
    InputError,
    Manifest,
    part_path,
    read_table,
    sweep_temporary,
    write_manifest,
    write_table,
    write_text,
)  # fmt: skip
from fashionkit.vision.tensors import fingerprint

Array = npt.NDArray[Any]
PLAN = "plan.json"  # what decides the answers
SIZE = 2048  # questions of a part: what a kill costs at most
AT_ONCE, PICTURES = 128, 32  # questions, and pictures, of one pass of the network, which keeps keys of all of them
ALTERNATIVES = 5
FLOOR = log(1e-4)  # less likely answers are not told apart; see `fashionkit.models.answer_trie`


class Answerer(Protocol):
    """What is asked here of a model; `AnsweringModel` is one."""

    answers: list[str]

    def log_probabilities(
        self, cells: Tensor | None, image_of: Tensor, questions: list[str], exact: int = ...
    ) -> Tensor:
        """(n, K), -inf where an answer was not looked at."""

    def free(self, cells: Tensor | None, image_of: Tensor, questions: list[str]) -> list[str]:
        """n texts."""


def answer_questions(
    model: AnsweringModel,
    path: str | Path,
    out: str | Path,
    split: str = "test",
    catalog: str | Path | None = None,
    features: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    human: str | Path | None = None,
    free: bool = True,
    truth: bool = False,
    describe: str = "",
) -> Path:
    """Answers the questions of a split, or goes on where a run of the same call was stopped.

    Args:
        model: On the device where it is to run. path: Question set. out: Folder to write.
        split: One of the set's splits, `absent`, or `entailed:SPLIT`.
        catalog: Of the set, for its pictures. features: Folder of cached maps, in place of pictures. A blind model
            needs neither.
        limit, seed: See `Questions`. human: CSV of questions that are asked in place of a split's.
        free: Ask the network for an answer in its own words, too, where it can write.
        truth: The model was trained on what a catalogue says, and is shown that. describe: Label of the progress; ""
            shows none.

    Returns:
        `out`.

    Raises:
        InputError: No such set, split or file; pictures or features that are missing or do not fit; or `out` holds
            other answers, something else, or is being written by another run.
    """
    store, free = VQAStore(path), free and model.config.kind != "mcan"  # which has no words of its own
    questions = HumanQuestions(store, human) if human is not None else Questions(store, split, limit, seed)
    asked = {
        "set": store.manifest.content_hash(),
        "split": questions.split,
        "limit": None if human is not None else limit,
        "seed": seed,
        "asked": questions.key,
        "model": model_key(model),
        "cannot_tell": model.cannot_tell,
        "free": free,
        "part": SIZE,
    }
    names = [questions.image_ids[number] for number in np.unique(questions.image).tolist()]
    maps = map_source(model, store, names, catalog, features, truth)
    about = {"set": str(store.manifest.about.get("catalog") or store.path.name), "model": _said(model)}
    return write_answers(model, questions, Path(out), maps, {**asked, "features": maps.key}, about, free, describe)


def write_answers(
    model: Answerer,
    questions: Questions | HumanQuestions,
    out: Path,
    maps: MapSource,
    asked: dict[str, Any],
    about: dict[str, Any],
    free: bool = True,
    describe: str = "",
    size: int = SIZE,
) -> Path:
    """Writes the parts that are missing, and then what is made of all of them.

    Args:
        model: Answers. questions: They. out: The folder. maps: Of pictures, by id.
        asked: What decides the answers; a folder of another plan is refused. about: Facts for the manifest.
        free, describe: As for `answer_questions`. size: Questions of a part.

    Raises:
        InputError: See `answer_questions`.
    """
    plan = json.dumps(asked, indent=1, sort_keys=True) + "\n"
    if _finished(out, plan):
        return out
    with alone(out, lambda: _refuse_others(out)):
        write_text(out / PLAN, plan)
        sweep_temporary(out)
        parts = list(enumerate(cut(questions.image, size)))
        left = [(number, span) for number, span in parts if not part_path(out, "answers", number).exists()]
        done = len(questions) - sum(hi - lo for _, (lo, hi) in left)
        judge = Judge(model, questions, maps, free)
        with _progress(describe, len(questions), done) as count:
            for number, (lo, hi) in left:
                write_table(part_path(out, "answers", number), judge.part(lo, hi, count))
        _finish(out, questions, asked, about)
    return out


class Judge:
    """Asks a model and says what its answers are worth.

    Args:
        model, questions, maps, free: See `write_answers`.
    """

    def __init__(self, model: Answerer, questions: Questions | HumanQuestions, maps: MapSource, free: bool = True):
        self.model, self.questions, self.maps, self.free = model, questions, maps, free
        self._plain = [plain_text(text) for text in model.answers]
        self._at: dict[str, list[int]] = {}
        for number, text in enumerate(self._plain):
            self._at.setdefault(text, []).append(number)

    def part(self, lo: int, hi: int, count: Callable[[int], None] = lambda n: None) -> pa.Table:
        """The table ANSWERS of questions `lo` to `hi` - 1."""
        part = self.questions.part(lo, hi)
        texts, image = part.table["question"].to_pylist(), self.questions.image[lo:hi]
        scores, words = np.empty((len(texts), len(self._plain)), np.float32), [""] * len(texts)
        for some, cells, image_of in self._passes(image):
            asked = [texts[row] for row in some.tolist()]
            scores[some] = self.model.log_probabilities(cells, image_of, asked).numpy()
            if self.free:
                for row, text in zip(some.tolist(), self.model.free(cells, image_of, asked), strict=True):
                    words[row] = text
            count(len(some))
        return self.judged(part, scores, words if self.free else None)

    def _passes(self, image: Array) -> Iterator[tuple[Array, Tensor | None, Tensor]]:
        """Rows, (g, C, h, w) maps of their pictures, and (n,) which of them each row is about."""
        names, image_of = np.unique(image, return_inverse=True)
        for first in range(0, len(names), PICTURES):
            chunk = np.flatnonzero((image_of >= first) & (image_of < first + PICTURES))
            ids = [self.questions.image_ids[number] for number in names[first : first + PICTURES].tolist()]
            cells = self.maps.of(ids)
            for lo in range(0, len(chunk), AT_ONCE):
                some = chunk[lo : lo + AT_ONCE]
                at = image_of[some] - first
                shown, which = np.unique(at, return_inverse=True)
                yield some, None if cells is None else cells[torch.from_numpy(shown)], torch.from_numpy(which)

    def judged(self, part: Part, scores: Array, free: list[str] | None) -> pa.Table:
        """What the answers are worth.

        Args:
            part: n questions. scores: (n, K) log-probabilities. free: n texts.
        """
        order = np.argsort(-scores, axis=1, kind="stable")[:, :ALTERNATIVES]
        best, answers = order[:, 0].tolist(), self.model.answers
        rows = list(zip(part.right, part.asked, best, strict=True))
        right = [{plain_text(text) for text in texts} for texts in part.right]
        loss, rank = zip(*(self._of_right(texts, row) for texts, row in zip(right, scores, strict=True)), strict=True)
        columns = {
            **{name: part.table[name] for name in QUESTIONS.names},
            "predicted_id": [self.questions.asking.id_of(answers[at], asked) for _, asked, at in rows],
            "predicted": [answers[at] for at in best],
            "right": [self._plain[at] in texts for texts, at in zip(right, best, strict=True)],
            "valid": [_allows(asked, self._plain[at]) for _, asked, at in rows],
            "probability": np.exp(np.take_along_axis(scores, order[:, :1], 1)[:, 0]),
            "loss": list(loss),
            "rank": list(rank),
            "free": free if free is not None else [None] * len(rows),
            "free_right": [None] * len(rows) if free is None else _in_each(free, right),
            "alternatives": [[answers[at] for at in row] for row in order.tolist()],
            "probabilities": np.exp(np.take_along_axis(scores, order, 1)).tolist(),
        }
        return pa.table(columns, schema=ANSWERS)

    def _of_right(self, texts: set[str], scores: Array) -> tuple[float | None, int | None]:
        """Loss and rank of the right answer; None where the model knows no such answer, or did not look at it."""
        known = [at for text in texts for at in self._at.get(text, ())]
        if not known:
            return None, None
        found = scores[known].astype(np.float64)
        together = float(np.logaddexp.reduce(found))
        rank = int((scores > found.max()).sum()) + 1 if np.isfinite(found.max()) else None
        return max(0.0, -max(together, FLOOR)), rank


def model_key(model: AnsweringModel) -> str:
    """SHA-256 of all that decides a model's answers to given maps, and of its backbone."""
    parts = [fingerprint(model.network), model.tokenizer.to_text(), json.dumps(model.config.to_dict(), sort_keys=True)]
    parts += [json.dumps(model.answers), repr(model.temperature), str(model.fingerprint)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _said(model: AnsweringModel) -> str:
    """A model in a few words."""
    looks = "blind" if model.config.blind else "on maps" if model.backbone is None else f"on {model.backbone.name}"
    return f"{model.config.kind} of width {model.config.width}, {looks}"


def _allows(asked: Asked | None, text: str) -> bool | None:
    return None if asked is None else text in asked.allowed


def _in_each(texts: list[str], right: list[set[str]]) -> list[bool]:
    return [plain_text(text) in one for text, one in zip(texts, right, strict=True)]


class _progress:
    """Counts questions, on a bar where there is a label."""

    def __init__(self, label: str, total: int, done: int):
        self._bar = Progress(label, total, "questions", done) if label else None

    def __enter__(self) -> Callable[[int], None]:
        return self._bar.__enter__().add if self._bar is not None else lambda n: None

    def __exit__(self, *what: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*what)


def _finish(out: Path, questions: Questions | HumanQuestions, asked: dict[str, Any], about: dict[str, Any]) -> None:
    table = read_table(out, "answers", ["qid", "source", "image_id", "loss", "predicted_id", "right"])
    if isinstance(questions, Questions):
        known = table.filter(pc.and_(pc.is_valid(table["loss"]), pc.is_null(table["source"])))
        losses = pa.table({"qid": known["qid"], "loss": known["loss"], "predicted": known["predicted_id"]})
        write_table(out / LOSSES, losses.replace_schema_metadata({SET_KEY: asked["set"]}))
    inputs = {name: asked[name] for name in ("model", "features") if asked.get(name)} | {"questions": asked["set"]}
    right = int(pc.sum(table["right"]).as_py())
    counts = {"answers": table.num_rows, "right": right, "pictures": len(pc.unique(table["image_id"]))}
    params = {name: value for name, value in asked.items() if name not in inputs and name != "set"}
    write_manifest(out, Manifest(KIND, SCHEMA, params=params, inputs=inputs, counts=counts, about=about))
    (out / LOCK).unlink(missing_ok=True)


def _finished(out: Path, plan: str) -> bool:
    """Whether all is there; refuses a folder of other answers."""
    if not (out / PLAN).is_file():
        return False
    before = (out / PLAN).read_text(encoding="utf-8")
    if before != plan:
        problem = "the folder holds answers of another model, or to other questions"
        raise InputError(problem, file=out, found=_changed(before, plan), hint="name a new folder, or remove this one")
    return (out / MANIFEST).exists()


def _changed(before: str, now: str) -> str:
    """Keys in which two plans differ."""
    try:
        one, two = json.loads(before), json.loads(now)
        return "another " + ", ".join(key for key in sorted({*one, *two}) if one.get(key) != two.get(key))
    except (ValueError, TypeError):
        return "a damaged plan"


def _refuse_others(out: Path) -> None:
    there = [path for path in out.iterdir() if path.name != LOCK] if out.is_dir() else []
    if there and not (out / PLAN).is_file():
        raise InputError("the folder holds something else", file=out, hint="name a new one")
