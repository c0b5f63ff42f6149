"""A model that answers questions about pictures: backbone, network, tokenizer, known answers, and how sure it may be.

    pictures (g, 3, S, S) ─► `cells`: backbone ─► maps (g, C, h, w) ─┐
    questions ─► tokenizer ─► (n, T) ids ────────────────────────────┴─► network ─► log-probabilities of K known answers
                                      `answer`: / temperature ─► softmax ─► the k likeliest     `free`: text of its own

What its folder holds: `fashionkit.models.answering_folder`.

Letters: g pictures, n questions, T tokens, C channels of a map, h x w its cells, K known answers, k of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fashionkit.models.answer_trie import AnswerTrie
from fashionkit.models.answering_folder import read_answering, write_answering
from fashionkit.models.model_card import Metrics
from fashionkit.models.model_folder import CONFIG
from fashionkit.models.tokenizer import PAD, Tokenizer
from fashionkit.models.vqa import VqaNetwork
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.tables import InputError
from fashionkit.vision.backbones import Backbone
from fashionkit.vision.feature_store import feature_key
from fashionkit.vision.preprocess import Preprocess

NOT_PRESENT = "not present"  # the answer of question sets to what a picture does not show
MOST_ANSWERS, LONGEST_ANSWER = 10_000, 200  # known answers; letters of one
LONGEST_QUESTION = 100_000  # letters that are looked at; far more than a network reads
EXACT = 5  # so many likeliest answers are worked out for sure, see `AnswerTrie`
LIKELY = 0.5


@dataclass(frozen=True, eq=False)
class Ranked:
    """The likeliest known answers of n questions, best first, on the CPU.

    Attributes:
        index: (n, k) int64, into the known answers. probability: (n, k) float32, calibrated; of all K they sum to 1.
    """

    index: Tensor
    probability: Tensor


class AnsweringModel:
    """A network that answers questions, with everything it needs.

    Args:
        network: It. tokenizer: That it was trained with. answers: K known answers in the order of its classes.
        backbone: Gives the maps; None where the network is blind, or only maps from elsewhere are at hand.
        temperature: What log-probabilities of answers are divided by, above 0.
        cannot_tell: An answer less likely than this is not to be given; 0 to 1. That one half is where it starts, so
            that what is said is likelier right than wrong, is ours.
        licence: Of the weights.

    Raises:
        InputError: Parts that do not fit each other, answers that are empty, too long, alike or too many, or a number
            out of range.
    """

    def __init__(
        self,
        network: VqaNetwork,
        tokenizer: Tokenizer,
        answers: Sequence[str],
        backbone: Backbone | None = None,
        temperature: float = 1.0,
        cannot_tell: float = LIKELY,
        licence: str = "",
    ):
        if not _is_number(temperature) or temperature <= 0:
            raise InputError("a temperature is a number above 0", column="temperature", found=temperature)
        if not _is_number(cannot_tell) or not 0 <= cannot_tell <= 1:
            raise InputError("a threshold lies within 0 to 1", column="cannot_tell", found=cannot_tell)
        config = network.config
        if len(tokenizer) != config.words:
            problem = f"the network knows {config.words} words, the tokenizer {len(tokenizer)}"
            raise InputError(problem, column="words")
        self.network, self.tokenizer, self.answers = network, tokenizer, list(answers)
        self.trie = _trie(self.answers, tokenizer, config)
        self.backbone = None if config.blind else backbone
        self.temperature, self.cannot_tell, self.licence = float(temperature), float(cannot_tell), licence
        for part in self._parts():
            part.eval()
        if self.backbone is not None:
            _check_maps(self.backbone, config)

    @property
    def config(self) -> VqaConfig:
        """Of the network."""
        return self.network.config

    @property
    def preprocess(self) -> Preprocess | None:
        """How pictures are prepared; None without a backbone."""
        return None if self.backbone is None else self.backbone.preprocess

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 over the backbone's weights and preprocessing, as cached features have it; None without one."""
        return None if self.backbone is None else feature_key(self.backbone)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device) -> AnsweringModel:
        """Moves all parts."""
        for part in self._parts():
            part.to(device)
        return self

    def _parts(self) -> list[torch.nn.Module]:
        return [self.network] if self.backbone is None else [self.network, self.backbone]

    @torch.no_grad()
    def cells(self, pictures: Tensor) -> Tensor | None:
        """(g, C, h, w) maps of (g, 3, S, S) prepared pictures; None for a blind network, which looks at none.

        Raises:
            InputError: The model has no backbone.
        """
        if self.config.blind:
            return None
        if self.backbone is None:
            hint = "give maps, or load a model that was shared with its backbone"
            raise InputError("this model has no backbone, so it cannot look at pictures", hint=hint)
        return self.backbone.spatial(pictures.to(self.device)).float()

    def read(self, questions: Sequence[str]) -> Tensor:
        """(n, T) ids of questions, PAD behind; of a long one the first `question_length` tokens."""
        ids = self.tokenizer.encode([each[:LONGEST_QUESTION] for each in questions], self.config.question_length)
        rows = [torch.tensor(row or [PAD], dtype=torch.long) for row in ids]
        return pad_sequence(rows, batch_first=True, padding_value=PAD).to(self.device)

    def tokens(self, question: str) -> int:
        """How many tokens a question has; the network reads `config.question_length` of them."""
        return len(self.tokenizer.encode([question[:LONGEST_QUESTION]])[0])

    @torch.no_grad()
    def log_probabilities(
        self, cells: Tensor | None, image_of: Tensor, questions: Sequence[str], exact: int = EXACT
    ) -> Tensor:
        """(n, K) float32 calibrated log-probabilities of the known answers, on the CPU.

        Args:
            cells: (g, C, h, w) maps; None for a blind network. image_of: (n,) which of them a question is about.
            questions: n. exact: So many likeliest answers are found for sure; others may be -inf, see `AnswerTrie`.

        Raises:
            InputError: The network gives no numbers.
        """
        if not len(questions):
            return torch.zeros(0, len(self.answers))
        found = self.network.rank(*self._shown(cells, image_of), self.read(questions), self.trie, exact)
        found = (found / self.temperature).log_softmax(1)
        if found.isnan().any():
            raise InputError("the network gives no numbers; its weights may be damaged", hint="share the run anew")
        return found

    def answer(self, cells: Tensor | None, image_of: Tensor, questions: Sequence[str], k: int = 5) -> Ranked:
        """The k likeliest known answers to each question (all where there are fewer); the rest as above."""
        scores = self.log_probabilities(cells, image_of, questions, max(k, EXACT))
        best, index = scores.sort(dim=1, descending=True, stable=True)
        return Ranked(index[:, :k], best[:, :k].exp())

    @torch.no_grad()
    def free(self, cells: Tensor | None, image_of: Tensor, questions: Sequence[str]) -> list[str]:
        """n answers in the network's own words, token by token; one that writes no text gives its likeliest answer."""
        if not len(questions):
            return []
        if self.config.kind == "mcan":
            best = self.answer(cells, image_of, questions, 1).index[:, 0].tolist()
            return [self.answers[at] for at in best]
        rows = self.network.greedy(*self._shown(cells, image_of), self.read(questions))
        return [self.tokenizer.decode(row).strip() for row in rows]

    def _shown(self, cells: Tensor | None, image_of: Tensor) -> tuple[Tensor | None, Tensor]:
        return None if cells is None else cells.to(self.device).float(), image_of.to(self.device)

    def save(self, folder: str | Path, about: str = "", metrics: Metrics = ()) -> Path:
        """Writes the model for others.

        Args:
            folder: New, or empty. about: What it was trained on, for the card.
            metrics: For the card: name → number, or rows of a table.

        Raises:
            InputError: The folder holds something, or is a file; or the model has no backbone though it looks.
        """
        write_answering(self, Path(folder), about, metrics)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> AnsweringModel:
        """The model that `save` wrote.

        Raises:
            InputError: The folder holds no such model, or something in it is damaged, does not fit or is not allowed.
        """
        try:
            return cls(*read_answering(Path(folder)))
        except InputError as error:
            if error.file is None:
                error.add_note(f"  in {Path(folder) / CONFIG}")
            raise


