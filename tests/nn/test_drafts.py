"""Boxes that are drawn anew: how they are kept, which are drawn, and which are believed, against plain loops."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor

from modicum.core.batch import Boxes, Labels, Part, View
from modicum.functional.assign import by_centre
from modicum.functional.boxes import iou
from modicum.functional.noisy import BINS
from modicum.nn.detect import Dense, found
from modicum.nn.drafts import (
    APART,
    DRAFTS,
    FAR,
    MOST,
    OTHER,
    Drafts,
    Split,
    candidates,
    column,
    given,
    in_both,
    judged,
    read,
    redrawn,
    settled,
    shown,
)

LUCK = torch.Generator().manual_seed(8)
SIDE = 32


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=LUCK)


def some_boxes(image: list[int], cls: list[int], scores: bool = True) -> Boxes:
    corner = 20 * random(len(image), 2)
    xyxy = torch.cat([corner, corner + 5 + 7 * random(len(image), 2)], 1)
    whose, state = torch.tensor(image), torch.ones(len(image), dtype=torch.int8)
    return Boxes(xyxy, torch.tensor(cls), state, whose, random(len(image)) if scores else None)


def dense(images: int = 3, classes: int = 4) -> Dense:
    """What a detector of two levels might say."""
    at, stride = [], []
    for step in (4, 8):
        at += [((x + 0.5) * step, (y + 0.5) * step) for y in range(SIDE // step) for x in range(SIDE // step)]
        stride += [float(step)] * (SIDE // step) ** 2
    many = len(at)
    logits = 3 * torch.randn(images, many, classes, generator=LUCK) - 2
    middle = torch.randn(images, many, generator=LUCK)
    return Dense(logits, middle, 2 + 8 * random(images, many, 4), torch.tensor(at), torch.tensor(stride))


def view(images: int = 3, scale: float = 1.0) -> View:
    affine = torch.tensor([[scale, 0, 0], [0, scale, 0]]).repeat(images, 1, 1)
    return View(torch.zeros(images, 3, SIDE, SIDE), affine, torch.full((images, 2), round(SIDE * scale)))


def part(values: Tensor) -> Part:
    return Part(torch.arange(len(values)), {}, Labels(torch.full((len(values),), -1)), {DRAFTS: values})


def test_what_is_put_into_the_column_comes_out_by_image_and_no_more_than_it_holds() -> None:
    boxes, sure, far = some_boxes([2, 0, 2, 0], [1, 3, 0, 2]), random(4), random(4)
    got = read(part(column(boxes, 3, sure, far)))
    order = torch.tensor([1, 3, 0, 2])
    assert boxes.score is not None and got.boxes.score is not None
    assert got.boxes.image.tolist() == [0, 0, 2, 2] and got.boxes.cls.tolist() == [3, 2, 1, 0]
    values = got.boxes.xyxy, got.boxes.score, *got[1:]
    for ours, theirs in zip(values, (boxes.xyxy, boxes.score, sure, far), strict=True):
        assert torch.equal(ours, theirs[order])
    many = column(some_boxes([1] * (MOST + 5), [0] * (MOST + 5)), 2, random(MOST + 5), random(MOST + 5))
    assert many.shape == (2, MOST, 8) and many[0].isnan().all() and not many[1].isnan().any()


def test_given_boxes_of_no_class_of_an_absent_one_or_to_be_ignored_are_left_out() -> None:
    boxes = some_boxes([0, 0, 1, 1], [0, 1, -1, 1], scores=False)
    boxes.state[3] = 0
    tags = torch.tensor([[1, 0], [-1, -1]], dtype=torch.int8)
    got = given(Labels(torch.tensor([-1, -1]), tags=tags, boxes=boxes), tags)
    assert torch.equal(got.boxes.xyxy, boxes.xyxy[:1]) and [v.tolist() for v in got[1:]] == [[1], [0]]


def test_of_each_class_that_is_there_the_best_boxes_are_drawn_and_old_ones_where_none_is_found() -> None:
    said, tags = dense(), torch.tensor([[1, 0, 1, 1], [0, -1, 0, 1], [1, 1, 0, 0]], dtype=torch.int8)
    said.logits[0, :, 2] = -20  # there, and not found
    old = some_boxes([0, 0, 1, 2], [0, 2, 3, 1], scores=False)
    got = redrawn(said, view(scale=2.0), tags, old, 0.8)
    every = found(said, (SIDE, SIDE), tau=APART, top=10_000, most=10_000)
    assert every.score is not None and got.score is not None
    wanted, drawn = [], set()
    for b in range(3):
        mine = [i for i in range(len(every.cls)) if every.image[i] == b and tags[b, every.cls[i]] == 1]
        taken: list[int] = []
        for i in sorted(mine, key=lambda i: -every.score[i].item()):  # type: ignore[index]
            if all(iou(every.xyxy[i], every.xyxy[j]) <= OTHER for j in taken):
                taken.append(i)
        for c in range(4):
            own = [i for i in taken if every.cls[i] == c]
            drawn |= {(b, c)} if own else set()
            best = own[:1] + [i for i in own[1:] if every.score[i] > 0.8]
            wanted += [(b, c, *(2 * every.xyxy[i]).tolist()) for i in best]
    left = [i for i in range(4) if (int(old.image[i]), int(old.cls[i])) not in drawn]
    wanted += [(int(old.image[i]), int(old.cls[i]), *old.xyxy[i].tolist()) for i in left]
    ours = sorted((int(b), int(c), *x.tolist()) for b, c, x in zip(got.image, got.cls, got.xyxy, strict=True))
    assert left == [1] and len(wanted) > len(drawn) + 1 > 4
    for a, w in zip(ours, sorted(wanted), strict=True):
        assert a == pytest.approx(w, abs=1e-4)
    assert got.score[-1] == 0, "nothing speaks for an old one"


def test_how_far_a_box_is_trusted_against_plain_loops() -> None:
    said, boxes = dense(), some_boxes([0, 0, 1, 2, 2], [0, 1, 3, 2, 2])
    boxes.xyxy[4] = torch.tensor([2.5, 2.5, 3.5, 3.5])  # no position lies in it
    owner = by_centre(said.at, said.stride, boxes.xyxy, torch.arange(5), 5)
    sure, sigma = judged(said, boxes, owner)
    for m, (x0, y0, x1, y1) in enumerate(boxes.xyxy.tolist()):
        own = (owner[m] == m).nonzero()[:, 0].tolist()
        if not own:
            assert m == 4 and sure[m] == 0 and sigma[m] == FAR
            continue
        b, loss = int(boxes.image[m]), 0.0
        for p in own:
            for c in range(4):
                q = 1 / (1 + math.exp(-said.logits[b, p, c].item()))
                loss -= 0.25 * (1 - q) ** 2 * math.log(q) if c == boxes.cls[m] else 0.75 * q**2 * math.log(1 - q)
        assert sure[m].item() == pytest.approx(math.exp(-loss / len(own)), rel=1e-4)
        spread = sum(statistics.stdev(said.xyxy[b, own, k].tolist()) for k in range(4))
        assert sigma[m].item() == pytest.approx(spread / (2 * (x1 - x0 + y1 - y0)), rel=1e-4)
    lone = torch.full_like(owner, -1)
    lone[0, 7] = 0
    assert judged(said, boxes, lone)[1].tolist() == [FAR] * 5, "one position does not disagree with itself"


def drafts() -> Drafts:
    image, cls = [0, 0, 1, 1, 2, 3], [0, 1, 0, 1, 0, 1]
    sure = torch.tensor([0.9, 0.2, 0.5, 0.6, 0.1, 0.4])
    return Drafts(some_boxes(image, cls), sure, torch.tensor([0.01, 0.01, 0.5, 0.01, 0.5, 0.01]))


@pytest.mark.parametrize(
    ("way", "named", "framed"),
    [
        ("none", [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]),
        ("instances", [1, 0, 1, 1, 0, 1], [1, 0, 1, 1, 0, 1]),  # two of three of each class
        ("tasks", [1, 0, 1, 1, 0, 1], [1, 1, 0, 1, 0, 1]),
        ("images", [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0]),  # four boxes of six, by the mean of their image
    ],
)
def test_which_boxes_are_believed(way: str, named: list[int], framed: list[int]) -> None:
    split = Split(2, way, 0.6, 0.02)
    split.count(drafts())
    got = split.trusted(drafts())
    assert [v.int().tolist() for v in got] == [named, framed]
    assert split.counts.shape == (2, BINS) and split.counts.sum() == 6


def test_where_a_box_is_not_believed_nothing_is_known() -> None:
    kept, boxes = torch.tensor([True, False, True, True, False, True]), drafts().boxes
    got = shown(drafts()._replace(boxes=boxes), kept, view(4), 0.4)
    assert got.state.tolist() == kept.int().tolist() and got.cls.tolist() == [0, -1, 0, 1, -1, 1]
    tags = torch.tensor([[1, 1], [1, 1], [1, 0], [-1, 1]], dtype=torch.int8)
    assert settled(tags, boxes, kept).int().tolist() == [[1, 0], [1, 1], [0, 1], [0, 1]]


def test_positions_outside_the_first_view_and_the_surest_answers() -> None:
    said = dense()
    moved = View(torch.zeros(3, 3, SIDE, SIDE), torch.tensor([[[1.0, 0, 8], [0, 1, -8]]]).repeat(3, 1, 1), view().size)
    inside = in_both(moved, said.at)
    for p, (x, y) in enumerate(said.at.tolist()):
        assert inside[:, p].tolist() == [0 <= x + 8 < SIDE and 0 <= y - 8 < SIDE] * 3
    tags = torch.tensor([[1, 0, 1, 1], [0, -1, 0, 1], [1, 1, 0, 0]], dtype=torch.int8)
    xyxy, score, cls = candidates(said, tags, 7)
    for b in range(3):
        able: list[Any] = [
            (said.score[b, p, c].item(), c, p) for p in range(len(said.at)) for c in range(4) if tags[b, c] != 0
        ]
        for k, (value, c, p) in enumerate(sorted(able, reverse=True)[:7]):
            assert score[b, k].item() == pytest.approx(value) and cls[b, k] == c
            assert torch.equal(xyxy[b, k], said.xyxy[b, p])
