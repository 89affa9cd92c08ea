"""Boxes against plain loops, closed forms and torchvision."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder

from modicum.functional import boxes as bx

GRID = st.integers(0, 12)


@st.composite
def drawn(draw: st.DrawFn, least: int = 1) -> Tensor:
    """Boxes on a small grid: many touch, hold each other or are the same; some are without area."""
    rows = draw(st.lists(st.tuples(GRID, GRID, st.integers(0, 6), st.integers(0, 6)), min_size=least, max_size=7))
    return torch.tensor([[x, y, x + w, y + h] for x, y, w, h in rows], dtype=torch.float64).reshape(-1, 4)


def cells(box: list[float]) -> set[tuple[int, int]]:
    x0, y0, x1, y1 = map(int, box)
    return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}


@settings(max_examples=60, deadline=None)
@given(drawn(0), drawn(0))
def test_overlaps_count_cells(a: Tensor, b: Tensor) -> None:
    overlap, general = bx.iou(a[:, None], b), bx.giou(a[:, None], b)
    assert overlap.shape == general.shape == (len(a), len(b))
    for i, p in enumerate(a.tolist()):
        for j, q in enumerate(b.tolist()):
            both, either = cells(p) & cells(q), cells(p) | cells(q)
            frame = (max(p[2], q[2]) - min(p[0], q[0])) * (max(p[3], q[3]) - min(p[1], q[1]))
            want = len(both) / len(either) if either else 0
            assert overlap[i, j] == pytest.approx(want)
            assert general[i, j] == pytest.approx(want - ((frame - len(either)) / frame if frame else 0))
    assert bx.areas(a).tolist() == [len(cells(p)) for p in a.tolist()]


def random_boxes(n: int, seed: int = 0) -> Tensor:
    luck = torch.Generator().manual_seed(seed)
    corner, side = torch.rand(n, 2, generator=luck) * 80 - 10, torch.rand(n, 2, generator=luck) * 40 + 0.5
    return torch.cat([corner, corner + side], 1)


def test_overlaps_agree_with_torchvision_pair_by_pair_too() -> None:
    a, b = random_boxes(40), random_boxes(30, 1)
    assert torch.allclose(bx.iou(a[:, None], b), ops.box_iou(a, b), atol=1e-6)
    assert torch.allclose(bx.giou(a[:, None], b), ops.generalized_box_iou(a, b), atol=1e-6)
    assert torch.allclose(bx.giou(a[:30], b), ops.generalized_box_iou(a, b)[:30].diag(), atol=1e-6)
    assert torch.allclose(bx.clip(a, (50, 60)), ops.clip_boxes_to_image(a, (50, 60)))
    sizes = torch.tensor([[50, 60], [20, 10]]).repeat(20, 1)
    each = torch.cat([ops.clip_boxes_to_image(a[i : i + 1], tuple(sizes[i].tolist())) for i in range(40)])
    assert torch.equal(bx.clip(a, sizes), each)


def test_boxes_turned_inside_out_overlap_nothing() -> None:
    odd, box = torch.tensor([[5.0, 5, 2, 9]]), torch.tensor([[0.0, 0, 10, 10]])
    assert bx.areas(odd) == 0 and bx.iou(odd, box) == 0 and bx.iou(odd, odd) == 0 and bx.giou(odd, odd) == 0


def test_gradients_are_finite_where_boxes_have_no_area() -> None:
    a = torch.tensor([[3.0, 3, 3, 3], [3, 3, 3, 8], [0, 0, 4, 4], [0, 0, 1, 1]], requires_grad=True)
    b = torch.tensor([[3.0, 3, 3, 3], [3, 3, 3, 8], [0, 0, 4, 4], [7, 7, 9, 9]])
    (bx.iou(a, b) + bx.giou(a, b)).sum().backward()
    assert a.grad is not None and a.grad.isfinite().all() and a.grad[3].abs().sum() > 0
    offsets = torch.full((1, 4), 1e6, requires_grad=True)
    bx.decode(offsets, a[:1].detach()).sum().backward()
    assert offsets.grad is not None and offsets.grad.isfinite().all()


def test_offsets_agree_with_torchvision_and_lead_back() -> None:
    boxes, anchors = random_boxes(50), random_boxes(50, 1)
    theirs = BoxCoder((10.0, 10.0, 5.0, 5.0))
    offsets = bx.encode(boxes, anchors)
    assert torch.allclose(offsets, theirs.encode_single(boxes, anchors), atol=1e-4)
    assert torch.allclose(bx.decode(offsets, anchors), boxes, atol=1e-3)
    wild = offsets * 30
    assert torch.allclose(bx.decode(wild, anchors), theirs.decode_single(wild, anchors), rtol=1e-4, atol=1e-2)
    plain = bx.encode(torch.tensor([[0.0, 0, 4, 8]]), torch.tensor([[0.0, 0, 2, 2]]), (1, 1, 1, 1))
    assert plain[0].tolist() == pytest.approx([0.5, 1.5, math.log(2), math.log(4)])
    assert bx.encode(torch.zeros(1, 4), torch.zeros(1, 4)).abs().sum() == 0


def plain_nms(xyxy: Tensor, scores: Tensor, group: Tensor, tau: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(xyxy)), key=lambda i: (-scores[i].item(), i)):
        rivals = [k for k in kept if group[k] == group[i]]
        if all(bx.iou(xyxy[k], xyxy[i]) <= tau for k in rivals):
            kept.append(i)
    return kept


@settings(max_examples=60, deadline=None)
@given(drawn(0), st.integers(0, 99), st.sampled_from([0.2, 0.5, 0.8]))
def test_nms_agrees_with_a_plain_loop(xyxy: Tensor, seed: int, tau: float) -> None:
    luck = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (len(xyxy),), generator=luck) / 4
    group = torch.randint(0, 2, (len(xyxy),), generator=luck) * 1000
    shifted = xyxy - 7
    assert bx.nms(shifted, scores, group, tau).tolist() == plain_nms(shifted, scores, group, tau)


def test_nms_of_many_groups_is_that_of_each_alone() -> None:
    """Ten thousand groups laid side by side end at 800,000 pixels, where float32 has steps of a sixteenth."""
    some = random_boxes(6)
    xyxy, group = some.repeat(10_000, 1), torch.arange(10_000).repeat_interleave(6)
    scores = torch.linspace(1, 0.5, 6).repeat(10_000)
    kept = bx.nms(xyxy, scores, group, 0.3)
    alone = ops.nms(some, scores[:6], 0.3)
    assert torch.equal(torch.bincount(kept % 6, minlength=6)[alone], torch.full((len(alone),), 10_000))
    assert len(kept) == 10_000 * len(alone)


def test_unpacked_leaves_the_padding_out() -> None:
    column = torch.full((3, 2, 4), torch.nan)
    column[0] = torch.arange(8.0).reshape(2, 4)
    column[2, 0] = 9
    xyxy, image = bx.unpacked(column)
    assert image.tolist() == [0, 0, 2] and xyxy.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [9, 9, 9, 9]]
    assert [t.shape for t in bx.unpacked(column[1:2])] == [(0, 4), (0,)]
