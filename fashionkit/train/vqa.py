"""Answers to questions about pictures: a network that reads questions and maps, of a backbone or from a cache.

    image (g, S, S, 3) ─► backbone ─► map (g, C, h, w) ─┐ once for all questions of a picture
    maps on disk, or of facts ──────────────────────────┴─► network ─► losses (n,) ─► mean
    validation: network ─► (n, K) log-probabilities of the known answers ─► temperature, measures

The temperature is fitted after each pass over the validation questions, so every checkpoint holds the one of its own
weights. Cached maps, and maps made of facts, need no backbone: none is in the checkpoint. It is built as training
begins, to see that it is the one that made the maps, and to look at empty pictures.

Letters: g pictures, n questions, K known answers, as in `fashionkit.models.vlm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from fashionkit.models.answer_trie import AnswerTrie
from fashionkit.models.tokenizer import Tokenizer
from fashionkit.models.vqa import build_vqa
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.tables import InputError
from fashionkit.train.answer_measures import answer_temperature, measures
from fashionkit.train.start import start_backbone, trains_for_maps
from fashionkit.train.task import Task, normalised
from fashionkit.vision.backbones import Backbone
from fashionkit.vision.feature_store import feature_key
from fashionkit.vision.pictures import as_tensor
from fashionkit.vision.preprocess import Preprocess, whole

Array = npt.NDArray[Any]
NOT_PRESENT = "not present"  # the answer to what a picture does not show
NEEDED = ("tokenizer", "answers", "features", "truth")  # of the facts
GIVEN = ("kind", "channels", "cells", "words", "answers")  # not said in `network`
AT_ONCE = 16  # pictures that are encoded at a time before training


class VqaTask(Task):
    """Learns to answer questions.

    Args:
        facts: Of the data (`QuestionData.facts`).
        backbone: `timm/<arch>` or `open_clip/<arch>`; not needed for maps made of facts.
        weights: Of the backbone (`fashionkit.vision.weights`), or a run's folder or checkpoint, to go on from its
            backbone. size: Side of its input, where not the weights' own.
        resize: How pictures are brought to that size, where not as the weights had it: `squash` shows all of them.
        freeze: What of the backbone does not train (`Backbone.freeze`).
        kind: `vlm`, `encoder_decoder` or `mcan`.
        network: Other settings of `fashionkit.models.vqa_config.VqaConfig`, but for those that the data decide.
        lr, backbone_lr, weight_decay, warmup, seed: See `Task`.

    Raises:
        InputError: A value out of range, or facts of other data.
    """

    monitor = "val/accuracy"

    def __init__(
        self,
        facts: dict,  # of dict[str, Any] jsonargparse would read texts as YAML
        backbone: str | None = None,
        weights: str = "random",
        size: int | None = None,
        resize: str | None = None,
        freeze: str | int = "none",
        kind: str = "vlm",
        network: dict[str, Any] | None = None,
        lr: float = 5e-4,
        backbone_lr: float = 0.1,
        weight_decay: float = 0.05,
        warmup: float = 0.02,
        seed: int = 0,
    ):
        super().__init__(lr, backbone_lr, weight_decay, warmup, seed)
        self.save_hyperparameters()
        if any(name not in facts for name in NEEDED):
            hint = "fashionkit.train.questions.QuestionData has them"
            raise InputError("data without questions", column="data", hint=hint)
        for name in GIVEN:
            if name in (network or {}):
                hint = "say `kind` beside `network`" if name == "kind" else "leave it out"
                raise InputError("the data and the backbone decide this", column=f"network.{name}", hint=hint)
        if backbone is None and not facts["truth"]:
            raise InputError("still needed: the backbone that sees the pictures", column="backbone")
        torch.manual_seed(seed)
        self.facts, self._start = facts, (backbone, weights, size, resize)
        self.backbone, shape = None, (facts.get("channels"), facts.get("cells"))
        if self.cached:
            self.preprocess = Preprocess.from_dict(facts["preprocess"])
        else:
            built = self._built()
            self.preprocess, shape = built.preprocess, _shape(built)
            if not (network or {}).get("blind"):
                built.train().freeze(freeze)
                trains_for_maps(built)
                self.backbone = built
        self.answers, tokenizer = list(facts["answers"]), Tokenizer.from_text(facts["tokenizer"])
        settings = {"kind": kind, "words": len(tokenizer), "answers": len(self.answers)}
        settings |= {"channels": shape[0], "cells": shape[1]}
        config = VqaConfig.from_dict({**(network or {}), **settings})
        self.network, self.trie = build_vqa(config), _trie(tokenizer, self.answers, config)
        self.temperature, self._compared = 1.0, False

    @property
    def blind(self) -> bool:
        """Whether no picture is looked at."""
        return self.network.config.blind

    @property
    def cached(self) -> bool:
        """Whether maps stand in for pixels."""
        return self.facts["features"] is not None

    def counts(self, batch: dict[str, Any]) -> dict[str, int]:
        """With questions, and the tokens of questions and answers."""
        return {**super().counts(batch), "questions": len(batch["qid"]), "tokens": batch["tokens"]}

    def cells(self, batch: dict[str, Any]) -> Tensor | None:
        """(g, C, h, w) maps of a batch, each picture encoded once; None for a blind network."""
        if self.blind:
            return None
        if "cells" in batch:
            cells: Tensor = batch["cells"]
            return cells
        assert self.backbone is not None
        return self.backbone.spatial(normalised(batch["image"], self.preprocess))

    def on_fit_start(self) -> None:
        """Cached maps must be the backbone's; where the data had empty pictures encoded, that is known already.

        Raises:
            InputError: Cached features of other weights or another preparation.
        """
        if self.cached and not (self.facts["truth"] or self.blind or self._compared):
            self._encoder()

    @torch.no_grad()
    def maps_of(self, pixels: Array) -> Tensor:
        """(b, C, h, w) float32 maps of (b, S, S, 3) uint8 pictures, as `fashionkit features` would keep them.

        The backbone runs on the CPU, as it does there.

        Raises:
            InputError: The cached features are of other weights or another preparation.
        """
        encoder = self._encoder().to(memory_format=torch.channels_last)
        parts = [pixels[lo : lo + AT_ONCE] for lo in range(0, len(pixels), AT_ONCE)]
        inputs = (as_tensor(part, self.preprocess).to(memory_format=torch.channels_last) for part in parts)
        return torch.cat([encoder.spatial(x) for x in inputs]).half().float()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = self._losses(batch, self.cells(batch)).mean()
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["qid"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.keep_rows(batch["qid"], **self._judged(batch))

    def on_validation_epoch_end(self) -> None:
        """Fits the temperature, in training only, and measures."""
        found = self._found()
        if self.trainer.state.fn == "fit":
            self.temperature = answer_temperature(found["log_probability"], found["answer_class"])
        chosen, confidence = self._chosen(found["log_probability"])
        self._log("val", found, chosen, confidence)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """As validation, but that there may be too many questions to keep all probabilities."""
        found = self._judged(batch)
        chosen, confidence = self._chosen(found.pop("log_probability"))
        self.keep_rows(batch["qid"], **found, chosen=chosen, confidence=confidence)

    def on_test_epoch_end(self) -> None:
        found = self._found()
        self._log("test", found, found["chosen"], found["confidence"])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """`qid`, `answer` and `probability`, (n,) each: the best known answer, and how likely it is, calibrated."""
        chosen, probability = self._chosen(self._ranked(batch, self.cells(batch)))
        return {"qid": batch["qid"], "answer": chosen, "probability": probability}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["temperature"] = self.temperature

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the temperature.

        Raises:
            InputError: A checkpoint of other questions, or of other cached features.
        """
        known = checkpoint.get("hyper_parameters", {}).get("facts", {})
        for name in sorted({*self.facts, *known}):
            if self.facts.get(name) != known.get(name):
                hint = "use the question set and the features that it was trained on, or `fashionkit eval vqa`"
                raise InputError("the checkpoint was trained on other data", column=name, hint=hint)
        self.temperature = float(checkpoint["temperature"])

    def _built(self) -> Backbone:
        name, weights, size, resize = self._start
        assert name is not None
        built = start_backbone(name, weights, size)
        if resize is not None:
            built.preprocess = whole(built.preprocess, resize)
        return built

    def _encoder(self) -> Backbone:
        """The backbone of cached maps, in evaluation mode."""
        built = self._built()
        if feature_key(built) != self.facts["features"]:
            hint = "`fashionkit features` with the same model, weights, size and resize makes those that fit"
            raise InputError("cached features of other weights or another preparation", column="features", hint=hint)
        self._compared = True
        return built

    def _losses(self, batch: dict[str, Any], cells: Tensor | None) -> Tensor:
        """(n,)."""
        answer = batch["answer"][:, : self.network.config.answer_length]  # a longer one is none of those known
        return self.network.losses(cells, batch["image_of"], self._question(batch), answer, batch["answer_class"])

    def _ranked(self, batch: dict[str, Any], cells: Tensor | None) -> Tensor:
        """(n, K) log-probabilities of the known answers, on the batch's device."""
        found = self.network.rank(cells, batch["image_of"], self._question(batch), self.trie)
        return found.to(batch["question"].device)

    def _question(self, batch: dict[str, Any]) -> Tensor:
        """(n, T): as much of the questions as the network reads."""
        question: Tensor = batch["question"][:, : self.network.config.question_length]
        return question

    def _judged(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """`log_probability` (n, K), `loss` and `answer_class` (n,) of a batch."""
        cells = self.cells(batch)
        found = {"log_probability": self._ranked(batch, cells), "loss": self._losses(batch, cells).float()}
        return {**found, "answer_class": batch["answer_class"]}

    def _chosen(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) best answers of (n, K) log-probabilities, and (n,) how likely they are, calibrated."""
        probability, chosen = (scores / self.temperature).softmax(1).max(1)
        return chosen, probability

    def _found(self) -> dict[str, Tensor]:
        """What was judged of all questions, in order.

        Raises:
            InputError: The network gives no numbers.
        """
        found = self.all_rows()
        if not found["loss"].isfinite().all() or any(part.isnan().any() for part in found.values()):
            hint = "say a lower `lr`, a longer `warmup`, or `--trainer.gradient_clip_val 1`"
            raise InputError("the network gives no numbers: training has diverged", column="lr", hint=hint)
        return found

    def _log(self, split: str, found: Mapping[str, Tensor], chosen: Tensor, confidence: Tensor) -> None:
        truth, loss = found["answer_class"].numpy(), found["loss"].numpy()
        nothing = self.answers.index(NOT_PRESENT) if NOT_PRESENT in self.answers else -1
        values = measures(truth, chosen.numpy(), confidence.numpy(), loss, nothing)
        said = {f"{split}/{name}": value for name, value in values.items()}
        self.log_dict(said, prog_bar=True, sync_dist=True, batch_size=len(chosen))


def _trie(tokenizer: Tokenizer, answers: Sequence[str], config: VqaConfig) -> AnswerTrie:
    """The known answers, each of which must fit."""
    found = AnswerTrie(tokenizer.encode(answers))
    longest = 1 + max(map(len, found.sequences))  # with its end
    if longest > config.answer_length:
        problem = f"an answer has {longest} tokens, its end included"
        hint = "raise it, or let the tokenizer have more `words`"
        raise InputError(problem, column="network.answer_length", found=config.answer_length, hint=hint)
    return found


def _shape(backbone: Backbone) -> tuple[int, list[int]]:
    """C and (h, w) of a backbone's maps."""
    size = backbone.preprocess.size
    with torch.no_grad():
        found = backbone.eval().spatial(torch.zeros(1, 3, size, size)).shape
    return found[1], list(found[2:])
