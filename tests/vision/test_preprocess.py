"""The facts that travel with weights: round trips, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fashionkit.tables import InputError
from fashionkit.vision.preprocess import Preprocess, from_open_clip, from_timm, preprocess_beside

HALF = Preprocess(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 0.875)
TIMM = {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "crop_pct": 0.875}


def test_it_survives_json_with_and_without_the_resize() -> None:
    values = json.loads(json.dumps(HALF.to_dict()))
    assert Preprocess.from_dict(values) == HALF
    assert Preprocess.from_dict({key: value for key, value in values.items() if key != "resize"}) == HALF
    assert hash(HALF) == hash(Preprocess.from_dict(values))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 0), ("size", 224.0), ("size", True), ("size", "224"), ("size", 10**6),
        ("mean", (0.5, 0.5)), ("mean", 0.5), ("mean", "0.5"), ("mean", (0.5, 0.5, None)), ("mean", (0.5, 0.5, True)),
        ("mean", (0.5, 0.5, float("nan"))), ("std", (0.5, 0.5, 0.0)), ("std", (0.5, 0.5, float("inf"))),
        ("interpolation", "cubic"), ("interpolation", None), ("crop", 0), ("crop", 1.1), ("crop", float("nan")),
        ("crop", None), ("resize", "fit"),
    ],
)  # fmt: skip
def test_wrong_values_are_named(key: str, value: object) -> None:
    with pytest.raises(InputError, match=f"column '{key}'"):
        Preprocess.from_dict(HALF.to_dict() | {key: value})


def test_unknown_and_missing_keys_are_named() -> None:
    with pytest.raises(InputError, match="nearest allowed: 'mean'"):
        Preprocess.from_dict(HALF.to_dict() | {"means": 1})
    with pytest.raises(InputError, match="lacks std, crop"):
        Preprocess.from_dict({key: HALF.to_dict()[key] for key in ("size", "mean", "interpolation")})
    with pytest.raises(InputError, match="no mapping"):
        Preprocess.from_dict([1, 2])  # type: ignore[arg-type]


def test_the_words_of_both_libraries_are_read() -> None:
    assert from_timm(TIMM) == HALF
    assert from_timm(TIMM | {"crop_mode": "squash"}).resize == "squash"
    clip = from_open_clip({"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}, (256, 256))
    assert clip == Preprocess(256, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0, "squash")
    assert from_open_clip({}, 224).mean == (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("config.json", {"preprocess": HALF.to_dict()}, HALF),
        ("config.json", {"architecture": "x", "pretrained_cfg": TIMM}, HALF),
        ("config.json", {"hidden_size": 3}, None),
        ("config.json", [], None),
        (
            "open_clip_config.json",
            {"model_cfg": {"vision_cfg": {"image_size": 224}}, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}},
            Preprocess(224, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0),
        ),
    ],
)
def test_a_config_beside_weights_is_read(tmp_path: Path, name: str, config: Any, expected: Preprocess | None) -> None:
    (tmp_path / name).write_text(json.dumps(config), encoding="utf-8")
    assert preprocess_beside(tmp_path) == expected


@pytest.mark.parametrize(
    "text",
    ["{", "\xff", '{"preprocess": 3}', '{"pretrained_cfg": {}}', '{"pretrained_cfg": {"input_size": 3}}',
     '{"preprocess_cfg": {}, "model_cfg": []}'],
)  # fmt: skip
def test_a_wrong_config_names_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.json"):
        preprocess_beside(tmp_path)
