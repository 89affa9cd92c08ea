"""The segmenter: its loss against plain loops over pixels, and what of masks reaches it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from modicum.core.dataset import HUMAN, Dataset
from modicum.core.errors import NeedsError
from modicum.core.loss import value
from modicum.core.recipe import PLAIN
from modicum.functional.drafts import png
from modicum.methods.segment.segmenter import dice
from modicum.testing import toy
from modicum.testing.case import Case

from .test_wsss import scene

SIDE = toy.SIDE


def slow(logits: Tensor, target: Tensor, weight: float) -> float:
    """Both terms, pixel by pixel."""
    total, known, overlaps = 0.0, 0, []
    for image, true in zip(logits.double().tolist(), target.tolist(), strict=True):
        sums = {c: [0.0, 0.0, 0.0] for c in range(len(image))}
        for y in range(len(true)):
            for x in range(len(true[0])):
                if true[y][x] == 255:
                    continue
                values = [plane[y][x] for plane in image]
                norm = math.log(sum(map(math.exp, values)))
                total, known = total + norm - values[true[y][x]], known + 1
                for c, v in enumerate(values):
                    p, t = math.exp(v - norm), float(true[y][x] == c)
                    sums[c] = [a + b for a, b in zip(sums[c], (p * t, p, t))]
        overlaps += [1 - (2 * pt + 1) / (p + t + 1) for pt, p, t in sums.values() if t]
    return total / known + weight * sum(overlaps) / len(overlaps)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_loss_against_plain_loops(weight: float) -> None:
    step = scene("segmenter", dice=weight)
    net, part = step.nets["net"], step.batch["l"]
    target = step.loop.method.target(part)
    assert {0, 1, 2, 3} <= set(target.unique().tolist()) <= {0, 1, 2, 3, 255}
    with torch.no_grad():
        logits = net(part["weak"]).masks
        found = value(step.loop.method.loss(step.nets, step.batch, step.clock)).item()
    assert found == pytest.approx(slow(logits, target, weight), rel=1e-4)


def test_masks_move_with_the_view() -> None:
    """The bright pixels of a toy image are its mask: they must still be in the moved view."""
    step = scene("segmenter")
    part = step.batch["l"]
    target, bright = step.loop.method.target(part), part["weak"].mean(1) > 125 / 255
    known = (target != 255) & (part["weak"].mean(1) > 0)
    agree = ((target > 0) == bright)[known].float().mean()
    assert agree > 0.85 and not torch.equal(part.views["weak"].affine, torch.eye(2, 3).expand(len(target), 2, 3))
    moved = part["weak"].sum(1) == 0
    assert (target[moved] == 255).float().mean() > 0.9, "what lies outside of the image is unknown"


def test_an_image_without_known_pixels_adds_nothing() -> None:
    logits, target = torch.randn(2, 4, 3, 3), torch.randint(0, 4, (2, 3, 3))
    target[1] = 255
    values, there = dice(logits, target)
    assert not there[1].any() and torch.isfinite(values).all()
    assert torch.equal(dice(logits[:1], target[:1])[0], values[:1])


def world(confidence: list[float | None], who: str = HUMAN) -> toy.World:
    """Two images with the left half as a mask of class 2; nobody looked through them."""
    data = Dataset.build(["0.png", "1.png"], toy.CLASSES, split="train", height=SIDE, width=SIDE)
    half = png(np.arange(SIDE) < np.full((SIDE, 1), SIDE // 2))
    said = {"row": [0, 1], "kind": "masks", "confidence": confidence, "data": [half] * 2, "class": [2, 2]}
    pixels = toy.pixels_of(toy.pictures()[0][:2])
    return toy.World(data + data.delta(source="x", who=who, **said), pixels, np.ones(2, bool), np.array([2, 2]), {})


def test_only_sure_masks_are_believed() -> None:
    case = Case.open("segmenter")
    recipe = case.recipe(2).but(views={"weak": PLAIN, "strong": PLAIN, "plain": PLAIN})
    for least, expected in ((0.0, [128, 128]), (0.5, [0, 128]), (1.0, [0, 128])):
        loop = case.loop(world([0.4, None]), method=case.method(sure=least), recipe=recipe)
        part = next(iter(loop.feed.sweep(np.arange(2), 2, ("weak",))))
        target = loop.method.target(part)
        assert [(t == 3).sum().item() for t in target] == expected
        assert (target[target != 3] == 255).all(), "what nobody looked at is unknown"


def test_without_masks_it_says_what_is_missing() -> None:
    case = Case.open("segmenter")
    with pytest.raises(NeedsError, match="masks"):
        case.loop(toy.world(())).run()


def test_it_finds_the_shapes() -> None:
    """Bars, posts and discs, 120 small steps: most pixels get their class."""
    case = Case.open("segmenter")
    recipe = case.recipe(120, 16)
    loop = case.loop(recipe=recipe.but(optim=recipe.optim.but(lr=0.03)))
    loop.run()
    part = next(iter(loop.feed.sweep(np.arange(toy.POOL), toy.POOL)))
    said, true = loop.nets["net"].eval()(part["plain"]).masks.argmax(1), part.labels.masks()
    assert (said == true)[true != 255].float().mean() > 0.8
