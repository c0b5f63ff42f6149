"""IRSN over all its gates and switches, absent items, and a made-up world whose rule lies in one region."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fashionkit.models.irsn import ENCODERS, GATES, Irsn, IrsnConfig, IrsnOutput, irsn_loss

B, C, D, K, E, N = 3, 6, 5, 4, 8, 7
TINY = IrsnConfig(classes=N, channels=C, general=D, items=K, width=E, heads=2)


def inputs(batch: int = B, side: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """A map, bands as masks, and a general vector."""
    masks = torch.zeros(batch, K, 20, 12, dtype=torch.bool)
    for k in range(K):
        masks[:, k, 5 * k : 5 * k + 5] = True
    return torch.randn(batch, C, side, 4), masks, torch.randn(batch, D)


def build(**changes: Any) -> Irsn:
    return Irsn(replace(TINY, **changes)).eval()


def run(model: Irsn, feature_map: Tensor, masks: Tensor, general: Tensor) -> IrsnOutput:
    output = model(feature_map, masks, general)
    assert isinstance(output, IrsnOutput)
    return output


SWITCHES = [
    dict(zip(("use_map", "use_general", "use_regions"), on, strict=True))
    for on in itertools.product((True, False), repeat=3)
    if any(on)
]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("gate", GATES)
def test_shapes_over_all_gates_and_switches(gate: str, encoder: str) -> None:
    for switches, soft, denominator in itertools.product(SWITCHES, (False, True), ("mask", "map")):
        model = build(gate=gate, encoder=encoder, soft_masks=soft, denominator=denominator, **switches)
        s = len(model.config.streams)
        assert s == switches["use_map"] + switches["use_general"] + K * switches["use_regions"]
        output = run(model, *inputs())
        assert output.logits.shape == (B, N) and output.style.shape == (B, E)
        assert output.gates.shape == (B, s, E) and output.held.shape == (B, s) and output.held.all()
        assert (output.aux_map is not None) == switches["use_map"]
        assert (output.aux_items is not None) == switches["use_regions"]
        if gate in ("softmax", "scalar", "mean"):
            torch.testing.assert_close(output.gates.sum(dim=1), torch.ones(B, E))
        if gate == "scalar":
            assert (output.gates == output.gates[:, :, :1]).all()
        losses = irsn_loss(output, torch.tensor([0, 3, N - 1]))
        assert all(loss.shape == () and loss.isfinite() for loss in losses.values())


def test_what_is_not_used_may_be_left_out() -> None:
    feature_map, masks, general = inputs()
    assert build(use_regions=False)(feature_map, None, general).logits.shape == (B, N)
    assert build(use_general=False)(feature_map, masks).logits.shape == (B, N)
    assert build(general=0)(feature_map, masks).gates.shape == (B, 1 + K, E)
    output = build(auxiliary=False)(feature_map, masks, general)
    assert output.aux_map is output.aux_items is None
    assert set(irsn_loss(output, torch.zeros(B, dtype=torch.int64))) == {"loss", "style"}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("gate", GATES)
def test_an_absent_item_changes_nothing_beyond_its_mask(gate: str, encoder: str) -> None:
    model = build(gate=gate, encoder=encoder, use_map=False, least=0.01)
    feature_map, masks, general = inputs()
    gone = masks.clone()
    gone[0, 3] = False
    output = run(model, feature_map, gone, general)
    assert output.held[0].tolist() == [True, True, True, True, False]
    assert not output.gates[0, 4].any()
    # features there, and a mask below the least area, do not matter any more
    other, speck = feature_map.clone(), gone.clone()
    other[0, :, -1] += 5
    speck[0, 0, 15:] = speck[0, 1, 15:] = speck[0, 2, 15:] = False  # nobody else looks there
    speck[0, 3, 19, :2] = True
    again = run(model, other, speck, general)
    torch.testing.assert_close(again.logits[0], output.logits[0])
    torch.testing.assert_close(again.logits[1:], run(model, feature_map, masks, general).logits[1:])


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("alone", [False, True])
def test_all_items_absent_works(gate: str, encoder: str, alone: bool) -> None:
    model = build(gate=gate, encoder=encoder, use_map=not alone, use_general=not alone)
    feature_map, masks, general = inputs()
    masks[1] = False
    output = run(model, feature_map, masks, general)
    assert not output.held[1, -K:].any() and output.logits.isfinite().all() and output.gates.isfinite().all()
    losses = irsn_loss(output, torch.zeros(B, dtype=torch.int64))
    losses["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_absent_items_are_not_taught() -> None:
    model = build()
    feature_map, masks, general = inputs()
    masks[:, 2] = False
    output = run(model, feature_map, masks, general)
    losses = irsn_loss(output, torch.zeros(B, dtype=torch.int64), smoothing=0)
    assert output.aux_items is not None
    wanted = sum(-output.aux_items[:, k].log_softmax(1)[:, 0].mean() for k in (0, 1, 3))
    torch.testing.assert_close(losses["aux_items"], wanted)
    total = losses["style"] + 0.3 * losses["aux_items"] + 0.3 * losses["aux_map"]
    torch.testing.assert_close(losses["loss"], total)
    losses["aux_items"].backward()
    heads = [head.weight.grad for head in model.item_heads]
    assert [bool(grad is not None and grad.any()) for grad in heads] == [True, True, False, True]


def permuted(model: Irsn, order: list[int]) -> Irsn:
    """The same network with its items in another order."""
    twin, k = Irsn(model.config).eval(), model.config.items
    first = len(model.config.streams) - k
    streams = [*range(first), *(first + i for i in order)]
    columns = [s * E + e for s in streams for e in range(E)]
    state = dict(model.state_dict())
    for name, tensor in model.state_dict().items():
        head, _, rest = name.partition(".")
        if head in ("from_items", "item_heads"):
            i, _, rest = rest.partition(".")
            state[name] = model.state_dict()[f"{head}.{order[int(i)]}.{rest}"]
        elif name in ("absent", "encoder.item"):
            state[name] = tensor[order]
        elif name in ("fusion.look.weight", "fusion.mlp.0.weight"):
            state[name] = tensor[:, columns]
        elif name.startswith("fusion.weigh."):
            state[name] = tensor[streams if model.config.gate == "scalar" else columns]
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("gate", GATES)
def test_permuting_the_items_permutes_the_gates(gate: str, encoder: str) -> None:
    model, order = build(gate=gate, encoder=encoder), [2, 0, 3, 1]
    feature_map, masks, general = inputs()
    masks[1, 2] = False
    one = run(model, feature_map, masks, general)
    two = run(permuted(model, order), feature_map, masks[:, order], general)
    streams = [0, 1, *(2 + i for i in order)]
    torch.testing.assert_close(two.gates, one.gates[:, streams])
    torch.testing.assert_close(two.logits, one.logits)
    assert one.aux_items is not None and two.aux_items is not None
    torch.testing.assert_close(two.aux_items, one.aux_items[:, order])


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("gate", GATES)
def test_gradient_reaches_what_should_learn(gate: str, encoder: str) -> None:
    model = build(gate=gate, encoder=encoder)
    feature_map, masks, general = inputs()
    masks[0] = False
    feature_map.requires_grad_()
    irsn_loss(run(model, feature_map, masks, general), torch.tensor([0, 1, 2]))["loss"].backward()
    assert feature_map.grad is not None and feature_map.grad.abs().sum(1).all()
    for name, parameter in model.named_parameters():
        # weights that are equal leave nothing to learn from the absence of an item; nobody asks why
        assert parameter.grad is not None and (parameter.grad.any() or (name == "absent" and gate == "mean")), name


def test_a_picture_alone_gets_what_it_gets_in_a_batch() -> None:
    model, (feature_map, masks, general) = build(), inputs()
    masks[1, :2] = False
    together = run(model, feature_map, masks, general).logits
    alone = [run(model, feature_map[i : i + 1], masks[i : i + 1], general[i : i + 1]).logits for i in range(B)]
    torch.testing.assert_close(torch.cat(alone), together)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_half_precision_runs(encoder: str) -> None:
    model, (feature_map, masks, general) = build(encoder=encoder), inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = run(model, feature_map, masks, general)
        irsn_loss(output, torch.zeros(B, dtype=torch.int64))["loss"].backward()
    torch.testing.assert_close(output.gates.float().sum(1), torch.ones(B, E), atol=0.02, rtol=0)


def test_the_config_is_plain() -> None:
    assert IrsnConfig(**asdict(TINY)) == TINY
    assert {type(value) for value in asdict(TINY).values()} <= {int, float, str, bool}
    assert TINY.streams == ("map", "general", "item_0", "item_1", "item_2", "item_3")


def world(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, masks and labels: four patterns lie in four items, and the pattern in item 1 is the label.

    Every map has the same four patterns on areas of one size, so its mean tells nothing; and items lie in another
    quarter of each picture, so their place tells nothing either.
    """
    make = torch.Generator().manual_seed(seed)
    patterns = torch.randn(K, C, generator=torch.Generator().manual_seed(99))
    which = torch.rand(count, K, generator=make).argsort(1)  # the pattern of each item
    place = torch.rand(count, K, generator=make).argsort(1)  # the quarter of each item
    feature_map, masks = torch.zeros(count, C, 4, 4), torch.zeros(count, K, 16, 16, dtype=torch.bool)
    for i, k in itertools.product(range(count), range(K)):
        y, x = divmod(int(place[i, k]), 2)
        feature_map[i, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = patterns[which[i, k], :, None, None]
        masks[i, k, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = True
    return feature_map, masks, which[:, 1]


def accuracy(config: IrsnConfig, shuffle: bool) -> float:
    """Of new pictures, after some steps of training; `shuffle` gives each picture the masks of the one before it."""
    model = Irsn(config)
    feature_map, masks, label = world(128, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        output = model(feature_map, masks.roll(1, 0) if shuffle else masks)
        irsn_loss(output, label)["loss"].backward()
        optimizer.step()
    feature_map, masks, label = world(200, seed=2)
    with torch.no_grad():
        found = model.eval()(feature_map, masks.roll(1, 0) if shuffle else masks).logits.argmax(1)
    return float((found == label).float().mean())


@pytest.mark.parametrize(("gate", "encoder"), [*((gate, "none") for gate in GATES), ("softmax", "block")])
def test_it_learns_a_rule_that_lies_in_a_region(gate: str, encoder: str) -> None:
    config = IrsnConfig(classes=K, channels=C, width=16, heads=2, gate=gate, encoder=encoder)  # type: ignore[arg-type]
    assert accuracy(config, shuffle=False) > 0.95


@pytest.mark.parametrize("encoder", ENCODERS)
def test_it_cannot_with_the_masks_of_other_pictures_or_without(encoder: str) -> None:
    config = IrsnConfig(classes=K, channels=C, width=16, heads=2, encoder=encoder)  # type: ignore[arg-type]
    assert accuracy(config, shuffle=True) < 0.45
    assert accuracy(replace(config, use_regions=False), shuffle=False) < 0.45


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gate": "tanh"}, "no such gate"),
        ({"encoder": "lstm"}, "no such encoder"),
        ({"denominator": "area"}, "no such denominator"),
        ({"classes": 0}, "1 or more"),
        ({"dropout": 1.0}, "out of range"),
        ({"threshold": 0.0}, "out of range"),
        ({"heads": 3}, "heads"),
        ({"use_map": False, "use_regions": False, "general": 0}, "nothing to look at"),
    ],
)
def test_a_wrong_config_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **changes)


