"""A small drawn catalogue for all tests of training, and runs on it that take a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.catalog.splits import SplitOptions
from fashionkit.datagen.generate import generate
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.spec import RunSpec
from fashionkit.engine import threads
from fashionkit.train.caching import cache_catalog
from fashionkit.vision.backbones import build_backbone

SPLITS = SplitOptions(shares=(("train", 0.6), ("val", 0.2), ("test", 0.2)))
PLAIN = "{use_regions: false, use_general: false, encoder: none, gate: mean, width: 16, auxiliary: false, dropout: 0.3}"

SEEING, SIDE = "timm/test_vit", 32  # maps of 2 x 2 cells
ASKED = ("B1", "B3", "C1", "C8", "N1")

ASKING = """# A tiny run of questions.
data:
  class_path: fashionkit.train.questions.QuestionData
  init_args:
    catalog: {catalog}
    questions: {questions}
    features: {features}
    images: 4
    per_image: 4
    words: 300
    noise: 0.2
    empties: 0.2
    val_questions: 60
    test_questions: 50
model:
  class_path: fashionkit.train.vqa.VqaTask
  init_args:
    backbone: timm/test_vit
    weights: random:1
    size: 32
    kind: {kind}
    network: {{width: 16, layers: 2, heads: 2, feed: 32, embedding: 12, dropout: 0.3, answer_length: 24}}
    lr: 0.01
trainer:
  max_epochs: 2
  accelerator: cpu
  log_every_n_steps: 1
run:
  ema: 0.9
"""

TINY = """# A tiny run.
data:
  class_path: fashionkit.train.data.StyleData
  init_args:
    catalog: {catalog}
    augment: street
    batch: 4
model:
  class_path: fashionkit.train.style.StyleTask
  init_args:
    backbone: timm/test_efficientnet
    size: 32
    network: {network}
    lr: 0.01
    backbone_lr: 1.0
trainer:
  max_epochs: 2
  accelerator: cpu
  log_every_n_steps: 1
run:
  ema: 0.9
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread of torch."""
    with threads.one_thread():
        yield


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 outfits of 64 px, with pictures in all splits."""
    out = tmp_path_factory.mktemp("drawn") / "catalog"
    draw_catalog(out, DrawOptions(30, size=64, workers=1, splits=SPLITS))
    return out


@pytest.fixture(scope="session")
def drawn_catalog(drawn: Path) -> Catalog:
    """The same, opened."""
    return Catalog(drawn)


@pytest.fixture(scope="session")
def question_set(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of some families about the same pictures."""
    out = tmp_path_factory.mktemp("questions") / "set"
    none = {family: 0.0 for family in FAMILIES if family not in ASKED}
    generate(RunSpec(catalog=str(drawn), out=str(out), workers=1, families=none))
    return out


@pytest.fixture(scope="session")
def maps(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cached features of the same pictures, with maps."""
    out = tmp_path_factory.mktemp("maps") / "features"
    cache_catalog(drawn, out, build_backbone(SEEING, "random:1", SIDE), colour=False)
    return out


@pytest.fixture
def asking(tmp_path: Path, drawn: Path, question_set: Path, maps: Path) -> Callable[..., Path]:
    """Writes a recipe of a tiny run of questions, with texts in it replaced, and returns its file."""

    def write(*changes: tuple[str, str], name: str = "asking", **values: Any) -> Path:
        given = {"catalog": drawn, "questions": question_set, "features": maps, "kind": "vlm", **values}
        text = ASKING.format(**given)
        for old, new in changes:
            assert old in text, f"{old!r} is not in the recipe"
            text = text.replace(old, new)
        path = tmp_path / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def tiny(tmp_path: Path, drawn: Path) -> Callable[..., Path]:
    """Writes a recipe of a tiny run, with texts in it replaced, and returns its file."""

    def write(*changes: tuple[str, str], name: str = "tiny", **values: Any) -> Path:
        text = TINY.format(**{"catalog": drawn, "network": PLAIN, **values})
        for old, new in changes:
            assert old in text, f"{old!r} is not in the recipe"
            text = text.replace(old, new)
        path = tmp_path / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
