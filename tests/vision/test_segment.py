"""CLIPSeg and SegFormer with tiny random weights: what they find is what the networks say, picture by picture or many
at once; files and tables that do not fit are refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fashionkit.tables import InputError
from fashionkit.vision import region_base
from fashionkit.vision.region_base import ITEMS
from fashionkit.vision.region_cache import MaskCache
from fashionkit.vision.segment import ModelFolder, SegmentRegions
from fashionkit.vision.segment_clipseg import CLIPSEG, PROMPTS, ClipSegRegions
from fashionkit.vision.segment_segformer import LABELS, SEGFORMER, SegFormerRegions
from tests.vision.tiny_models import MIDDLE, SIDE, write_clipseg, write_segformer

TABLE = {"HAT": ["head"], "dress": ["top", "bottom"], "pants": ["bottom"], "left-shoe": ["shoes"]}
FEW = {"a hat": ["head"], "a coat": ["top"], "a dress": ["top", "bottom"]}  # none for shoes


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clipseg(tmp_path_factory.mktemp("clipseg"))


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_segformer(tmp_path_factory.mktemp("segformer"))


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub's cache that is empty, and no way out."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def pictures() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((SIDE, SIDE), (50, 30), (9, 70))]


def as_seen(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(1, 3, S, S), worked out apart from the code under test."""
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
    return torch.from_numpy((small / 255 - 0.5) / 0.5).permute(2, 0, 1)[None]


@torch.inference_mode()
def test_clipseg_says_what_its_own_forward_says_prompt_by_prompt(clipseg: Path) -> None:
    provider = ClipSegRegions(clipseg, FEW)
    tokens = provider.files.tokenizer()(list(FEW), padding=True, return_tensors="pt")
    image = pictures()[0]
    each = [
        provider.network(
            input_ids=tokens["input_ids"][[row]],
            attention_mask=tokens["attention_mask"][[row]],
            pixel_values=as_seen(image),
            interpolate_pos_encoding=True,
        ).logits.reshape(SIDE, SIDE)
        for row in range(3)
    ]
    hat, coat, dress = (logits.sigmoid().numpy() for logits in each)
    (soft,) = provider.soft([image])
    wanted = np.stack([hat, np.maximum(coat, dress), dress, np.zeros_like(hat)])
    np.testing.assert_allclose(soft, wanted, atol=1e-5)
    middle = float(np.median(wanted[:3]))
    masks = ClipSegRegions(clipseg, FEW, middle).regions(image, "a")
    np.testing.assert_array_equal(masks, soft > np.float32(middle))
    assert 0.05 < masks[:3].mean() < 0.95


@torch.inference_mode()
def test_segformer_gives_each_pixel_its_best_label(segformer: Path) -> None:
    provider, rng, seen = SegFormerRegions(segformer, TABLE), np.random.default_rng(1), set[int]()
    for _ in range(6):
        image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        logits = provider.network(pixel_values=as_seen(image)).logits
        best = torch.nn.functional.interpolate(logits, (SIDE, SIDE), mode="bilinear").argmax(1)[0].numpy()
        seen.update(np.unique(best).tolist())
        wanted = np.stack([best == 1, best == 2, (best == 2) | (best == 3), best == 4])
        np.testing.assert_array_equal(provider.regions(image, "a"), wanted)
    assert len(seen) > 3


