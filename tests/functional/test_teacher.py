"""What a teacher says of another view, against plain loops over boxes and positions."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch
from torch import Tensor

from modicum.core.batch import Boxes, View
from modicum.functional.assign import in_view
from modicum.functional.teacher import heard, joined, scored, side_by_side, some, spread, through, weighed

from .test_assign import made, positions

SIDE = 64


def view(affine: list[list[float]], images: int = 1, side: int = SIDE) -> View:
    size = torch.full((images, 2), 100)
    return View(torch.zeros(images, 3, side, side), torch.tensor([affine] * images), size)


FIRST = view([[1.5, 0.1, 4.0], [-0.2, 1.4, 7.0]], 3)
SECOND = view([[-1.3, 0.2, 90.0], [0.1, 1.6, -5.0]], 3)


def by(affine: Tensor, x: float, y: float) -> tuple[float, float]:
    (a, b, s), (c, d, t) = affine.tolist()
    return a * x + b * y + s, c * x + d * y + t


def test_a_view_through_another_leads_to_the_same_point_of_the_image() -> None:
    both = through(FIRST, SECOND)
    assert both.pixels is SECOND.pixels and both.size.tolist() == [[SIDE, SIDE]] * 3
    for point in ((0.0, 0.0), (13.0, 50.0), (64.0, 64.0)):
        there = by(FIRST.affine[0], *by(both.affine[0], *point))
        assert there == pytest.approx(by(SECOND.affine[0], *point), abs=1e-3)


def test_a_box_moves_through_its_image_into_the_other_view() -> None:
    straight = view([[1.5, 0.0, 4.0], [0.0, 1.4, 7.0]]), view([[-2.0, 0.0, 100.0], [0.0, 2.0, -5.0]])
    box = torch.tensor([[10.0, 20, 30, 40]])
    boxes = Boxes(box, torch.tensor([1]), torch.ones(1, dtype=torch.int8), torch.tensor([0]))
    found = in_view(boxes, through(*straight), 0.4)
    across = [(1.5 * x + 4 - 100) / -2 for x in (30, 10)]
    down = [(1.4 * y + 7 + 5) / 2 for y in (20, 40)]
    assert found.xyxy[0].tolist() == pytest.approx([across[0], down[0], across[1], down[1]], rel=1e-4)


def test_every_position_hears_the_one_of_its_level_in_whose_cell_it_lies() -> None:
    at, stride = positions()
    luck = torch.Generator().manual_seed(0)
    values = torch.rand(3, len(at), 2, generator=luck)
    both = through(FIRST, SECOND)
    got, outside = heard(values, at, stride, both), 0
    for b, p in itertools.product(range(3), range(len(at))):
        x, y = by(both.affine[b], *at[p].tolist())
        s = stride[p].item()
        cells = [
            q for q in range(len(at)) if stride[q] == s and abs(at[q, 0] - x) <= s / 2 and abs(at[q, 1] - y) <= s / 2
        ]
        outside += not cells
        expected = values[b, cells[0]].tolist() if cells else [0, 0]
        assert got[b, p].tolist() == expected, (b, p)
    assert 0 < outside < 2 * len(at)
    same = View(torch.zeros(3, 3, SIDE, SIDE), torch.eye(2, 3).repeat(3, 1, 1), torch.full((3, 2), SIDE))
    assert torch.equal(heard(values, at, stride, through(same, same)), values)


def test_an_image_of_one_pixel_hears_itself() -> None:
    one = view([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], 2, side=1)
    at, stride = torch.full((3, 2), 0.5), torch.ones(3)
    values = torch.rand(2, 1, 1).expand(2, 3, 1)
    assert torch.equal(heard(values, at, stride, through(one, one)), values)


def test_noes_weigh_as_they_are_believed_and_an_image_as_much_as_before() -> None:
    luck = torch.Generator().manual_seed(1)
    known, target = torch.rand(3, 9, 2, generator=luck) < 0.8, (torch.rand(3, 9, 2, generator=luck) < 0.2).float()
    trust = torch.rand(3, 9, 2, generator=luck)
    trust[1, :4], trust[2] = 0, 0
    got = weighed(known, target, trust)
    for b in range(3):
        noes = [(p, c) for p in range(9) for c in range(2) if known[b, p, c] and not target[b, p, c]]
        noes = [(p, c) for p, c in noes if trust[b, p, c]]
        total = sum(trust[b, p, c].item() for p, c in noes)
        for p, c in itertools.product(range(9), range(2)):
            yes = float(known[b, p, c] and target[b, p, c] > 0)
            no = trust[b, p, c].item() * len(noes) / max(1, total) if (p, c) in noes else yes
            assert got[b, p, c].item() == pytest.approx(no, rel=1e-5)
        if b < 2:
            assert sum(got[b, p, c].item() for p, c in noes) == pytest.approx(len(noes), rel=1e-5)
    assert torch.equal(weighed(known, target, torch.ones_like(trust)), known.float())


def test_spread_against_a_loop_over_positions() -> None:
    at, _ = positions()
    xyxy, image = made(3)
    luck = torch.Generator().manual_seed(4)
    said = 30 * torch.rand(3, len(at), 4, generator=luck)
    owner = torch.randint(-1, len(xyxy), (3, len(at)), generator=luck)
    owner[owner >= 25] = -1
    owner[image[0], 5] = owner[image[1], 7] = 0
    boxes = Boxes(xyxy, torch.zeros_like(image), torch.ones_like(image, dtype=torch.int8), image)
    got, finite = spread(boxes, said, owner), 0
    for m, box in enumerate(xyxy.tolist()):
        own = [said[image[m], p].tolist() for p in range(len(at)) if owner[image[m], p] == m]
        if len(own) < 2 or box[2] <= box[0] or box[3] <= box[1]:
            assert math.isinf(got[m])
            continue
        sides = [statistics.stdev(o[k] for o in own) for k in range(4)]
        expected = sum(sides) / 4 / ((box[2] - box[0] + box[3] - box[1]) / 2)
        assert got[m].item() == pytest.approx(expected, rel=1e-4)
        finite += 1
    assert 3 < finite < len(xyxy)
    assert spread(some(boxes, torch.zeros(len(xyxy), dtype=torch.bool)), said, owner).shape == (0,)
    one = some(boxes, torch.arange(len(xyxy)) == 0)
    assert math.isinf(spread(one, said, torch.full_like(owner, -1))[0])
    flat = Boxes(torch.tensor([[5.0, 5, 5, 9]]), one.cls, one.state, one.image)
    assert math.isinf(spread(flat, said, torch.zeros_like(owner))[0])


def test_boxes_of_two_views_stand_side_by_side() -> None:
    xyxy, image = made(5, 6, 2)
    one = Boxes(xyxy, torch.arange(6), torch.ones(6, dtype=torch.int8), image, torch.rand(6))
    both = side_by_side([one, some(one, torch.arange(6) < 4)], 2)
    assert both.cls.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3] and both.score is None
    assert both.image.tolist() == [*image.tolist(), *(2 + image[:4]).tolist()]


def test_boxes_by_their_score_keep_it_and_joined_ones_do_not() -> None:
    xyxy, image = made(5)
    score = torch.linspace(0.95, 0.05, len(xyxy))
    boxes = Boxes(xyxy, torch.zeros(len(xyxy)).long(), torch.ones(len(xyxy), dtype=torch.int8), image, score)
    low = torch.where(image == 0, 0.9, 0.3)
    found = scored(boxes, low, 0.6)
    right = [m for m, s in enumerate(score.tolist()) if low[m] < s <= 0.6]
    assert found.score is not None and found.score.tolist() == score[right].tolist() and 0 < len(right) < 20
    assert torch.equal(found.xyxy, xyxy[right]) and joined(found, boxes).score is None
