"""Boxes that may be wrong: each loss and each rule against a plain loop or a closed form."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from modicum.functional.noisy import BINS, binned, contained, cuts, shrunk, tallied

LUCK = torch.Generator().manual_seed(3)


def some_boxes(*shape: int) -> Tensor:
    corner = torch.rand(*shape, 2, generator=LUCK) * 20
    return torch.cat([corner, corner + 2 + 10 * torch.rand(*shape, 2, generator=LUCK)], -1)


def area(box: list[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def both(a: list[float], b: list[float]) -> float:
    return area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])


def test_a_part_that_outranks_the_whole_costs_as_a_loop_over_pairs_says() -> None:
    xyxy, score = some_boxes(3, 12), torch.rand(3, 12, generator=LUCK)
    xyxy[:, 6:, :2], xyxy[:, 6:, 2:] = xyxy[:, :6, :2] + 0.2, xyxy[:, :6, 2:] - 0.2 * torch.arange(6)[:, None] - 0.1
    cls = torch.randint(0, 2, (3, 12), generator=LUCK)
    total, pairs = 0.0, 0
    for image in range(3):
        for p, q in permutations(range(12), 2):
            a, b = xyxy[image, p].tolist(), xyxy[image, q].tolist()
            s, t = score[image, p].item(), score[image, q].item()
            if cls[image, p] == cls[image, q] and area(a) > 0 and both(a, b) / area(a) > 0.85 and t > 0.3 * s:
                total, pairs = total + max(0.0, s - t + 0.1), pairs + 1
    got, count = contained(xyxy, score.requires_grad_(), cls)
    assert pairs >= 8 and int(count) == pairs and got.item() == pytest.approx(total, rel=1e-5)
    (slope,) = torch.autograd.grad(got, score)
    assert slope.abs().max() > 0 and slope.sum().abs() < 1e-5, "what parts lose wholes gain"


def test_only_boxes_that_are_smaller_than_theirs_cost_and_by_the_logarithm_of_areas() -> None:
    given = torch.tensor([[0.0, 0, 10, 10]]).repeat(4, 1)
    found = torch.tensor([[0.0, 0, 5, 5], [0, 0, 10, 10], [0, 0, 20, 20], [3, 3, 3, 9]])
    got = shrunk(found, given)
    assert got[:3].tolist() == pytest.approx([math.log(4), 0, 0]) and got[3] == pytest.approx(math.log(100 / 1e-3))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_of_each_class_its_own_share_is_believed(share: float) -> None:
    sure, cls = torch.rand(500, generator=LUCK), torch.randint(0, 3, (500,), generator=LUCK)
    sure = torch.where(cls == 1, sure / 4, sure)  # a class that is hard
    sure[:5] = 0
    counts = tallied(sure[:200], cls[:200], 4) + tallied(sure[200:], cls[200:], 4)
    bins = cuts(counts, share)
    for c in range(3):
        mine = sorted(((sure[i] * BINS).long().item() for i in range(500) if cls[i] == c), reverse=True)
        wanted = math.ceil(share * len(mine) - 1e-9)
        limit = min(BINS - 1, mine[wanted - 1]) if wanted else BINS
        assert bins[c] == limit
        assert int((binned(sure[cls == c]) >= bins[c]).sum()) == sum(v >= limit for v in mine) >= wanted
    assert bins[3] == (0 if share else BINS), "nothing is known of a class that was not seen"