def _trie(answers: list[str], tokenizer: Tokenizer, config: VqaConfig) -> AnswerTrie:
    """The known answers as the network writes them."""
    if len(answers) != config.answers:
        raise InputError(f"the network knows {config.answers} answers", column="answers", found=len(answers))
    if len(answers) > MOST_ANSWERS:
        raise InputError(f"more than {MOST_ANSWERS:,} answers", column="answers", found=len(answers))
    for text in answers:
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_ANSWER:
            problem = f"an answer is a text of 1 to {LONGEST_ANSWER} letters"
            raise InputError(problem, column="answers", found=text)
    rows = [tuple(row) for row in tokenizer.encode(answers)]
    seen: dict[tuple[int, ...], str] = {}
    for text, row in zip(answers, rows, strict=True):
        if not row or len(row) >= config.answer_length:
            problem = f"an answer has 1 to {config.answer_length - 1} tokens"
            raise InputError(
                problem, column="answers", found=text, hint="`answer_length` says how many the end included"
            )
        if row in seen:
            problem = f"two answers are the same to the network: {seen[row]!r} and this one"
            raise InputError(problem, column="answers", found=text)
        seen[row] = text
    return AnswerTrie(rows)


def map_shape(backbone: Backbone) -> tuple[int, ...]:
    """(C, h, w) of a backbone's maps at the size of its preprocessing."""
    size = backbone.preprocess.size
    with torch.no_grad():
        cells = backbone.spatial(torch.zeros(1, 3, size, size, device=next(backbone.parameters()).device))
    return tuple(cells.shape[1:])


def _check_maps(backbone: Backbone, config: VqaConfig) -> None:
    """A backbone must give maps of the network's channels and cells."""
    there, wanted = map_shape(backbone), (config.channels, *config.cells)
    if there != wanted:
        said = " x ".join(map(str, there)), " x ".join(map(str, wanted))
        problem = (
            f"{backbone.name} gives maps of {said[0]} at {backbone.preprocess.size} px, the network takes {said[1]}"
        )
        raise InputError(problem, column="cells")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
