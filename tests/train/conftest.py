"""A small drawn catalogue for all tests of training, and runs on it that take a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.catalog.splits import SplitOptions
from fashionkit.engine import threads

SPLITS = SplitOptions(shares=(("train", 0.6), ("val", 0.2), ("test", 0.2)))
PLAIN = "{use_regions: false, use_general: false, encoder: none, gate: mean, width: 16, auxiliary: false, dropout: 0.3}"

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
