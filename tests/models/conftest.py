"""Tests of networks use one core, and weights that a seed draws anew for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fashionkit.engine import threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread of torch, and its seed."""
    torch.manual_seed(0)
    with threads.one_thread():
        yield
