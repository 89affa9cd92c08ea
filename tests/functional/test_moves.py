"""Rough boxes, the true ones they belong to, and moves that are believed: against plain loops and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from modicum.core.batch import Boxes
from modicum.core.loss import value
from modicum.functional import moves as mv
from modicum.functional.boxes import decode, encode, iou


def some(seed: int, count: int) -> torch.Tensor:
    luck = torch.Generator().manual_seed(seed)
    corner = 20 * torch.rand(count, 2, generator=luck)
    return torch.cat([corner, corner + 2 + 12 * torch.rand(count, 2, generator=luck)], 1)


def test_sides_move_by_their_share_of_the_box() -> None:
    box = torch.tensor([[10.0, 20, 30, 60]])
    corners = mv.jittered(box.expand(3, 4), torch.tensor([[0.5] * 4, [0.0] * 4, [0.0, 0.25, 1.0, 0.75]]), 0.3)
    assert torch.allclose(corners, torch.tensor([[10.0, 20, 30, 60], [4, 8, 24, 48], [4, 14, 36, 66]]))
    rough = mv.jittered(box.expand(1000, 4), torch.rand(1000, 4), 0.45)
    assert (rough[:, 2:] > rough[:, :2]).all() and iou(rough, box).min() > 0.009  # (1 - 2 x 0.45)^2


@pytest.mark.parametrize("own", [False, True])
def test_the_true_box_of_each_against_a_loop(own: bool) -> None:
    xyxy, image = some(0, 30), torch.tensor([0] * 10 + [1] * 12 + [3] * 8)
    true = Boxes(
        some(1, 12), torch.tensor([0, 1, 2] * 4), torch.ones(12, dtype=torch.int8), torch.tensor([0] * 5 + [1] * 7)
    )
    cls = torch.arange(30) % 3
    at, overlap = mv.nearest(xyxy, image, cls if own else None, true)
    for m in range(30):
        mine = [k for k in range(12) if true.image[k] == image[m] and (not own or true.cls[k] == cls[m])]
        if not mine:
            assert overlap[m] == -1
            continue
        best = max(mine, key=lambda k: (iou(xyxy[m], true.xyxy[k]).item(), -k))
        assert at[m] == best and overlap[m] == iou(xyxy[m], true.xyxy[best])
    assert (image == 3).any() and (overlap[image == 3] == -1).all()
    none = Boxes(some(1, 0), true.cls[:0], true.state[:0], true.image[:0])
    assert (mv.nearest(xyxy, image, cls, none)[1] == -1).all()


def test_far_moves_are_cut_and_wild_ones_not_believed() -> None:
    box = torch.tensor([[10.0, 10, 20, 20]]).expand(4, 4)
    offsets = torch.tensor([[1.0, -2, 0, 0], [9.0, 0, 0, 0], [5.0, 5.0, 0, 0], [0, 0, 5.0, 5.0]])
    held, good = mv.believed(offsets, box, 5.0, 0.3)
    assert torch.equal(held[0], offsets[0]) and held[1].tolist() == [5, 0, 0, 0]
    shared = [(9 * 8) / (200 - 72), 5 / 15, 25 / 175, 1 / math.e**2]  # sides move by a tenth of an offset
    assert iou(decode(held, box), box).tolist() == pytest.approx(shared, rel=1e-5)
    assert good.tolist() == [s >= 0.3 for s in shared] == [True, True, False, False]


def test_the_loss_of_offsets_against_a_loop() -> None:
    luck = torch.Generator().manual_seed(2)
    found, goal, weight = (torch.randn(7, 4, generator=luck) for _ in range(3))
    weight = weight[:, 0].abs()
    sums = []
    for m in range(7):
        gaps = [abs(a - b) for a, b in zip(found[m].tolist(), goal[m].tolist(), strict=True)]
        sums.append(sum(g * g / 2 if g < 1 else g - 0.5 for g in gaps))
    assert value({"": mv.drawn_to(found, goal)}).item() == pytest.approx(sum(sums) / 7, rel=1e-5)
    weighed = sum(w * s for w, s in zip(weight.tolist(), sums, strict=True))
    assert value({"": mv.drawn_to(found, goal, weight, 20.0)}).item() == pytest.approx(weighed / 20, rel=1e-5)
    assert value({"": mv.drawn_to(found[:0], goal[:0])}).item() == 0


def test_the_code_of_a_move_is_its_way_back() -> None:
    rough, true = some(4, 200), some(5, 200)
    assert torch.allclose(decode(encode(true, rough), rough), true, atol=1e-4)
    dx, dy, dw, dh = (encode(true, rough) * torch.tensor([0.1, 0.1, 0.2, 0.2])).T
    for m in range(200):
        (x0, y0, x1, y1), (a0, b0, a1, b1) = rough[m].tolist(), true[m].tolist()
        assert dx[m].item() == pytest.approx(((a0 + a1) - (x0 + x1)) / 2 / (x1 - x0), abs=1e-4)
        assert dy[m].item() == pytest.approx(((b0 + b1) - (y0 + y1)) / 2 / (y1 - y0), abs=1e-4)
        assert dw[m].item() == pytest.approx(math.log((a1 - a0) / (x1 - x0)), abs=1e-4)
        assert dh[m].item() == pytest.approx(math.log((b1 - b0) / (y1 - y0)), abs=1e-4)
