"""Attention in bfloat16 on a CPU goes another way than in float32, to the same place."""

from __future__ import annotations

import torch
from torch import Tensor

from fashionkit.models.vqa_parts import Kept, attend


def _given(seed: int) -> tuple[Tensor, Kept, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(3, 2, t, 8, generator=generator) for t in (4, 6, 6))
    mask = torch.rand(3, 1, 4, 6, generator=generator) < 0.6
    mask[..., 0] = True
    return query, Kept(key, value), mask


def test_bfloat16_attends_as_float32_does() -> None:
    query, kept, mask = _given(0)
    half = Kept(kept.key.bfloat16(), kept.value.bfloat16())
    for looked in (mask, None):
        wanted = attend(query, kept, looked)
        found = attend(query.bfloat16(), half, looked)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), wanted, atol=0.03, rtol=0.03)


def test_bfloat16_sees_nothing_behind_the_mask() -> None:
    query, kept, mask = _given(1)
    changed = kept.value.clone()
    hidden = ~mask.any(2)[:, 0]  # (3, 6) what no query may look at
    hidden[:, -1] = True
    mask[..., -1] = False
    changed[hidden[:, None].expand(3, 2, 6)] = 1e3
    one, two = (attend(query.bfloat16(), Kept(kept.key.bfloat16(), v.bfloat16()), mask) for v in (kept.value, changed))
    assert torch.equal(one, two)


def test_gradients_flow_in_bfloat16() -> None:
    query, kept, mask = _given(2)
    leaves = [part.bfloat16().requires_grad_() for part in (query, kept.key, kept.value)]
    attend(leaves[0], Kept(leaves[1], leaves[2]), mask).float().square().sum().backward()
    query.requires_grad_()
    attend(query, kept, mask).square().sum().backward()
    assert leaves[0].grad is not None and query.grad is not None
    torch.testing.assert_close(leaves[0].grad.float(), query.grad, atol=0.1, rtol=0.1)
