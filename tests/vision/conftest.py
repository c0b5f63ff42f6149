"""Tests of backbones use one core: what they compute is small, and others run beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fashionkit.engine import threads


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread of torch for a file of tests."""
    with threads.one_thread():
        yield
