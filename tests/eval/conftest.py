"""A small question set for tests of `fashionkit eval vqa`: made-up outfits with small pictures, and what follows."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.store import VQAStore
from fashionkit.engine import threads
from tests.datagen.conftest import made, make_catalog, random_pictures

KEPT = ("B1", "B2", "B5", "C1", "C2", "C6", "C7", "N1")


@pytest.fixture(scope="session")
def outfits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of 48 outfits with pictures of 20 x 24 pixels."""
    folder, rng = tmp_path_factory.mktemp("asked") / "outfits", np.random.default_rng(0)
    pictures = random_pictures(folder, 48, 3, one=False)
    pixels = {}
    for each in pictures:
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(out, "PNG")
        pixels[each.image_id] = out.getvalue()
    return make_catalog(folder, pictures, pixels=pixels, closed_categories=["item"], countable=["item"])


@pytest.fixture(scope="session")
def questions(outfits: Path) -> Path:
    """Questions about them, with entailed ones of `test`."""
    out = outfits.parent / "questions"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        families = {family: 0.0 for family in FAMILIES if family not in KEPT}
        made(outfits, out, families=families, samples=1500, entail=["test"])
    return out


@pytest.fixture
def store(questions: Path) -> VQAStore:
    """The set, opened."""
    return VQAStore(questions)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch."""
    with threads.one_thread():
        yield
