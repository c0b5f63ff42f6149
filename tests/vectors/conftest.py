"""A small folder of vectors whose ids are as awkward as users' are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fashionkit.vectors import unit, write_vectors

PARAMS = {"model": "drawn", "fingerprint": "00ff"}
ODD = ["../../etc/passwd", "Größe 38", "着物", "👗", "a/b", "with space", "e\u0301", "é", "null", "0"]


def drawn(count: int, dim: int = 24, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors (count, dim)."""
    return unit(np.random.default_rng(seed).standard_normal((count, dim)))


@pytest.fixture(scope="session")
def vectors() -> NDArray[np.float32]:
    """(230, 24); rows 40 and 41 are the same vector, and so are row 3 and the rows of the last ten."""
    found = drawn(230)
    found[41], found[220:] = found[40], found[3]
    return found


@pytest.fixture(scope="session")
def ids() -> list[str]:
    """230 ids."""
    return ODD + [f"img-{number}" for number in range(220)]


@pytest.fixture(scope="session", params=["float32", "float16"])
def folder(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    vectors: NDArray[np.float32],
    ids: list[str],
) -> Path:
    """The vectors in three parts, the middle one without rows."""
    path = tmp_path_factory.mktemp("vectors") / request.param
    cuts = [(0, 100), (100, 100), (100, 230)]
    write_vectors(path, ((ids[a:b], vectors[a:b]) for a, b in cuts), PARAMS, request.param)
    return path