@pytest.mark.parametrize("kind", ["clipseg", "segformer"])
def test_many_at_once_are_as_one_by_one_in_any_size(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    build: Callable[..., SegmentRegions] = {"clipseg": ClipSegRegions, "segformer": SegFormerRegions}[kind]
    provider = build(folder, FEW if kind == "clipseg" else TABLE, size=2)
    images = pictures()
    together = provider.batch(images, ["a", "b", "c"])
    for image, masks in zip(images, together, strict=True):
        assert masks.dtype == np.bool_ and masks.shape == (len(ITEMS), *image.shape[:2])
        assert (provider.regions(Image.fromarray(image), "d") != masks).mean() < 0.001  # sums in another order
    assert provider.batch([], []) == []
    twin = pickle.loads(pickle.dumps(provider))
    np.testing.assert_array_equal(twin.regions(images[1], "b"), provider.regions(images[1], "b"))


def test_keys_name_the_weights_and_what_changes_a_mask(clipseg: Path, segformer: Path, tmp_path: Path) -> None:
    plain = ClipSegRegions(clipseg, FEW)
    copy = Path(shutil.copytree(clipseg, tmp_path / "copy"))
    assert ClipSegRegions(copy, FEW, size=1).key == plain.key
    words = json.loads((copy / "vocab.json").read_text())
    (copy / "vocab.json").write_text(json.dumps({**words, "hat</w>": len(words)}))
    other = write_clipseg(tmp_path / "other")
    data = bytearray((other / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (other / "model.safetensors").write_bytes(data)
    keys = [plain.key, ClipSegRegions(copy, FEW).key, ClipSegRegions(other, FEW).key]
    keys += [ClipSegRegions(clipseg).key, ClipSegRegions(clipseg, FEW, 0.5).key, SegFormerRegions(segformer, TABLE).key]
    keys.append(SegFormerRegions(segformer, {**TABLE, "dress": ["top"]}).key)
    assert len(set(keys)) == len(keys)


def test_the_cache_asks_for_all_that_is_missing_at_once(clipseg: Path, tmp_path: Path) -> None:
    class Counted(ClipSegRegions):
        asked: list[int] = []  # noqa: RUF012

        def batch(self, images: object, image_ids: object) -> list[NDArray[np.bool_]]:
            self.asked.append(len(images))  # type: ignore[arg-type]
            return super().batch(images, image_ids)  # type: ignore[arg-type]

    provider, cache, images = Counted(clipseg, FEW), MaskCache(tmp_path), pictures()
    cache.regions(provider, images[1], "b")
    found = cache.batch(provider, images, ["a", "b", "c"])
    again = cache.batch(provider, images, ["a", "b", "c"])
    assert provider.asked == [1, 2]
    for image, masks, twin in zip(images, found, again, strict=True):
        assert masks.shape[1:] == image.shape[:2]
        np.testing.assert_array_equal(masks, twin)


def test_a_model_that_is_not_there_says_how_to_place_it(tmp_path: Path) -> None:
    for build, name in ((ClipSegRegions, CLIPSEG), (SegFormerRegions, SEGFORMER)):
        with pytest.raises(InputError, match="nothing is downloaded") as error:
            build()  # type: ignore[operator]
        said = str(error.value)
        assert f"https://huggingface.co/{name}" in said and "place in a folder" in said and "allow the download" in said
        with pytest.raises(InputError, match="could not be fetched"):  # HF_HUB_OFFLINE is stronger than our switch
            build(download=True)  # type: ignore[operator]
    for wrong in (tmp_path / "none", "../x", "a/b/c", "name", "", "/"):
        with pytest.raises(InputError, match=r"no such folder|lacks"):
            ClipSegRegions(wrong)


def test_the_hub_s_cache_is_looked_at(clipseg: Path, tmp_path: Path) -> None:
    at = tmp_path / "hub" / ("models--" + CLIPSEG.replace("/", "--"))
    commit = "0" * 40
    shutil.copytree(clipseg, at / "snapshots" / commit)
    (at / "refs").mkdir()
    (at / "refs" / "main").write_text(commit)
    found = ClipSegRegions(prompts=FEW)
    assert found.files.folder == at / "snapshots" / commit and found.key == ClipSegRegions(clipseg, FEW).key
    assert ClipSegRegions(revision=commit).files.folder == found.files.folder
    with pytest.raises(InputError, match="nothing is downloaded"):
        ClipSegRegions(revision="1" * 40)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_files_that_are_missing_or_broken_are_named(clipseg: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(clipseg, tmp_path / "copy"))
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"lacks {name}"):
        ClipSegRegions(folder)
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"no JSON|cannot be read"):
        ClipSegRegions(folder, FEW).regions(pictures()[0], "a")
    if name != "model.safetensors":
        (folder / name).write_text("[]")
        with pytest.raises(InputError, match="no mapping"):
            ClipSegRegions(folder)


def test_weights_that_lack_a_tensor_are_refused_not_filled_up(clipseg: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(clipseg, tmp_path / "copy"))
    held = load_file(folder / "model.safetensors")
    lacking = {key: tensor for key, tensor in held.items() if "film_mul" not in key}
    save_file(lacking, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="missing or do not fit") as error:
        ClipSegRegions(folder).regions(pictures()[0], "a")
    assert "film_mul" in str(error.value)
    broken = {key: tensor * float("nan") for key, tensor in held.items()}
    save_file(broken, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="gives no numbers"):
        ClipSegRegions(folder).regions(pictures()[0], "a")


def test_pickled_weights_are_not_looked_at(clipseg: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clipseg, tmp_path / "copy"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"lacks model\.safetensors"):
        ClipSegRegions(folder)


def test_another_model_and_other_shapes_are_refused(clipseg: Path, segformer: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another model"):
        ClipSegRegions(segformer)
    with pytest.raises(InputError, match="another model"):
        SegFormerRegions(clipseg)
    folder = Path(shutil.copytree(segformer, tmp_path / "copy"))
    for size in ({"height": 32, "width": 48}, "wide", None, 0):
        (folder / "preprocessor_config.json").write_text(json.dumps({**MIDDLE, "size": size}))
        with pytest.raises(InputError, match="squares"):
            SegFormerRegions(folder, TABLE)
    (folder / "preprocessor_config.json").write_text(json.dumps({**MIDDLE, "size": {"shortest_edge": 48}}))
    assert SegFormerRegions(folder, TABLE).preprocess.size == 48
    config = json.loads((folder / "config.json").read_text())
    for labels in (None, ["Hat"], {"x": "Hat"}):
        (folder / "config.json").write_text(json.dumps({**config, "id2label": labels}))
        with pytest.raises(InputError, match="id2label"):
            SegFormerRegions(folder, TABLE)


def test_tables_that_do_not_fit_are_refused(clipseg: Path, segformer: Path) -> None:
    for wrong in ({"a hat": ["hand"]}, {"a hat": "head"}):
        with pytest.raises(InputError, match="no such item"):
            ClipSegRegions(clipseg, wrong)
    with pytest.raises(InputError, match="needs a table"):
        ClipSegRegions(clipseg, {})
    with pytest.raises(InputError, match="at least 1 picture"):
        ClipSegRegions(clipseg, size=0)
    with pytest.raises(InputError, match="no such label"):
        SegFormerRegions(segformer)  # it has no sunglasses
    with pytest.raises(InputError, match="more than the 40 tokens"):
        ClipSegRegions(clipseg, {"x" * 99: ["head"]}).regions(pictures()[0], "a")
    for threshold in (0, 1, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1"):
            ClipSegRegions(clipseg, threshold=threshold)


def test_our_tables_reach_every_item() -> None:
    for table in (PROMPTS, LABELS):
        assert {item for items in table.values() for item in items} == set(ITEMS)


def test_without_transformers_there_is_a_hint(clipseg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    provider = ClipSegRegions(clipseg)
    monkeypatch.setattr(region_base.importlib, "import_module", gone)
    with pytest.raises(InputError, match=r'pip install "fashionkit\[segment\]"'):
        provider.regions(pictures()[0], "a")


def test_the_folder_may_be_read_without_a_network(clipseg: Path) -> None:
    assert ModelFolder(clipseg, "clipseg", None, False).preprocess.resize == "squash"
