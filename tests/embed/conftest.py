"""A whole model with random weights for the tests of the API, and one thread of torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fashionkit import Embedder
from fashionkit.engine import threads
from tests.tiny_models import tiny_model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread of torch."""
    with threads.one_thread():
        yield


@pytest.fixture(scope="session")
def whole() -> Embedder:
    """A model with attributes and style; nobody changes it."""
    return Embedder(tiny_model(), batch=3)


@pytest.fixture(scope="session")
def folder(whole: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a folder."""
    return whole.save(tmp_path_factory.mktemp("models") / "whole", "Nothing: its weights are random.")
