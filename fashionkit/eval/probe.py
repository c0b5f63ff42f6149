"""A linear probe: multinomial logistic regression, its regularisation chosen on a part of the training rows.

    training rows (n, D) ─► (x - mean) / std ─┬─► fitted without some groups, strongest decay first ─► best on those
                                              └─► fitted on all with that decay ─► probabilities of other rows (m, V)

What a probe can say is a lower bound of what features hold; G. Alain and Y. Bengio, "Understanding intermediate layers
using linear classifier probes", arXiv 1610.01644. The decay is chosen by log-likelihood, which moves less by chance
than accuracy does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

# Legend: n training rows, m others, D features, V classes
Array = npt.NDArray[Any]
INNER = 5  # one of so many parts of the training groups chooses the decay
LEAST = 1e-6  # least deviation, so that a feature that never changes stays 0


def probe(
    train: Array, labels: Array, groups: Array, other: Array, decays: Sequence[float], steps: int, seed: int
) -> tuple[Array, float]:
    """Probabilities of other rows.

    Args:
        train: (n, D). labels: (n,) 0..V-1. groups: (n,) what stays together when the decay is chosen. other: (m, D).
        decays: Above 0, to choose from. steps: Of L-BFGS for each, at most. seed: Of the part that chooses.

    Returns:
        (m, V) probabilities, V as the largest label says; the decay that was chosen.
    """
    mean, std = train.mean(0), train.std(0)
    inputs, asked = (torch.from_numpy(((x - mean) / np.maximum(std, LEAST)).astype(np.float32)) for x in (train, other))
    truth, classes = torch.from_numpy(labels.astype(np.int64)), int(labels.max()) + 1
    inner = torch.from_numpy(parts_of(groups, INNER, seed) == 0)
    best, chosen, found = float("inf"), decays[0], torch.zeros(classes, train.shape[1] + 1)
    weights = found
    for decay in sorted(decays, reverse=True):
        weights = fit_linear(inputs[~inner], truth[~inner], weights, decay, steps)
        loss = float(F.cross_entropy(_logits(inputs[inner], weights), truth[inner]))
        if loss < best:
            best, chosen, found = loss, decay, weights
    weights = fit_linear(inputs, truth, found, chosen, steps)
    probability: Array = _logits(asked, weights).softmax(1).numpy()
    return probability, chosen


def fit_linear(inputs: Tensor, truth: Tensor, start: Tensor, decay: float, steps: int) -> Tensor:
    """(V, D + 1) weights, the last column the bias: least mean of -log p + decay / 2 * sum of squares, bias left out.

    Args:
        inputs: (n, D). truth: (n,). start: (V, D + 1), from where it is looked for. decay, steps: As for `probe`.
    """
    weights = start.clone().requires_grad_()
    search = torch.optim.LBFGS([weights], max_iter=steps, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = F.cross_entropy(_logits(inputs, weights), truth) + decay / 2 * weights[:, :-1].square().sum()
        value.backward()
        return value

    search.step(loss)
    return weights.detach()


def parts_of(groups: Array, parts: int, seed: int) -> Array:
    """(n,) 0..parts-1: rows of a group share a part, parts have as many groups each, and the seed says which.

    Args:
        groups: (n,) labels.
    """
    names, at = np.unique(groups, return_inverse=True)
    part: Array = np.random.default_rng([seed, len(names)]).permutation(len(names))[at] % parts
    return part


def _logits(inputs: Tensor, weights: Tensor) -> Tensor:
    return F.linear(inputs, weights[:, :-1], weights[:, -1])
