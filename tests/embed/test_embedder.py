"""The embedding API: one vector for a picture in whatever form it comes, and clear words for what is no picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fashionkit import Embedder
from fashionkit.tables import InputError
from fashionkit.vision.pictures import as_picture, as_tensor, encoded, sized
from fashionkit.vision.regions import BandRegions

MODEL = "timm/mobilenetv3_small_050"


def pictures(n: int, seed: int = 0) -> list[Image.Image]:
    """Pictures of some structure, of several sizes."""
    rng = np.random.default_rng(seed)
    small = [rng.integers(0, 256, (6, 5, 3), dtype=np.uint8) for _ in range(n)]
    return [Image.fromarray(s).resize((70 + 9 * i, 90 + 5 * i), Image.Resampling.BICUBIC) for i, s in enumerate(small)]


@pytest.fixture(scope="module")
def model() -> Embedder:
    return Embedder.load(MODEL, "random:3", 64, batch=4)


def test_vectors_are_those_of_the_plain_network(model: Embedder) -> None:
    shown = pictures(6)
    found = model.embed(shown)
    assert found.shape == (6, model.dim) and found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    x = as_tensor([sized(as_picture(p), model.preprocess) for p in shown], model.preprocess)
    with torch.no_grad():
        plain = model.backbone.network.forward_head(model.backbone.network.forward_features(x), pre_logits=True)
    plain = torch.nn.functional.normalize(plain.flatten(1), dim=1).numpy()
    assert np.abs(found - plain).max() < 1e-4
    assert np.abs(found[0] - found[1]).max() > 1e-3, "different pictures have different vectors"


def test_a_batch_gives_the_vectors_of_single_pictures(model: Embedder) -> None:
    shown = pictures(7)
    whole = model.embed(shown)
    for number, picture in enumerate(shown):
        assert np.abs(model.embed(picture)[0] - whole[number]).max() < 1e-5
    assert np.abs(Embedder(model.backbone, batch=3).embed(shown) - whole).max() < 1e-5


def test_every_form_of_a_picture(model: Embedder, tmp_path: Path) -> None:
    (picture,) = pictures(1)
    pixels = np.array(picture)
    (tmp_path / "a.png").write_bytes(encoded(picture))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    found = model.embed([tmp_path / "a.png", str(tmp_path / "a.png"), encoded(picture), picture, pixels, tensor])
    assert np.abs(found - found[0]).max() < 1e-5
    assert model.embed(np.stack([pixels, pixels])).shape == (2, model.dim)
    assert model.embed(str(tmp_path / "a.png")).shape == (1, model.dim)
    assert model.embed([]).shape == (0, model.dim)
    assert model.embed(p for p in [picture]).shape == (1, model.dim)
    with open(tmp_path / "a.png", "rb") as file:
        assert np.abs(model.embed(file)[0] - found[0]).max() < 1e-5
    paths = [str(tmp_path / "a.png")] * 2
    for several in (np.array(paths), dict(enumerate(paths)).values(), tuple(paths)):
        assert model.embed(several).shape == (2, model.dim)


def test_a_broken_picture_is_named_or_masked(model: Embedder) -> None:
    good = pictures(3)
    mixed: list[object] = [good[0], b"broken", good[1], "https://shop.example/a.jpg", good[2]]
    with pytest.raises(InputError, match=r"picture 1: .*(?s:.*)on_error=\"skip\""):
        model.embed(mixed)
    found = model.embed(mixed, on_error="skip")
    assert np.ma.getmaskarray(found).all(1).tolist() == [False, True, False, True, False]
    assert np.abs(np.asarray(found[[0, 2, 4]]) - model.embed(good)).max() < 1e-5
    with pytest.raises(InputError, match="cannot treat broken pictures so"):
        model.embed(good, on_error="ignore")


def test_regions(model: Embedder) -> None:
    shown: list[object] = [*pictures(2), b"broken"]
    found, there = model.regions(shown, BandRegions(), on_error="skip")
    assert found.shape == (3, 4, model.backbone.channels) and there.shape == (3, 4)
    assert there[:2, 1:3].all() and not there[2].any(), "the crop may cost heads and shoes, not what lies between"
    norms = np.linalg.norm(np.asarray(found[:2]), axis=2)
    assert norms[there[:2]] == pytest.approx(1, abs=1e-4) and np.ma.getmaskarray(found)[2].all()
    everywhere, _ = model.regions(shown[:1], BandRegions(bands=((0.0, 1.0),) * 4))
    x = as_tensor([sized(as_picture(shown[0]), model.preprocess)], model.preprocess)
    with torch.no_grad():
        mean = model.backbone.spatial(x).mean((2, 3))[0].numpy()
    assert everywhere[0, 2] @ mean / np.linalg.norm(mean) > 0.9999, "a region of everything is the map's mean"
    with pytest.raises(InputError, match="one id is needed for each picture"):
        model.regions(shown, BandRegions(), ids=["a"])
    empty, none = model.regions([], BandRegions())
    assert empty.shape == (0, 4, model.backbone.channels) and none.shape == (0, 4)
    assert model.regions([b"broken"], BandRegions(), on_error="skip")[0].shape == (1, 4, model.backbone.channels)


def test_a_model_without_text_says_so(model: Embedder) -> None:
    assert model.text([]).shape == (0, model.dim)
    with pytest.raises(InputError, match="no text tower"):
        model.text(["a red dress"])


def test_a_saved_model_gives_the_same_vectors(model: Embedder, tmp_path: Path) -> None:
    folder = model.save(tmp_path / "model", about="Nothing; its weights are random.")
    again = Embedder.load(folder)
    assert (again.dim, again.preprocess, again.fingerprint) == (model.dim, model.preprocess, model.fingerprint)
    assert np.abs(again.embed(pictures(2)) - model.embed(pictures(2))).max() < 1e-6
    assert "its weights are random" in (folder / "README.md").read_text()
    with pytest.raises(InputError, match="there is something already"):
        model.save(folder)
    with pytest.raises(InputError, match="has its own weights"):
        Embedder.load(folder, "random:5")
    with pytest.raises(InputError, match="the size is"):
        Embedder.load(folder, size=0)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="the configuration is damaged"):
        Embedder.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="holds no model"):
        Embedder.load(folder)


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/mobilenetv3_small_050"])
def test_a_saved_model_takes_another_size(name: str, tmp_path: Path) -> None:
    folder = Embedder.load(name, "random:1", 96).save(tmp_path / "model")
    again = Embedder.load(folder, size=64)
    assert again.preprocess.size == 64 and again.embed(pictures(1)).shape == (1, again.dim)


def test_the_fingerprint_tells_weights_and_preprocessing_apart() -> None:
    prints = {Embedder.load(MODEL, *how).fingerprint for how in (("random:1", 64), ("random:2", 64), ("random:1", 32))}
    assert len(prints) == 3
    assert Embedder.load(MODEL, "random:1", 64).fingerprint in prints


def test_a_folder_is_no_picture(model: Embedder, tmp_path: Path) -> None:
    for ask in (model.embed, lambda images: model.regions(images, "bands")):
        with pytest.raises(InputError, match=r"picture 0: .*this is a folder; name its pictures"):
            ask([str(tmp_path)])


def test_providers_by_name(model: Embedder) -> None:
    shown = pictures(2)
    assert np.array_equal(model.regions(shown, "bands")[0], model.regions(shown, BandRegions())[0])
    for wrong, problem in (
        ("foregroud", r"(?s)no such provider of regions.*nearest allowed: 'foreground'"),
        ("catalog", r"(?s)come from a catalogue.*CatalogRegions\(\"FOLDER\"\) with ids="),
        ("random:catalog", "come from a catalogue"),
        (BandRegions, "this is no provider"),
        (7, "this is no provider"),
    ):
        with pytest.raises(InputError, match=problem):
            model.regions(shown, wrong)  # type: ignore[arg-type]


def test_a_folder_that_is_not_there_is_no_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for file in ("a.safetensors", "run/checkpoints/best.ckpt"):
        (tmp_path / file).write_bytes(b"x")
    for name, weights, problem in (
        ("models/nix", None, r"(?s)models/nix: there is no such folder.*timm/<arch>"),
        ("models/nix", "random", "there is no such folder"),
        ("nix", None, "there is no such folder"),
        ("./a.safetensors", None, "this is a file; name its folder"),
        ("run/checkpoints/best.ckpt", None, "(?s)checkpoint of training.*fashionkit share"),
        ("run", None, "(?s)holds no model.*fashionkit share run --out"),
        ("resnet18", "random", "(?s)no such backbone.*timm/resnet18"),
        ("timm/test_resnet", None, "needs weights"),
    ):
        with pytest.raises(InputError, match=problem):
            Embedder.load(name, weights)


def test_weights_are_never_random_by_default() -> None:
    with pytest.raises(InputError, match="needs weights"):
        Embedder.load(MODEL)
    with pytest.raises(InputError, match="at least 1 picture"):
        Embedder.load(MODEL, "random", 32, batch=0)


def test_importing_the_package_loads_no_torch() -> None:
    script = "import sys, fashionkit, fashionkit.embed; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