def test_wrong_inputs_are_refused() -> None:
    model, (feature_map, masks, general) = build(), inputs()
    bad_map, bad_general = feature_map.clone(), general.clone()
    bad_map[0, 0, 0, 0], bad_general[1, 1] = torch.nan, torch.inf
    for found, words in [
        ((feature_map[:, :4], masks, general), "the map is"),
        ((feature_map[0], masks, general), "the map is"),
        ((feature_map, None, general), "masks are"),
        ((feature_map, masks[:, :2], general), "masks are"),
        ((feature_map, masks[:2], general), "masks are"),
        ((feature_map, masks.float() * 2, general), "within 0..1"),
        ((feature_map, masks.float() * torch.nan, general), "within 0..1"),
        ((feature_map, masks.long(), general), "bool, or floats"),
        ((feature_map, masks, None), "the general vector is"),
        ((feature_map, masks, general[:, :2]), "the general vector is"),
        ((bad_map, masks, general), "the map holds"),
        ((feature_map, masks, bad_general), "the general vector holds"),
    ]:
        with pytest.raises(ValueError, match=words):
            model(*found)


def test_wrong_targets_are_refused() -> None:
    output = run(build(), *inputs())
    target = torch.zeros(B, dtype=torch.int64)
    for wrong, words in [(target[:2], "targets are"), (target.float(), "targets are"), (target + N, "within 0..6")]:
        with pytest.raises(ValueError, match=words):
            irsn_loss(output, wrong)
    for settings in ({"smoothing": 1.5}, {"aux_items": -1.0}, {"aux_map": float("nan")}):
        with pytest.raises(ValueError, match="out of range"):
            irsn_loss(output, target, **settings)
