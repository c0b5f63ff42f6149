"""Items learnt where they are: places against masks by hand, losses against plain loops, a run and its backbone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import one_hot

from fashionkit.catalog.catalog import Catalog, write_facts, write_rows
from fashionkit.catalog.images import open_mask
from fashionkit.catalog.masks import mask_png
from fashionkit.catalog.schema import KIND, PRESENT, SCHEMA, Facts
from fashionkit.cli import main
from fashionkit.engine import threads
from fashionkit.models.vision_model import VisionModel
from fashionkit.tables import InputError, Manifest, write_manifest
from fashionkit.train.cli import run
from fashionkit.train.items import CELLS, WHERE, ItemData, ItemTask
from fashionkit.train.start import start_backbone
from fashionkit.vision.feature_store import FeatureStore, feature_key
from fashionkit.vision.pictures import as_tensor, encoded
from fashionkit.vision.preprocess import Preprocess
from tests.train.running import checkpoint, fit, same, stopping, table

ARCH, SIDE = "timm/mobilenetv3_small_050@16", 64  # maps of 4 x 4 cells
HEIGHT, WIDTH = 72, 48
ONTOLOGY = """
schema: fashionkit.ontology/1
regions: {top: {}, feet: {}}
categories:
  item: {abstract: true}
  shirt: {parent: item, region: top}
  jacket: {parent: item, region: top}
  shoes: {parent: item, region: feet}
attributes:
  colour: {values: {red: {}, green: {}, blue: {}}}
  details: {exclusive: false, values: {bow: {}, zip: {}}}
"""
RGB = {"red": (220, 20, 20), "green": (20, 190, 30), "blue": (20, 30, 220)}
RECIPE = """# A tiny run.
data:
  class_path: fashionkit.train.items.ItemData
  init_args: {{catalog: {catalog}, least: 2, batch: 8}}
model:
  class_path: fashionkit.train.items.ItemTask
  init_args: {{backbone: {arch}, size: {side}, lr: 0.01}}
