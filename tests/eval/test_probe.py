"""The linear probe: its minimum against a gradient written out, its choice of decay, its folds."""

from __future__ import annotations

import numpy as np
import torch

from fashionkit.eval.probe import fit_linear, parts_of, probe

RNG = np.random.default_rng(0)


def test_at_the_minimum_the_gradient_written_out_is_zero() -> None:
    inputs, truth, decay = RNG.normal(size=(60, 4)), RNG.integers(3, size=60), 0.1
    start = torch.zeros(3, 5)
    fitted = fit_linear(torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(truth), start, decay, 200)
    weights = fitted.numpy().astype(np.float64)
    logits = inputs @ weights[:, :-1].T + weights[:, -1]
    given = np.exp(logits - logits.max(1, keepdims=True))
    off = given / given.sum(1, keepdims=True) - np.eye(3)[truth]
    assert np.abs(off.T @ inputs / 60 + decay * weights[:, :-1]).max() < 1e-3
    assert np.abs(off.mean(0)).max() < 1e-3  # nothing pulls at the bias
    assert not start.any(), "the start is left as it was"


def test_what_a_line_divides_is_told_and_noise_is_held_back() -> None:
    truth = np.arange(200) % 2
    told = RNG.normal(size=(200, 3)) + 6 * truth[:, None]
    said, decay = probe(told[:150], truth[:150], np.arange(150), told[150:], [10.0, 0.01], 50, 0)
    assert said.shape == (50, 2) and np.allclose(said.sum(1), 1, atol=1e-5)
    assert (said.argmax(1) == truth[150:]).mean() > 0.97 and decay == 0.01
    noise = RNG.normal(size=(200, 80))
    assert probe(noise[:150], truth[:150], np.arange(150), noise[150:], [10.0, 0.01], 50, 0)[1] == 10.0


def test_a_feature_that_never_changes_does_no_harm() -> None:
    truth = np.arange(40) % 2
    told = np.stack([truth * 2.0, np.full(40, 7.0)], 1)
    said, _ = probe(told, truth, np.arange(40), told, [0.01], 30, 0)
    assert np.isfinite(said).all() and (said.argmax(1) == truth).all()


def test_parts_keep_groups_together_and_are_of_one_size() -> None:
    groups = np.repeat([f"g{i}" for i in range(23)], RNG.integers(1, 6, size=23))
    part = parts_of(groups, 5, 3)
    of_group = {group: set(part[groups == group]) for group in set(groups)}
    assert all(len(found) == 1 for found in of_group.values())
    sizes = np.bincount([next(iter(found)) for found in of_group.values()], minlength=5)
    assert sizes.max() - sizes.min() <= 1
    assert (parts_of(groups, 5, 3) == part).all() and (parts_of(groups, 5, 4) != part).any()
