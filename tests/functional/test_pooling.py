"""Region pooling against torchvision's RoIAlign, forward and backward, wherever boxes lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from modicum.functional import pooling
from modicum.functional.pooling import pooled


def both(
    maps: torch.Tensor, xyxy: torch.Tensor, image: torch.Tensor, stride: float, cells: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pooled values and the gradient of the maps: ours, torchvision's."""
    h, w = maps.shape[-2:]
    slope = torch.randn(len(xyxy), maps.shape[1], cells, cells, generator=torch.Generator().manual_seed(2))
    out = []
    for ours in (True, False):
        leaf = maps.clone().requires_grad_()
        rois = torch.cat([image[:, None].to(xyxy.dtype), xyxy], 1)
        found = (
            pooled(leaf, xyxy, image, (round(h * stride), round(w * stride)), cells)
            if ours
            else roi_align(leaf, rois, (cells, cells), 1 / stride, sampling_ratio=2, aligned=True)
        )
        found.backward(slope.to(found.dtype))
        assert leaf.grad is not None
        out.append((found.detach(), leaf.grad))
    return out


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31), h=st.integers(1, 9), w=st.integers(1, 9), count=st.integers(1, 12),
    cells=st.sampled_from([1, 2, 7]), stride=st.sampled_from([1, 4, 8]),
    spread=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
)  # fmt: skip
def test_it_is_roi_align(seed: int, h: int, w: int, count: int, cells: int, stride: int, spread: float) -> None:
    luck = np.random.default_rng(seed)
    maps = torch.from_numpy(luck.normal(size=(3, 2, h, w))).float()
    whole = np.array([w, h]) * stride
    corners = whole / 2 + (luck.random((count, 2, 2)) - 0.5) * spread * whole * 2  # also far outside
    xyxy = np.concatenate([corners.min(1), corners.max(1)], 1)
    flat = luck.random(count) < 0.2
    xyxy[flat, 2] = xyxy[flat, 0]
    image = torch.from_numpy(np.sort(luck.integers(0, 3, count)))
    (ours, back), (theirs, their_back) = both(maps, torch.from_numpy(xyxy).float(), image, stride, cells)
    assert torch.allclose(ours, theirs, atol=1e-5) and torch.allclose(back, their_back, atol=1e-5, rtol=1e-5)


def test_many_boxes_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    luck = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 8, 12, 10, generator=luck).double()
    corners = torch.rand(5000, 2, 2, generator=luck).double() * 100 - 5
    xyxy = torch.cat([corners.amin(1), corners.amax(1)], 1)
    image = (torch.arange(5000) > 3000).long()
    whole = both(maps, xyxy, image, 8, 7)
    monkeypatch.setattr(pooling, "HELD", 7 * 8 * 12 * 100)
    assert [s.stop - s.start for b, s in pooling._parts([250, 0, 30], 7 * 8 * 12)] == [100, 100, 50, 30]
    for one, other in ((whole[0], whole[1]), (both(maps, xyxy, image, 8, 7)[0], whole[1])):
        assert torch.allclose(one[0], other[0], atol=1e-5)
        assert torch.allclose(one[1], other[1], atol=1e-5)


def test_what_a_box_holds_is_its_mean() -> None:
    """A plane, whose mean over a box is its value in the middle."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    maps = torch.stack([x + 0.5, 3 * (y + 0.5)])[None]
    found = pooled(maps, torch.tensor([[8.0, 12.0, 40.0, 44.0]]), torch.tensor([0]), (64, 64), 1)
    assert found.flatten().tolist() == pytest.approx([6.0, 21.0])


def test_types_stay() -> None:
    maps = torch.randn(1, 2, 5, 5, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pooled(maps, torch.tensor([[0.0, 0, 3, 3]]), torch.tensor([0]), (5, 5), 2)
    found.sum().backward()
    assert found.dtype == torch.bfloat16 and maps.grad is not None and maps.grad.dtype == torch.bfloat16
    wide = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    boxes, image = torch.tensor([[0.3, 0.2, 3.1, 2.7]]), torch.tensor([0])
    assert torch.autograd.gradcheck(lambda m: pooled(m, boxes, image, (4, 4), 2), wide)


def test_no_boxes() -> None:
    maps = torch.randn(2, 3, 4, 4, requires_grad=True)
    found = pooled(maps, torch.empty(0, 4), torch.empty(0, dtype=torch.int64), (8, 8), 5)
    found.sum().backward()
    assert found.shape == (0, 3, 5, 5) and maps.grad is not None and not maps.grad.any()
