"""Explanations: gradients against finite differences, items left out by hand, and a page that loads nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fashionkit import Embedder
from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.cli import main
from fashionkit.embed.explain import Explanation, _heat, explain, heated
from fashionkit.embed.explain_page import explain_page
from fashionkit.models.vision_model import VisionModel
from fashionkit.tables import InputError
from fashionkit.vision.regions import BandRegions, CatalogRegions
from tests.report.browser import CHROMIUM, MISSING, browser
from tests.tiny_models import made_up, tiny_backbone, tiny_model, tiny_style

NASTY = '<img src=x onerror=alert(1)> & "q".png'


class Two:
    """A provider that sees a top on the left and a bottom on the right, and nothing else."""

    key = "two"

    def regions(self, image: Image.Image, image_id: str) -> np.ndarray:
        masks = np.zeros((4, image.height, image.width), bool)
        masks[1, :, : image.width // 2], masks[2, :, image.width // 2 :] = True, True
        return masks


@pytest.fixture(scope="module")
def found(whole: Embedder) -> list[Explanation]:
    return explain(whole, made_up(2), ["plain", NASTY], provider=Two())


def test_what_is_said_is_what_the_model_says(whole: Embedder, found: list[Explanation]) -> None:
    style, answers = whole.style(made_up(2), provider=Two()), whole.attributes(made_up(2))
    for number, each in enumerate(found):
        assert each.style is not None
        assert np.abs(each.style.probabilities[0] - style.probabilities[number]).max() < 1e-5
        assert np.abs(each.style.gates[0] - style.gates[number]).max() < 1e-5
        assert each.attributes is not None and each.attributes.keys() == answers[number].keys()  # type: ignore[union-attr]
        head, top, bottom, _ = each.items
        assert not head.there and top.there and bottom.there and head.gate == 0
        assert top.share == pytest.approx(0.5, abs=0.02) and top.gate == pytest.approx(style.gates[number, 2], abs=1e-5)


def test_heat_stays_within_its_item_and_has_one_scale(found: list[Explanation]) -> None:
    for each in found:
        heats = [item.heat for item in each.items]
        assert max(heat.max() for heat in heats) in (pytest.approx(1), 0) and min(heat.min() for heat in heats) >= 0
        for item in each.items:
            assert item.heat[~item.mask].max(initial=0) == 0
        assert each.items[0].heat.max() == 0, "what is not there speaks for nothing"


@pytest.mark.parametrize("switches", [{}, {"encoder": "none", "gate": "sigmoid", "soft_masks": True}])
def test_heat_is_grad_cam_by_finite_differences(switches: dict[str, object]) -> None:
    torch.manual_seed(5)
    c, h = 5, 4
    network = tiny_style(c, **switches).eval().double()
    cells = torch.randn(1, c, h, h, dtype=torch.float64)
    masks = torch.zeros(1, 4, h, h, dtype=torch.bool)
    masks[0, 1, :2], masks[0, 2, 2:, :3] = True, True
    gradient, step = np.zeros((c, h, h)), 1e-5
    with torch.no_grad():
        best = int(network.irsn(cells, masks).logits.argmax())
        for at in np.ndindex(gradient.shape):
            ends = []
            for sign in (step, -step):
                moved = cells.clone()
                moved[(0, *at)] += sign
                ends.append(float(network.irsn(moved, masks).logits[0, best]))
            gradient[at] = (ends[0] - ends[1]) / (2 * step)
    wanted = np.zeros((4, h, h))
    for k, mask in enumerate(masks[0].numpy()):
        if mask.any():
            weights = gradient[:, mask].mean(1)
            wanted[k] = np.maximum(0, np.tensordot(weights, cells[0].numpy(), 1)) * mask
    assert wanted.max() > 0
    assert np.abs(_heat(network, cells, masks, None, best) - wanted / wanted.max()).max() < 1e-4


def test_without_an_item_is_with_its_mask_emptied(whole: Embedder, found: list[Explanation]) -> None:
    class Only(Two):
        def regions(self, image: Image.Image, image_id: str) -> np.ndarray:
            masks = super().regions(image, image_id)
            masks[1] = False
            return masks

    bottom_alone = whole.style(made_up(2), provider=Only()).probabilities
    for number, each in enumerate(found):
        assert each.style is not None
        head, top, _, _ = each.items
        assert np.abs(top.without - bottom_alone[number]).max() < 1e-5
        assert np.abs(head.without - each.style.probabilities[0]).max() < 1e-5, "it was not there before either"
        assert np.abs(top.without - each.style.probabilities[0]).max() > 1e-4


def test_models_of_other_kinds(found: list[Explanation]) -> None:
    general = explain(Embedder(tiny_model("random:2")), made_up(1), provider=BandRegions())[0]
    assert general.style is not None and general.style.streams[1] == "general" and len(general.items) == 4
    backbone = tiny_backbone()
    plain = tiny_style(backbone.channels, use_regions=False, encoder="none", gate="mean", auxiliary=False)
    model = Embedder(VisionModel(backbone, style=plain))
    (alone,) = explain(model, made_up(1))
    assert alone.items == () and alone.attributes is None
    page = explain_page(model, [alone])
    assert "Gates" in page and "Without an item" not in page
    joined = Embedder(VisionModel(backbone, style=tiny_style(backbone.channels, gate="concat")))
    assert "weighs nothing" in explain_page(joined, explain(joined, made_up(1)))
    with pytest.raises(InputError, match="nothing to explain"):
        explain(Embedder(backbone), made_up(1))
    with pytest.raises(InputError, match="second: "):
        explain(model, [made_up(1)[0], b"broken"], ["first", "second"])


def test_attributes_alone_make_a_page(whole: Embedder) -> None:
    model = Embedder(VisionModel(whole.backbone, whole.model.attributes))
    page = explain_page(model, explain(model, made_up(1)))
    assert "Attributes" in page and "colour" in page and "Gates" not in page and "How to read" not in page


def test_the_page_loads_nothing_and_escapes_names(whole: Embedder, found: list[Explanation]) -> None:
    page = explain_page(whole, found)
    assert "<img src=x" not in page and "&lt;img src=x onerror=alert(1)&gt; &amp; &quot;q&quot;.png" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page) and "<script" not in page
    assert "default-src 'none'" in page and "http" not in re.sub(r"<meta[^>]*>", "", page)
    for part in (
        "Gates",
        "Where each item speaks for",
        "Without an item",
        "Attributes",
        "mean over channels",
        "Grad-CAM",
    ):
        assert part in page
    assert page.count("not seen") >= 4, "two items of each picture are nowhere"


def test_heat_lies_over_a_grey_picture() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0] = 255
    heat = np.zeros((8, 8), np.float32)
    heat[:4] = 1
    shown = np.asarray(heated(pixels, heat)).astype(int)
    assert np.ptp(shown[5], axis=1).max() == 0, "grey where there is no heat"
    assert shown[0, 0, 0] - shown[0, 0, 2] > 50, "yellow where there is most"


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_the_page_in_a_browser(whole: Embedder, found: list[Explanation], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(explain_page(whole, found), encoding="utf-8")
    with browser(tmp_path) as shown:
        for width in (400, 800, 1200):
            shown.size(width, 900)
            shown.open((tmp_path / "page.html").as_uri())
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            boxes = shown.evaluate(
                "JSON.stringify([...document.querySelectorAll('.pic')].map(p => [p, p.querySelector('img')])"
                ".filter(([p, i]) => i).map(([p, i]) => [p.getBoundingClientRect(), i.getBoundingClientRect()])"
                ".map(([p, i]) => [p.width - i.width, p.height - i.height, i.width - i.height]))"
            )
            assert np.abs(json.loads(boxes)).max() < 1.5, "outlines lie where the picture is, and it is square"
        assert set(shown.requests) == {(tmp_path / "page.html").as_uri()} and shown.errors == []
        assert shown.evaluate("document.querySelectorAll('img[src=x]').length") == 0


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "one.png", tmp_path / NASTY]
    for file, picture in zip(files, made_up(2), strict=True):
        picture.save(file)
    page = tmp_path / "page.html"
    assert main(["explain", *map(str, files), "--model", str(folder), "--out", str(page)]) == 0
    out = capsys.readouterr().out
    assert "one.png: " in out and "2 pictures explained" in out and "<img src=x" not in page.read_text()
    assert main(["explain", str(files[0]), "--model", str(folder), "--out", str(page), "--regions", "foreground"]) == 0
    for words, problem in (
        ([str(tmp_path / "none.png"), "--model", str(folder), "--out", str(page)], "no such file"),
        ([str(files[0]), "--model", str(tmp_path / "none"), "--out", str(page)], "there is no such folder"),
        ([str(files[0]), "--model", str(folder), "--out", str(tmp_path)], "this is a folder"),
        ([str(tmp_path), "--model", str(folder), "--out", str(page)], "this is a folder; name its pictures"),
        ([str(files[0]), "--model", str(folder), "--out", str(page), "--regions", "catalog"], "`--catalog FOLDER`"),
        ([str(files[0]), "--model", str(folder), "--out", str(page), "--regions", "no"], "no such provider"),
    ):
        capsys.readouterr()
        assert main(["explain", *words]) == 2
        assert problem in capsys.readouterr().err


def test_pictures_of_a_catalogue(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_catalog(tmp_path / "drawn", DrawOptions(3, size=64, workers=1))
    ids = Catalog(tmp_path / "drawn").table("images", ["image_id"])["image_id"].to_pylist()
    words = ["--model", str(folder), "--out", str(tmp_path / "page.html"), "--catalog", str(tmp_path / "drawn")]
    capsys.readouterr()
    assert main(["explain", *ids[:2], *words, "--regions", "catalog"]) == 0
    assert f"{ids[1]}: " in capsys.readouterr().out
    assert main(["explain", "nobody", *words]) == 2
    assert "no picture under this id" in capsys.readouterr().err
    capsys.readouterr()
    assert main(["explain", ids[0], "nobody", *words]) == 1
    found = capsys.readouterr()
    assert "nobody: the catalogue has no picture under this id" in found.err and "1 picture explained" in found.out


def test_a_model_of_catalogue_regions_says_what_to_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model()
    assert model.style is not None
    model.style.regions = "catalog"
    folder = model.save(tmp_path / "model")
    draw_catalog(tmp_path / "drawn", DrawOptions(2, size=64, workers=1))
    made_up(1)[0].save(tmp_path / "one.png")
    words = ["--model", str(folder), "--out", str(tmp_path / "page.html")]
    capsys.readouterr()
    assert main(["explain", str(tmp_path / "one.png"), *words]) == 2
    said = capsys.readouterr().err
    assert "trained with regions of 'catalog'" in said and "--regions foreground" in said and "--catalog FOLDER" in said
    assert "provider=" not in said and "ForegroundBands" not in said
    assert main(["explain", str(tmp_path / "one.png"), *words, "--regions", "foreground"]) == 0
    source = CatalogRegions(tmp_path / "drawn")
    ids = source.catalog.table("images", ["image_id"])["image_id"].to_pylist()
    assert main(["explain", ids[0], *words, "--catalog", str(tmp_path / "drawn")]) == 0
    again, shown = Embedder.load(folder), [source.catalog.image_bytes(ids)[name] for name in ids]
    with pytest.raises(InputError, match=r"(?s)provider=\"foreground\".*ids="):
        again.style(shown)
    with pytest.raises(InputError, match=r"(?s)no such picture in the catalogue.*found: 0.*ids="):
        again.style(shown, provider=source)
    assert again.style(shown, ids=ids, provider=source).probabilities.shape == (2, 3)


def test_a_broken_picture_leaves_the_others(
    whole: Embedder, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "one.png", tmp_path / "broken.png", tmp_path / "two.png"]
    for file, picture in zip(files, made_up(3), strict=True):
        picture.save(file)
    files[1].write_bytes(files[1].read_bytes()[:200])
    page = tmp_path / "page.html"
    words = ["--model", str(folder), "--out", str(page)]
    capsys.readouterr()
    assert main(["explain", *map(str, files), str(tmp_path / "gone.png"), *words]) == 1
    found = capsys.readouterr()
    assert "2 pictures explained" in found.out
    lines = found.err.splitlines()
    assert len(lines) == 2 and str(files[1]) in lines[0]
    assert lines[1] == f"fashionkit: {tmp_path / 'gone.png'}: no such file"
    assert page.read_text().count("This picture could not be read") == 2 and "2 could not be read" in page.read_text()
    page.unlink()
    assert main(["explain", str(files[1]), str(tmp_path / "gone.png"), *words]) == 2
    said = capsys.readouterr().err
    assert str(files[1]) in said and "gone.png: no such file" in said and not page.exists()
    one, broken = explain(whole, [made_up(1)[0], b"x"], on_error="skip")
    assert one.style is not None and not one.problem and broken.style is None and broken.problem
    with pytest.raises(InputError, match="cannot treat broken pictures so"):
        explain(whole, made_up(1), on_error="ignore")