trainer: {{max_epochs: 12, accelerator: cpu, log_every_n_steps: 1}}
"""
Masks = dict[str, dict[str, np.ndarray[Any, Any]]]  # picture → region → (H, W) bool


def worn(number: int) -> list[dict[str, Any]]:
    """A shirt or jacket and, but for one in five, shoes: their boxes, masks, and what is said of them."""
    rng = np.random.default_rng(number)
    cut = np.ones((24, 20), bool)
    cut[:8, 10:] = False  # it is another shape in a mirror
    top = {"category": ("shirt", "jacket")[number % 2], "colour": list(RGB)[number % 3], "mask": cut}
    top |= {"at": (int(rng.integers(6, 20)), int(rng.integers(2, 24)))}
    shoes = {"category": "shoes", "colour": list(RGB)[number // 3 % 3], "mask": None, "size": (10, 18)}
    shoes |= {"at": (int(rng.integers(50, 60)), int(rng.integers(2, 26)))}
    return [top, *([shoes] if number % 5 else [])]


def outfits(folder: Path, number: int = 45, scene: str = "outfit", nowhere: bool = False) -> Masks:
    """Portraits of plain items before a light wall; some colours are unknown, details are, or in part; some items are
    nowhere.

    Args:
        number: Of pictures. nowhere: No item has a box.
    """
    rows: dict[str, list[dict[str, Any]]] = {"images": [], "items": [], "attributes": [], "splits": []}
    found: Masks = {}
    for row in range(number):
        name, pixels = f"p{row:03d}", np.full((HEIGHT, WIDTH, 3), 240, np.uint8)
        found[name] = {region: np.zeros((HEIGHT, WIDTH), bool) for region in ("top", "feet")}
        for item in worn(row):
            key, (y, x) = f"{name}/{item['category']}", item["at"]
            shape = np.ones(item["size"], bool) if item["mask"] is None else item["mask"]
            lost = nowhere or (item["category"] == "shoes" and row % 7 == 1)
            region = "feet" if item["category"] == "shoes" else "top"
            there = np.zeros((HEIGHT, WIDTH), bool)
            there[y : y + shape.shape[0], x : x + shape.shape[1]] = shape
            pixels[there] = RGB[item["colour"]]
            found[name][region] |= there & (not lost)
            box = None if lost else [float(x), float(y), float(shape.shape[1]), float(shape.shape[0])]
            mask = None if lost or item["mask"] is None else mask_png(shape)
            rows["items"].append(
                {"item_id": key, "image_id": name, "category": item["category"], "box": box, "mask": mask}
            )
            said = {} if row % 4 == 3 else {"colour": ([item["colour"]], True)}
            if region == "top" and row % 3:
                said["details"] = (["zip"], row % 3 == 2) if row % 2 else (["bow"], True)
            for attribute, (values, complete) in said.items():
                stated = {"attribute": attribute, "state": PRESENT, "values": values, "complete": complete}
                rows["attributes"].append({"item_id": key, **stated})
        rows["images"].append(
            {"image_id": name, "bytes": encoded(Image.fromarray(pixels)), "width": WIDTH, "height": HEIGHT}
        )
        rows["splits"].append(
            {"image_id": name, "split_group": row, "split": {3: "val", 4: "test"}.get(row // 2 % 5, "train")}
        )
    for name, made in rows.items():
        write_rows(folder, name, 0, made)
    write_facts(folder, Facts("plain", scene=scene))
    (folder / "ontology.yaml").write_text(ONTOLOGY)
    write_manifest(folder, Manifest(KIND, SCHEMA))
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a catalogue."""
    folder = tmp_path_factory.mktemp("plain") / "catalog"
    outfits(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(plain: Path) -> Path:
    """Trains a small network on it."""
    path = plain.parent / "items.yaml"
    path.write_text(RECIPE.format(catalog=plain, arch=ARCH, side=SIDE), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fitted(recipe: Path) -> Path:
    """Folder of a run."""
    out = recipe.parent / "run"
    with threads.one_thread():
        assert fit(recipe, out) == 0
    return out


def prepared(size: int = SIDE, resize: str = "squash", crop: float = 1.0) -> Preprocess:
    return Preprocess(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", crop, resize)


def read(catalog: Path, how: Preprocess, **options: Any) -> ItemData:
    data = ItemData(str(catalog), **{"least": 2, **options})
    data.prepare(how)
    return data


def batch_of(data: ItemData, split: str = "train") -> dict[str, Any]:
    """All pictures of a split."""
    examples = data.examples[split]
    found: dict[str, Any] = examples.__getitems__([(0, row) for row in range(len(examples))])
    return found


def task_of(data: ItemData, **options: Any) -> ItemTask:
    return ItemTask(ARCH, data.facts, **{"size": SIDE, **options}).eval()


def painted(catalog: Path) -> Masks:
    """What the items' rows say, pixel by pixel."""
    source = Catalog(catalog)
    sizes = {row["image_id"]: (row["height"], row["width"]) for row in source.table("images").to_pylist()}
    found: Masks = {name: {} for name in sizes}
    for item in source.table("items").to_pylist():
        region = item["region"] or source.ontology.region_of(item["category"])
        mask = found[item["image_id"]].setdefault(region, np.zeros(sizes[item["image_id"]], bool))
        shape = open_mask(item["mask"]) > 0
        x, y = int(item["box"][0]), int(item["box"][1])
        for i, j in np.argwhere(shape):
            mask[y + i, x + j] = True
    return found


def test_places_are_where_the_masks_of_items_are(drawn: Path) -> None:
    data, wanted, seen = read(drawn, prepared()), painted(drawn), set()
    regions = data.facts["regions"]
    assert len(regions) > 4 and regions == sorted(regions)
    for split in ("train", "val", "test"):
        batch = batch_of(data, split)
        assert batch[WHERE].dtype == torch.uint8 and batch[WHERE].shape[1:] == (len(regions), CELLS, CELLS)
        for name, where in zip(data.ids(split), batch[WHERE].numpy(), strict=True):
            for region, shares in zip(regions, where, strict=True):
                mask = wanted[name].get(region, np.zeros((64, 64), bool))
                np.testing.assert_array_equal(shares, np.round(255 * mask.reshape(32, 2, 32, 2).mean((1, 3))))
                seen.update({region} if mask.any() else ())
    assert seen == set(regions)


def test_what_is_cut_off_a_picture_is_cut_off_its_masks(drawn: Path) -> None:
    """Half of both sides is kept, of 64 pixels; no pixel is resized."""
    data, wanted = read(drawn, prepared(32, crop=0.5)), painted(drawn)
    for name, where in zip(data.ids("train"), batch_of(data)[WHERE].numpy(), strict=True):
        for region, shares in zip(data.facts["regions"], where, strict=True):
            mask = wanted[name].get(region, np.zeros((64, 64), bool))
            np.testing.assert_array_equal(shares, 255 * mask[16:48, 16:48])


@pytest.mark.parametrize("resize", ["squash", "longest", "shortest"])
def test_pictures_and_masks_are_brought_to_their_size_alike(plain: Path, resize: str) -> None:
    """A pixel of a strong colour is an item's. Pictures of an item that is nowhere are left out."""
    data = read(plain, prepared(resize=resize))
    batch, compared = batch_of(data), 0
    for name, image, where in zip(data.ids("train"), batch["image"].numpy(), batch[WHERE].numpy(), strict=True):
        if int(name[1:]) % 7 == 1:
            continue
        coloured = np.ptp(image.astype(np.int64), axis=2) > 100
        cells = coloured.reshape(CELLS, 2, CELLS, 2).mean((1, 3)) >= 0.5
        assert (cells == (where.max(0) >= 128)).mean() > 0.97
        compared += 1
    assert compared > 15


def test_a_mirror_shows_the_picture_and_its_masks(plain: Path) -> None:
    """Each picture here is a drawing of its own masks."""
    data = read(plain, prepared())
    batch = batch_of(data)
    times = SIDE // CELLS
    drawing = batch[WHERE].repeat_interleave(times, 2).repeat_interleave(times, 3)  # B R S S
    batch["image"] = torch.stack([drawing[:, 0], drawing[:, 1], drawing[:, 0]], 3)
    before = batch["image"].clone()
    number, task = len(before), task_of(data)
    for share, least, most in ((0.0, 0, 0), (0.5, 3, number - 3), (1.0, number, number)):
        task.mirror = share
        found = task._mirrored(batch)
        again = found[WHERE].repeat_interleave(times, 2).repeat_interleave(times, 3)
        assert torch.equal(found["image"][..., 0], again[:, 0]) and torch.equal(found["image"][..., 1], again[:, 1])
        turned = [
            torch.equal(new, old.flip(1)) and not torch.equal(new, old)
            for new, old in zip(found["image"], before, strict=True)
        ]
        kept = [torch.equal(new, old) for new, old in zip(found["image"], before, strict=True)]
        assert all(a != b for a, b in zip(turned, kept, strict=True)) and least <= sum(turned) <= most
        assert found["values"] is batch["values"] and torch.equal(batch["image"], before)


def by_hand(task: ItemTask, batch: dict[str, Any], weight: float) -> tuple[float, int]:
    """The loss in plain loops, and how many values cost something."""
    with torch.no_grad():
        values, places, _ = task(batch)
    total, count = 0.0, 0
    for spec in task.specs:
        region = task.regions.index(spec.name.split(".")[0])
        for row, target in enumerate(batch["values"][spec.name].tolist()):
            if not batch[WHERE][row, region].any():
                continue
            scores = [float(x) for x in values[spec.name][row]]
            if spec.exclusive:
                cost = [] if target < 0 else [math.log(sum(map(math.exp, scores))) - scores[target]]
            else:
                known = [(s, t) for s, t in zip(scores, target, strict=True) if t >= 0]
                cost = [sum(math.log(1 + math.exp(-s if t else s)) for s, t in known) / len(scores)] if known else []
            total, count = total + sum(cost), count + len(cost)
    side = CELLS // places.shape[2]
    covered = batch[WHERE].double().div(255).unfold(2, side, side).unfold(3, side, side).mean((4, 5))
    loss = [
        -t * math.log(1 / (1 + math.exp(-s))) - (1 - t) * math.log(1 / (1 + math.exp(s)))
        for s, t in zip(places.flatten().tolist(), covered.flatten().tolist(), strict=True)
    ]
    return total / count + weight * sum(loss) / len(loss), count


def test_the_loss_by_plain_loops(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that nobody knows and items that are nowhere cost nothing; of several values each known one does."""
    data = read(plain, prepared())
    batch, task = batch_of(data), task_of(data, place_weight=3.0, mirror=0.0)
    kinds = {spec.name: spec.exclusive for spec in task.specs}
    assert kinds == {"top.category": True, "top.colour": True, "top.details": False, "feet.colour": True}
    details, colour = batch["values"]["top.details"], batch["values"]["feet.colour"]
    assert {tuple(sorted(set(row))) for row in details.tolist()} == {(-1,), (-1, 1), (0, 1)}
    feet = batch[WHERE][:, task.regions.index("feet")].flatten(1).any(1)
    assert ((colour >= 0) & ~feet).any(), "some known colours are of shoes that are nowhere"
    assert ((colour < 0) & feet).any(), "some shoes are of a colour that nobody knows"
    monkeypatch.setattr(ItemTask, "log", lambda *_, **__: None)
    monkeypatch.setattr(ItemTask, "log_dict", lambda *_, **__: None)
    wanted, count = by_hand(task, batch, 3.0)
    assert 0 < count < 4 * len(details)
    assert float(task.training_step(batch, 0).detach()) == pytest.approx(wanted, rel=1e-5)
    nobody = {**batch, "values": {name: torch.full_like(part, -1) for name, part in batch["values"].items()}}
    task.place_weight = 0.0
    loss = task.training_step(nobody, 0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(part.grad is None or not part.grad.any() for part in task.parameters())


def test_facts_name_attributes_by_region(plain: Path) -> None:
    data = ItemData(str(plain), least=2, attributes=["feet.colour", "top.details"])
    assert data.facts["regions"] == ["feet", "top"]
    assert [spec["name"] for spec in data.facts["specs"]] == ["feet.colour", "top.details"]
    assert ItemData(str(plain), least=2, attributes=["top.colour"]).facts["regions"] == ["top"]


def test_data_that_have_no_places_are_refused(tmp_path: Path) -> None:
    outfits(tmp_path / "products", 12, scene="product")
    with pytest.raises(InputError, match="a catalogue of outfits"):
        ItemData(str(tmp_path / "products"), least=2)
    outfits(tmp_path / "nowhere", 12, nowhere=True)
    with pytest.raises(InputError, match="no item has a mask or a box"):
        read(tmp_path / "nowhere", prepared())


@pytest.mark.parametrize("name", ["augment", "features", "regions"])
def test_what_does_not_go_with_masks_is_refused(name: str, plain: Path) -> None:
    with pytest.raises(InputError, match="as they are") as caught:
        ItemData(str(plain), least=2, **{name: "street"})
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("options", "column"),
    [({"mirror": 1.5}, "mirror"), ({"mirror": math.nan}, "mirror"), ({"place_weight": -1.0}, "place_weight"),
     ({"place_weight": math.inf}, "place_weight")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(options: dict[str, Any], column: str, plain: Path) -> None:
    with pytest.raises(InputError, match="out of range") as caught:
        task_of(ItemData(str(plain), least=2), **options)
    assert column in str(caught.value)


def test_facts_of_other_data_are_refused(plain: Path) -> None:
    facts = {name: value for name, value in ItemData(str(plain), least=2).facts.items() if name != "regions"}
    with pytest.raises(InputError, match="without places"):
        ItemTask(ARCH, facts, size=SIDE)


def test_a_run_learns_what_and_where(fitted: Path) -> None:
    rows = table(fitted)
    loss = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert np.mean(loss[-3:]) < 0.7 * np.mean(loss[:3])
    places = [float(row["val/places"]) for row in rows if row["val/places"]]
    assert len(places) == 12 and places[-1] > 0.3 and places[-1] > places[0] + 0.1
    names = {"val/top.category", "val/top.colour", "val/feet.colour", "val/accuracy"}
    assert names <= set(rows[0]) and "val/top.details" not in rows[0]
    last = [row for row in rows if row["val/places"]][-1]
    parts = [float(last[name]) for name in sorted(names - {"val/accuracy"})]
    assert float(last["val/accuracy"]) == pytest.approx(np.mean(parts), abs=1e-6)


def test_measures_of_known_answers(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that knows everything, then one that is wrong everywhere; what nobody knows is neither."""
    forward = ItemTask.forward

    def told(right: bool) -> Callable[..., Any]:
        sign = 1.0 if right else -1.0

        def say(self: ItemTask, batch: dict[str, Any]) -> Any:
            values, _, share = forward(self, batch)
            for spec in self.specs:
                if spec.exclusive:
                    target = batch["values"][spec.name].clamp(min=0)
                    values[spec.name] = sign * one_hot(target, len(spec.values)).float()
            return values, sign * torch.where(share >= 0.5, 1.0, -1.0), share

        return say

    for right in (True, False):
        monkeypatch.setattr(ItemTask, "forward", told(right))
        assert run(["test", "--out", str(fitted)]) == 0
        found = json.loads((fitted / "test.json").read_text())
        named = {name: value for name, value in found.items() if name.startswith("test/")}
        assert len(named) == 5 and set(named.values()) == {float(right)}


def test_its_backbone_is_shared_and_makes_features(
    fitted: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the run to cached maps that the run itself can be named for, as question-answer networks do."""
    assert main(["share", str(fitted), "--out", str(tmp_path / "model")]) == 0
    assert f"{ARCH}, from" in capsys.readouterr().out
    shared = VisionModel.load(tmp_path / "model")
    assert shared.attributes is None and shared.style is None
    task = ItemTask.load(fitted)
    assert task.backbone is not None and task.preprocess == shared.backbone.preprocess
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    with torch.no_grad():
        one, two = (net.eval().spatial(as_tensor(pixels, task.preprocess)) for net in (shared.backbone, task.backbone))
    assert one.shape[2:] == (4, 4) and torch.equal(one, two)
    words = ["features", str(plain), "--model", str(tmp_path / "model"), "--maps", "--out", str(tmp_path / "maps")]
    assert main(words) == 0
    store = FeatureStore(tmp_path / "maps")
    assert store.preprocess.resize == "squash" and store.shapes["map"] == (task.backbone.channels, 4, 4)
    assert store.fingerprint == feature_key(start_backbone(ARCH, str(fitted)))
    data = read(plain, task.preprocess)
    pixels = batch_of(data, "val")["image"].numpy()
    with torch.no_grad():
        wanted = task.backbone.spatial(as_tensor(pixels, task.preprocess)).numpy()
    np.testing.assert_allclose(store.maps(data.ids("val")), wanted, rtol=2e-2, atol=2e-2)


def test_a_run_predicts_nothing(fitted: Path) -> None:
    with pytest.raises(InputError, match="for training only"):
        run(["predict", "--out", str(fitted)])


def test_a_run_that_was_stopped_ends_as_if_nobody_had(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an epoch of three steps, and at its end; steps end the run. Mirrors turn as they would have."""
    words = ["--trainer.max_epochs", "-1", "--trainer.max_steps", "5", "--run.save_every", "1"]
    assert fit(recipe, tmp_path / "whole", *words) == 0
    for step, after, hook in ((2, 3, "on_train_batch_end"), (3, 3, "on_train_epoch_start")):
        out = tmp_path / hook
        with stopping(after, monkeypatch, hook):
            fit(recipe, out, *words)
        assert checkpoint(out)["global_step"] == step
        assert fit(recipe, out, *words) == 0
        assert table(tmp_path / "whole") == table(out)
        one, two = (checkpoint(folder) for folder in (tmp_path / "whole", out))
        assert all(same(one[name], two[name]) for name in ("state_dict", "optimizer_states", "lr_schedulers"))
