"""From boxes to targets, against plain loops over boxes and positions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from modicum.core.batch import Boxes, View
from modicum.functional.assign import (
    atss,
    by_centre,
    by_cost,
    by_iou,
    centreness,
    class_targets,
    distances,
    in_view,
    objects,
)

SIDE, STRIDES = 64, (4, 8, 16)
Box = tuple[float, float, float, float]


def positions(side: int = SIDE, strides: tuple[int, ...] = STRIDES) -> tuple[Tensor, Tensor]:
    at, stride = [], []
    for s in strides:
        for y, x in itertools.product(range(side // s), range(side // s)):
            at.append([(x + 0.5) * s, (y + 0.5) * s])
            stride.append(float(s))
    return torch.tensor(at), torch.tensor(stride)


def made(seed: int, count: int = 30, images: int = 3) -> tuple[Tensor, Tensor]:
    luck = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=luck) * 50
    side = torch.rand(count, 2, generator=luck) ** 2 * 60
    image = torch.randint(0, images, (count,), generator=luck).sort()[0]
    return torch.cat([low, (low + side).clamp_max(SIDE)], 1), image


def away(p: Box, b: Box) -> tuple[float, float, float, float]:
    return p[0] - b[0], p[1] - b[1], b[2] - p[0], b[3] - p[1]


def overlap(a: Box, b: Box) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize(("radius", "scale"), [(1.5, 8.0), (0.6, 2.0), (50.0, 4.0)])
def test_centre_sampling_against_loops(radius: float, scale: float) -> None:
    at, stride = positions()
    xyxy, image = made(0)
    found = by_centre(at, stride, xyxy, image, 4, radius, scale)
    boxes, points = xyxy.tolist(), at.tolist()
    for b, p in itertools.product(range(4), range(len(at))):
        s, best = stride[p].item(), (math.inf, -1)
        low = 0 if s == 4 else s * scale / 2
        high = math.inf if s == 16 else s * scale
        for m, box in enumerate(boxes):
            far = away(points[p], box)
            centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            near = max(abs(points[p][0] - centre[0]), abs(points[p][1] - centre[1])) < radius * s
            if image[m] == b and min(far) > 0 and near and low < max(far) <= high:
                best = min(best, ((box[2] - box[0]) * (box[3] - box[1]), m))
        assert found[b, p] == best[1]
    assert (found[3] == -1).all() and (found >= 0).any()


@pytest.mark.parametrize(("k", "scale"), [(9, 8.0), (1, 2.0), (500, 4.0)])
def test_atss_against_loops(k: int, scale: float) -> None:
    at, stride = positions()
    xyxy, image = made(1)
    found = atss(at.double(), stride.double(), xyxy.double(), image, 4, k, scale)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    points = at.double().tolist()
    for m, box in enumerate(xyxy.double().tolist()):
        centre, chosen = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), []
        for s in STRIDES:
            mine = [p for p in range(len(at)) if stride[p] == s]
            mine.sort(key=lambda p: (points[p][0] - centre[0]) ** 2 + (points[p][1] - centre[1]) ** 2)
            chosen += mine[:k]
        half = [scale * stride[p].item() / 2 for p in chosen]
        squares = [
            (points[p][0] - h, points[p][1] - h, points[p][0] + h, points[p][1] + h) for p, h in zip(chosen, half)
        ]
        ious = [overlap(square, box) for square in squares]
        mean = sum(ious) / len(ious)
        line = mean + math.sqrt(sum((i - mean) ** 2 for i in ious) / (len(ious) - 1))
        for p, iou in zip(chosen, ious):
            if iou >= line and min(away(points[p], box)) > 0:
                key = (int(image[m]), p)
                best[key] = max(best.get(key, (-1.0, -1)), (iou, m))
    expected = torch.full((4, len(at)), -1)
    for (b, p), (_, m) in best.items():
        expected[b, p] = m
    assert torch.equal(found, expected) and len(best) > 10


@pytest.mark.parametrize(("scale", "least"), [(8.0, 0.5), (4.0, 0.3), (2.0, 0.9)])
def test_one_threshold_against_loops(scale: float, least: float) -> None:
    at, stride = positions()
    xyxy, image = made(2)
    found = by_iou(at.double(), stride.double(), xyxy.double(), image, 4, scale, least)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for m, box in enumerate(xyxy.double().tolist()):
        inside: dict[int, float] = {}
        for p, (x, y) in enumerate(at.double().tolist()):
            h = scale * stride[p].item() / 2
            if min(away((x, y, 0, 0), box)) > 0:
                inside[p] = overlap((x - h, y - h, x + h, y + h), box)
        for p, iou in inside.items():
            if iou >= least or iou == max(inside.values()):
                key = (int(image[m]), p)
                best[key] = max(best.get(key, (-1.0, 0)), (iou, -m))
    expected = torch.full((4, len(at)), -1)
    for (b, p), (_, m) in best.items():
        expected[b, p] = -m
    assert torch.equal(found, expected) and len(best) > 10


def generous(a: Box, b: Box) -> float:
    """Generalised IoU."""
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - max(w, 0) * max(h, 0)
    return overlap(a, b) - (width * height - union) / (width * height)


def loss(logit: float, yes: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if yes else -0.75 * p**2 * math.log(1 - p)


@pytest.mark.parametrize(("weight", "top", "centre"), [(2.0, 13, 0.001), (0.5, 1, 0.1), (5.0, 1000, 0.0)])
def test_assignment_by_cost_against_loops(weight: float, top: int, centre: float) -> None:
    at, stride = (t.double() for t in positions())
    xyxy, image = made(4)
    luck = torch.Generator().manual_seed(5)
    cls = torch.randint(0, 4, (len(xyxy),), generator=luck)
    logits = torch.randn(4, len(at), 4, generator=luck, dtype=torch.float64)
    far = torch.rand(4, len(at), 4, generator=luck, dtype=torch.float64) * 20 + 1
    said = torch.cat([at - far[..., :2], at + far[..., 2:]], -1)
    boxes = Boxes(xyxy.double(), cls, torch.ones(len(xyxy), dtype=torch.int8), image)
    found = by_cost(at, stride, boxes, logits, said, weight, top, centre)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    several, points = 0, at.tolist()
    for m, box in enumerate(boxes.xyxy.tolist()):
        costs, overlaps, b = {}, [], int(image[m])
        for p in range(len(at)):
            if min(away((*points[p], 0, 0), box)) <= 0:
                continue
            own = said[b, p].tolist()
            cost = sum(loss(logits[b, p, c].item(), c == cls[m]) for c in range(4)) + weight * (1 - generous(own, box))
            apart = math.hypot(points[p][0] - (box[0] + box[2]) / 2, points[p][1] - (box[1] + box[3]) / 2)
            costs[p] = cost + centre * 10 ** (apart / stride[p].item())
            overlaps.append(overlap(own, box))
        many = max(1, int(sum(sorted(overlaps)[-top:])))
        several += many > 1
        for p in sorted(costs, key=costs.__getitem__)[:many]:
            best[b, p] = min(best.get((b, p), (math.inf, -1)), (costs[p], m))
    expected = torch.full((4, len(at)), -1)
    for (b, p), (_, m) in best.items():
        expected[b, p] = m
    assert torch.equal(found, expected) and len(best) > 10 and (several > 3) == (top > 1)


def cheapest(at: Tensor, stride: Tensor, xyxy: Tensor, image: Tensor, images: int) -> Tensor:
    state = torch.ones(len(xyxy), dtype=torch.int8)
    boxes = Boxes(xyxy, torch.zeros(len(xyxy), dtype=torch.int64), state, image)
    return by_cost(at, stride, boxes, torch.zeros(images, len(at), 2), torch.zeros(images, len(at), 4))


@pytest.mark.parametrize("assign", [by_centre, atss, by_iou, cheapest])
def test_no_boxes_and_boxes_of_no_area_own_nothing(assign: object) -> None:
    at, stride = positions()
    none = assign(at, stride, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 2)  # type: ignore[operator]
    assert none.shape == (2, len(at)) and (none == -1).all()
    flat = torch.tensor([[10.0, 10, 10, 30], [30.0, 30, 20, 20], [5.0, 5, 5, 5]])
    assert (assign(at, stride, flat, torch.tensor([0, 0, 1]), 2) == -1).all()  # type: ignore[operator]
    one = assign(torch.tensor([[0.5, 0.5]] * 2), torch.ones(2), torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0]), 1)  # type: ignore[operator]
    assert (one == 0).any(), "levels of one position each, as of an image of one pixel"


def test_centreness_by_hand() -> None:
    far = distances(torch.tensor([[5.0, 5], [2.0, 5], [0.0, 5], [-1.0, 5]]), torch.tensor([[0.0, 0, 10, 10]] * 4))
    assert centreness(far).tolist() == pytest.approx([1, math.sqrt(2 / 8), 0, 0])


def test_what_a_view_cuts_is_neither_object_nor_background() -> None:
    xyxy = torch.tensor(
        [[0.0, 0, 8, 8], [28.0, 0, 36, 8], [40.0, 0, 48, 8], [4.0, 4, 4, 8], [0.0, 8, 8, 16], [1.0, 1, 2, 2]]
    )
    boxes = Boxes(
        xyxy,
        torch.tensor([0, 1, 2, 0, 1, -1]),
        torch.tensor([1, 1, 1, 1, 0, 1], dtype=torch.int8),
        torch.zeros(6).long(),
    )
    view = View(torch.zeros(1, 3, 32, 32), torch.eye(2, 3)[None], torch.tensor([[64, 64]]))
    assert in_view(boxes, view, 0.4).state.tolist() == [1, 1, 0, 0, 0, 0]
    assert in_view(boxes, view, 0.6).state.tolist() == [1, 0, 0, 0, 0, 0]
    assert in_view(boxes, view, 0.0).state.tolist() == [1, 1, 0, 0, 0, 0], "outside there is nothing to find"
    moved = View(view.pixels, torch.tensor([[[1.0, 0, 30], [0, 1, 0]]]), view.size)
    shown = in_view(boxes, moved, 0.4)
    assert shown.state.tolist() == [0, 1, 1, 0, 0, 0] and shown.xyxy[2].tolist() == [10, 0, 18, 8]
    assert objects(shown).cls.tolist() == [1, 2]


def test_class_targets_against_loops() -> None:
    at, stride = positions()
    xyxy, image = made(2)
    luck = torch.Generator().manual_seed(3)
    cls = torch.randint(-1, 4, (len(xyxy),), generator=luck)
    state = ((torch.rand(len(xyxy), generator=luck) < 0.6) & (cls >= 0)).to(torch.int8)
    looked = torch.rand(4, 4, generator=luck) < 0.6
    boxes = Boxes(xyxy, cls, state, image)
    mine = objects(boxes)
    owner = by_centre(at, stride, mine.xyxy, mine.image, 4)
    target, known = class_targets(owner, mine, boxes, looked, at, 4)
    points = at.tolist()
    for b, p, c in itertools.product(range(4), range(len(at)), range(4)):
        own = int(owner[b, p])
        assert target[b, p, c] == float(own >= 0 and mine.cls[own] == c)
        hidden = any(
            image[m] == b and state[m] == 0 and cls[m] in (c, -1) and min(away(points[p], box)) > 0
            for m, box in enumerate(xyxy.tolist())
        )
        assert known[b, p, c] == (own >= 0 or (bool(looked[b, c]) and not hidden))
    nobody = class_targets(owner, mine, boxes, None, at, 4)[1]
    assert torch.equal(nobody, (owner >= 0)[:, :, None].expand_as(nobody)), "nothing is background where nobody looked"
