"""Attribute heads: targets that know what is unknown, losses against plain loops, calibration against known answers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fashionkit.catalog.schema import ABSENT, NOT_VISIBLE, PRESENT, UNKNOWN
from fashionkit.metrics.classification import calibration_error, negative_log_likelihood
from fashionkit.models.attribute_loss import Balance, attribute_loss, class_weights
from fashionkit.models.attributes import STATE_NAMES, AttributeHeads, AttributeOutput, AttributeSpec
from fashionkit.models.calibration import COLDEST, HOTTEST, Calibration, predict
from fashionkit.models.targets import MASKED, Statement, Targets

B, D = 6, 5
TYPE = AttributeSpec("type", ("shirt", "dress", "shoe"))  # a name that a module has for itself
DETAIL = AttributeSpec("detail.kind", ("bow", "zip"), exclusive=False)  # and one that no module may have
SPECS = (TYPE, DETAIL)
ROWS: list[dict[str, Statement]] = [
    {"type": Statement(PRESENT, ("dress",)), "detail.kind": Statement(PRESENT, ("zip",), complete=True)},
    {"type": Statement(PRESENT, ("shoe",)), "detail.kind": Statement(PRESENT, ("zip",))},
    {"type": Statement(PRESENT), "detail.kind": Statement(PRESENT, (), False, ("bow",))},
    {"type": Statement(NOT_VISIBLE), "detail.kind": Statement(NOT_VISIBLE)},
    {"type": Statement(ABSENT), "detail.kind": Statement(ABSENT), "fit": Statement(PRESENT, ("loose",))},
    {"type": Statement(UNKNOWN)},
]


def build(hidden: int = 0, dropout: float = 0.0) -> AttributeHeads:
    return AttributeHeads(D, SPECS, hidden, dropout)


def alone(logits: Tensor, state: Tensor | None = None) -> AttributeOutput:
    """What a network of one attribute named "x" says."""
    return AttributeOutput({"x": logits}, {"x": torch.zeros(len(logits), 3) if state is None else state})


def targets_alone(values: Tensor, state: Tensor | None = None) -> Targets:
    return Targets({"x": values}, {"x": torch.full((len(values),), MASKED) if state is None else state})


def named(values: int, exclusive: bool = True) -> tuple[AttributeSpec]:
    return (AttributeSpec("x", tuple(f"v{i}" for i in range(values)), exclusive),)


def test_targets_say_no_only_where_the_catalogue_does() -> None:
    targets, m = Targets.encode(SPECS, ROWS), MASKED
    assert targets.values["type"].tolist() == [1, 2, m, m, m, m]
    assert targets.values["detail.kind"].tolist() == [[0, 1], [m, 1], [0, m], [m, m], [m, m], [m, m]]
    assert [STATE_NAMES[i] if i != m else None for i in targets.state["type"].tolist()] == [
        PRESENT, PRESENT, PRESENT, NOT_VISIBLE, ABSENT, None,
    ]  # fmt: skip
    assert targets.state["detail.kind"].tolist() == [0, 0, 0, 1, 2, m]


def test_some_rows_of_the_targets() -> None:
    whole = Targets.encode(SPECS, ROWS)
    for rows, same in ((slice(1, 3), ROWS[1:3]), (torch.tensor([4, 0]), [ROWS[4], ROWS[0]])):
        part, expected = whole[rows].to("cpu"), Targets.encode(SPECS, same)
        for name in ("type", "detail.kind"):
            assert torch.equal(part.values[name], expected.values[name])
            assert torch.equal(part.state[name], expected.state[name])


@pytest.mark.parametrize("hidden", [0, 4])
def test_shapes_and_single_rows(hidden: int) -> None:
    model, x = build(hidden, 0.5).eval(), torch.randn(B, D)
    output = model(x)
    assert {name: tuple(z.shape) for name, z in output.values.items()} == {"type": (B, 3), "detail.kind": (B, 2)}
    assert {name: tuple(z.shape) for name, z in output.state.items()} == {"type": (B, 3), "detail.kind": (B, 3)}
    for i in range(B):
        torch.testing.assert_close(model(x[i : i + 1]).values["type"][0], output.values["type"][i])


def test_the_configuration_builds_the_same_network() -> None:
    model = build(4, 0.25).eval()
    again = AttributeHeads.from_dict(json.loads(json.dumps(model.to_dict()))).eval()
    assert again.specs == model.specs and again.to_dict() == model.to_dict()
    again.load_state_dict(model.state_dict())
    x = torch.randn(B, D)
    assert torch.equal(model(x).values["detail.kind"], again(x).values["detail.kind"])


def slow_loss(logits: Tensor, target: Any, weights: Any, exclusive: bool) -> float:
    """Row by row, value by value, from the definition."""
    total, known = 0.0, 0
    for z, t in zip(logits.detach().double().numpy(), target.tolist(), strict=True):
        if exclusive and t != MASKED:
            total -= weights[t] * math.log(np.exp(z[t]) / np.exp(z).sum())
            known += 1
        elif not exclusive:
            for v, yes in enumerate(t):
                if yes != MASKED:
                    p = 1 / (1 + math.exp(-z[v]))
                    total -= weights[v][yes] * math.log(p if yes else 1 - p)
                    known += 1
    return total / known if known else 0.0


@pytest.mark.parametrize("balanced", [False, True])
def test_losses_are_those_of_a_plain_loop(balanced: bool) -> None:
    output, targets = build()(torch.randn(B, D)), Targets.encode(SPECS, ROWS)
    balance = Balance.of(SPECS, targets, 0.9) if balanced else None
    found = attribute_loss(output, targets, SPECS, balance, state_weight=0.5)
    assert list(found) == ["loss", "values/type", "state/type", "values/detail.kind", "state/detail.kind"]
    total = 0.0
    for spec in SPECS:
        of_values = balance.values[spec.name].tolist() if balance else [[1, 1]] * 2 if not spec.exclusive else [1] * 3
        of_state = balance.state[spec.name].tolist() if balance else [1] * 3
        values = slow_loss(output.values[spec.name], targets.values[spec.name], of_values, spec.exclusive)
        state = slow_loss(output.state[spec.name], targets.state[spec.name], of_state, True)
        assert found[f"values/{spec.name}"].item() == pytest.approx(values, rel=1e-5)
        assert found[f"state/{spec.name}"].item() == pytest.approx(state, rel=1e-5)
        total += (values + 0.5 * state) / len(SPECS)
    assert found["loss"].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("balanced", [False, True])
def test_what_is_unknown_has_exactly_no_gradient(balanced: bool) -> None:
    logits = {spec.name: torch.randn(B, len(spec.values), requires_grad=True) for spec in SPECS}
    states = {spec.name: torch.randn(B, 3, requires_grad=True) for spec in SPECS}
    targets = Targets.encode(SPECS, ROWS)
    balance = Balance.of(SPECS, targets) if balanced else None
    attribute_loss(AttributeOutput(logits, states), targets, SPECS, balance)["loss"].backward()
    for name in ("type", "detail.kind"):
        for tensor, target in ((logits[name], targets.values[name]), (states[name], targets.state[name])):
            known = (target != MASKED) if target.ndim == 2 else (target != MASKED)[:, None].expand_as(tensor)
            assert tensor.grad is not None
            assert (tensor.grad[~known] == 0).all()
            assert (tensor.grad[known] != 0).all()


def test_unknown_rows_change_no_loss() -> None:
    x, targets = torch.randn(B, D), Targets.encode(SPECS, [*ROWS[:2], *[{}] * 4])
    model = build()
    few = attribute_loss(model(x[:2]), targets[:2], SPECS)
    many = attribute_loss(model(x), targets, SPECS)
    assert {k: v.item() for k, v in few.items()} == pytest.approx({k: v.item() for k, v in many.items()})


def test_a_batch_that_knows_nothing_goes_back_all_the_same() -> None:
    model = build(3)
    found = attribute_loss(model(torch.randn(B, D)), Targets.encode(SPECS, [{}] * B), SPECS)
    assert all(part.item() == 0 for part in found.values())
    found["loss"].backward()
    for parameter in model.parameters():
        assert parameter.grad is not None and (parameter.grad == 0).all()


def test_class_weights_are_those_of_the_formula() -> None:
    counts, beta, cap = [1000, 100, 10, 0], 0.99, 8.0
    effective = [(1 - beta**n) / (1 - beta) for n in counts]
    ratio = [min(cap, effective[0] / e) if e else cap for e in effective]
    scale = sum(counts) / sum(r * n for r, n in zip(ratio, counts, strict=True))
    weights = class_weights(torch.tensor(counts), beta, cap)
    assert weights.tolist() == pytest.approx([r * scale for r in ratio])
    assert (weights * torch.tensor(counts)).sum().item() == pytest.approx(sum(counts))


def test_class_weights_at_their_ends() -> None:
    assert class_weights(torch.tensor([90, 10]), beta=0.0).tolist() == pytest.approx([1, 1])
    by_frequency = class_weights(torch.tensor([90, 10]), beta=1 - 1e-9, cap=100)
    assert by_frequency.tolist() == pytest.approx([100 / 180, 5], rel=1e-4)
    assert class_weights(torch.tensor([90, 10]), cap=1.0).tolist() == pytest.approx([1, 1])
    assert class_weights(torch.zeros(2, 3)).tolist() == [[1] * 3] * 2
    many = class_weights(torch.tensor([[90, 10], [50, 50]]))
    assert torch.equal(many[0], class_weights(torch.tensor([90, 10]))) and many[1].tolist() == [1, 1]


def train(balance: Balance | None, spec: tuple[AttributeSpec], values: Tensor, steps: int = 150) -> Tensor:
    """The logits that a head without any evidence ends up with: those of a constant vector."""
    model = AttributeHeads(1, spec, dropout=0)
    x, targets = torch.ones(len(values), 1), targets_alone(values)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        attribute_loss(model(x), targets, spec, balance)["loss"].backward()
        optimizer.step()
    return model(x).values["x"].detach()


@pytest.mark.parametrize("exclusive", [True, False])
def test_balance_makes_a_rare_class_as_likely_as_a_frequent_one_and_calibration_takes_it_back(exclusive: bool) -> None:
    values = (torch.arange(100) < 10).long()  # one in ten
    values = values if exclusive else values[:, None]
    spec = named(2 if exclusive else 1, exclusive)
    even = Balance.of(spec, targets_alone(values), beta=1 - 1e-9, cap=100)
    capped = Balance.of(spec, targets_alone(values), beta=1 - 1e-9, cap=3)
    for balance, odds in ((None, 1 / 9), (even, 1.0), (capped, 3 / 9)):
        logits = train(balance, spec, values)
        raw = predict(alone(logits), spec)["x"].probability[0, -1].item()
        assert raw == pytest.approx(odds / (1 + odds), abs=0.01)
        fitted = Calibration.fit(alone(logits), targets_alone(values), spec, balance)
        honest = predict(alone(logits), spec, fitted)["x"].probability[0, -1].item()
        assert honest == pytest.approx(0.1, abs=0.01)


def drawn(exclusive: bool, temperature: float, n: int = 10_000) -> tuple[Tensor, Tensor]:
    """Logits that are too sure by a known factor, and targets that follow the honest ones."""
    generator = torch.Generator().manual_seed(1)
    honest = torch.randn(n, 3, generator=generator) * 2
    if exclusive:
        target = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
    else:
        target = (torch.rand(n, 3, generator=generator) < honest.sigmoid()).long()
    target[::7] = MASKED
    return honest * temperature, target


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("exclusive", [True, False])
def test_calibration_finds_a_known_temperature(exclusive: bool, temperature: float) -> None:
    logits, target = drawn(exclusive, temperature)
    spec, state = named(3, exclusive), torch.arange(len(target)) % 3
    output, targets = alone(logits, torch.randn(len(target), 3)), targets_alone(target, state)
    found = Calibration.fit(output, targets, spec)
    assert found.temperature["values/x"] == pytest.approx(temperature, rel=0.05)
    assert found.temperature["state/x"] == pytest.approx(HOTTEST), "states that nothing tells of"
    assert found == Calibration.fit(output, targets, spec)
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_calibration_mends_the_numbers_and_changes_no_answer() -> None:
    logits, target = drawn(True, 3.0)
    spec, known = named(3), (target != MASKED)
    fitted = Calibration.fit(alone(logits), targets_alone(target), spec)
    raw, mended = (predict(alone(logits), spec, c)["x"] for c in (None, fitted))
    assert torch.equal(raw.values, mended.values)
    truth = target[known].numpy()
    errors, costs = [], []
    for each in (raw, mended):
        given = each.probability[known].double().numpy()
        errors.append(calibration_error(given.max(1), given.argmax(1) == truth))
        costs.append(negative_log_likelihood(truth, given))
    assert errors[0] > 0.1 and errors[1] < 0.015
    assert costs[1] < costs[0]
    near = [Calibration({"values/x": fitted.temperature["values/x"] * f}) for f in (0.97, 1.03)]
    for other in near:
        given = predict(alone(logits), spec, other)["x"].probability[known].double().numpy()
        assert negative_log_likelihood(truth, given) > costs[1]


def test_too_few_or_flawless_rows_give_no_wild_temperature() -> None:
    spec, logits = named(2), torch.eye(2).repeat(20, 1)
    right = torch.arange(40) % 2
    assert Calibration.fit(alone(logits), targets_alone(right), spec).temperature["values/x"] == pytest.approx(COLDEST)
    few = right.clone()
    few[9:] = MASKED
    assert Calibration.fit(alone(logits), targets_alone(few), spec).temperature == {"values/x": 1, "state/x": 1}
    assert Calibration.fit(alone(logits * 0), targets_alone(right), spec).temperature["values/x"] == 1


def test_predictions() -> None:
    ln = math.log
    values = {
        "type": torch.tensor([[0, ln(2), 0], [ln(6), ln(3), 0]]),
        "detail.kind": torch.tensor([[ln(3), 0], [-9, 9.0]]),
    }
    state = {"type": torch.tensor([[9.0, 0, 0], [0, 9, 0]]), "detail.kind": torch.tensor([[9.0, 0, 0], [0, 0, 9]])}
    found = predict(AttributeOutput(values, state), SPECS)
    kind, detail = found["type"], found["detail.kind"]
    torch.testing.assert_close(kind.probability, torch.tensor([[0.25, 0.5, 0.25], [0.6, 0.3, 0.1]]))
    torch.testing.assert_close(detail.probability[0], torch.tensor([0.75, 0.5]))
    assert kind.values.tolist() == [[False, True, False], [False] * 3], "nothing holds that is not visible"
    assert detail.values.tolist() == [[True, True], [False, False]], "nor what does not apply"
    assert [STATE_NAMES[i] for i in (*kind.state, *detail.state)] == [PRESENT, NOT_VISIBLE, PRESENT, ABSENT]
    torch.testing.assert_close(kind.state_probability.sum(1), torch.ones(2))
    assert predict(AttributeOutput(values, state), SPECS, threshold=0.6)["detail.kind"].values[0].tolist() == [
        True,
        False,
    ]


def test_it_learns_a_world_in_which_the_vector_tells_all() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(800, D, generator=generator)
    rows: list[dict[str, Statement]] = []
    for v in x.tolist():
        if v[4] > 1:
            rows.append({"type": Statement(NOT_VISIBLE), "detail.kind": Statement(ABSENT)})
            continue
        details = [name for name, a in zip(DETAIL.values, v[2:4], strict=True) if a > 0]
        kind = TYPE.values[0 if v[0] > 0 else 1 + (v[1] > 0)]
        rows.append({"type": Statement(PRESENT, (kind,)), "detail.kind": Statement(PRESENT, details, True)})
    targets, model = Targets.encode(SPECS, rows), build(16)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    balance = Balance.of(SPECS, targets[:600])
    for _ in range(150):
        optimizer.zero_grad()
        attribute_loss(model(x[:600]), targets[:600], SPECS, balance)["loss"].backward()
        optimizer.step()
    found, rest = predict(model.eval()(x[600:]), SPECS), targets[600:]
    for spec in SPECS:
        state, applies = rest.state[spec.name], rest.state[spec.name] == 0
        assert (found[spec.name].state == state).float().mean() > 0.9
        target = rest.values[spec.name][applies]
        given = found[spec.name].probability[applies]
        right = given.argmax(1) == target if spec.exclusive else (given > 0.5) == (target == 1)
        assert right.float().mean() > 0.9


def shared_loss(**changes: Any) -> None:
    """Losses of good inputs, but for the changes."""
    output, targets = build()(torch.randn(B, D)), Targets.encode(SPECS, ROWS)
    targets = Targets({**targets.values, **changes.get("values", {})}, {**targets.state, **changes.get("state", {})})
    attribute_loss(output, targets, SPECS, state_weight=changes.get("state_weight", 1.0))


def encode(**said: Any) -> None:
    Targets.encode(SPECS, [{name.replace("_", "."): statement for name, statement in said.items()}])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: AttributeSpec("x", ("a",)),
        lambda: AttributeSpec("x", (), exclusive=False),
        lambda: AttributeSpec("x", ("a", "a")),
        lambda: AttributeSpec("", ("a", "b")),
        lambda: AttributeSpec("x", "ab"),  # type: ignore[arg-type]
        lambda: AttributeSpec("x", (True, False)),  # type: ignore[arg-type]
        lambda: AttributeHeads(D, []),
        lambda: AttributeHeads(D, [TYPE, TYPE]),
        lambda: AttributeHeads(0, SPECS),
        lambda: AttributeHeads(D, SPECS, dropout=1),
        lambda: AttributeHeads.from_dict({**build().to_dict(), "width": 3}),
        lambda: AttributeHeads.from_dict({"dim": 3}),
        lambda: build()(torch.randn(B, D + 1)),
        lambda: build()(torch.randn(D)),
        lambda: build()(torch.ones(B, D, dtype=torch.int64)),
        lambda: encode(type=Statement("maybe")),
        lambda: encode(type=Statement(PRESENT, ("boot",))),
        lambda: encode(type=Statement(NOT_VISIBLE, ("shoe",))),
        lambda: encode(type=Statement(PRESENT, ("shoe", "dress"))),
        lambda: encode(type=Statement(PRESENT, (), False, ("shoe",))),
        lambda: encode(detail_kind=Statement(PRESENT, ("bow",), False, ("bow",))),
        lambda: class_weights(torch.ones(2), beta=1.0),
        lambda: class_weights(torch.ones(2), cap=0.5),
        lambda: shared_loss(state_weight=-1),
        lambda: shared_loss(state_weight=float("nan")),
        lambda: shared_loss(values={"type": torch.zeros(B)}),
        lambda: shared_loss(values={"type": torch.full((B,), 3)}),
        lambda: shared_loss(values={"type": torch.full((B,), -2)}),
        lambda: shared_loss(values={"detail.kind": torch.zeros(B, dtype=torch.int64)}),
        lambda: shared_loss(state={"type": torch.zeros(B + 1, dtype=torch.int64)}),
        lambda: predict(build()(torch.randn(B, D)), SPECS, threshold=1.5),
        lambda: Calibration.fit(alone(torch.full((20, 2), torch.nan)), targets_alone(torch.arange(20) % 2), named(2)),
        lambda: Calibration.fit(alone(torch.zeros(20, 2)), targets_alone(torch.full((20,), 2)), named(2)),
        lambda: Calibration.from_dict({"temperature": {"values/x": 0.0}}),
        lambda: Calibration.from_dict({"temperatures": {}}),
    ],
)
def test_misuse_raises(wrong: Any) -> None:
    with pytest.raises(ValueError):
        wrong()


def test_errors_name_the_row_and_what_is_allowed() -> None:
    with pytest.raises(
        ValueError, match=r"row 1, column 'type': no such value\n  found: dres\n  nearest allowed: 'dress'"
    ):
        encode(type=Statement(PRESENT, ("dres",)))
