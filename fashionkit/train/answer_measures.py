"""How well a task of answering does, as it trains: measures of validation, and the temperature that it keeps.

    (n, K) log-probabilities, right answers ─► `answer_temperature` ─► confidence of what was chosen ─► `measures`

What a finished model is judged by, in families and with intervals, is `fashionkit eval vqa`'s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fashionkit.metrics.classification import accuracy, calibration_error, f1
from fashionkit.models.answer_trie import FLOOR
from fashionkit.models.calibration import fit_temperature

Array = npt.NDArray[Any]
NEVER = -1e4  # log-probability of an answer that was not looked at; its exponential is 0


def measures(truth: Array, chosen: Array, confidence: Array, loss: Array, nothing: int) -> dict[str, float]:
    """How well questions were answered.

    Args:
        truth: (n,) number of the right answer, -1 where it is none of those known: nobody can choose it. chosen: (n,).
        confidence: (n,) 0 to 1, how likely what was chosen is said to be. loss: (n,) cross-entropy.
        nothing: The number of the answer that says that a thing is not there; -1: there is none.

    Returns:
        `accuracy`; `macro_accuracy`, the mean over the known answers that are the right one somewhere; `ece`; `loss`;
        and, where something is not there, `not_present_f1`.
    """
    found = {"accuracy": accuracy(truth, chosen), "loss": float(loss.mean())}
    found["ece"] = calibration_error(confidence, truth == chosen)
    known = truth >= 0
    if known.any():
        _, at = np.unique(truth[known], return_inverse=True)
        found["macro_accuracy"] = float((np.bincount(at, (truth == chosen)[known]) / np.bincount(at)).mean())
    if nothing >= 0 and (truth == nothing).any():
        found["not_present_f1"] = f1(truth == nothing, chosen == nothing)
    return found


def answer_temperature(scores: Tensor, truth: Tensor) -> float:
    """The temperature that gives held-out answers the highest likelihood; see `fit_temperature`.

    Args:
        scores: (n, K) log-probabilities, -inf for answers that were not looked at: they have a share of 1e-4 at most
            (`AnswerTrie`), and count with 0, but with that share where they are the right one.
        truth: (n,) number of the right answer; rows where it is below 0 tell nothing.
    """
    known = truth >= 0
    filled = scores[known].double().masked_fill(scores[known].isinf(), NEVER)
    target = truth[known]
    right = filled.gather(1, target[:, None])
    filled.scatter_(1, target[:, None], torch.where(right == NEVER, torch.full_like(right, FLOOR), right))
    return fit_temperature(filled, target, "answers")
