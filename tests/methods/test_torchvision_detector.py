"""torchvision's detectors as a method: which images are drawn, what is hidden from them, and that they learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from modicum.core.batch import Boxes
from modicum.core.dataset import HUMAN
from modicum.core.errors import NeedsError
from modicum.core.recipe import PLAIN
from modicum.core.tables import LOOKED, table
from modicum.engine.dense import boxes_of
from modicum.methods.boxes.torchvision_detector import painted
from modicum.models.doors import make
from modicum.testing import toy
from modicum.testing.case import Case

from .test_detector import BOX, Row, world

KINDS = ("faster-rcnn", "fcos")


def loop(given: toy.World, steps: int = 2, **settings: Any) -> Any:
    case = Case.open("torchvision-detector")
    recipe = case.recipe(steps, 4).but(views={"weak": PLAIN, "strong": PLAIN, "plain": PLAIN})
    return case.loop(given, method=case.method(**settings), recipe=recipe)


def terms(given: toy.World, **settings: Any) -> dict[str, float]:
    """Values of the loss on all images, at the start."""
    run = loop(given, **settings)
    part = next(iter(run.feed.sweep(np.arange(len(given.data)), 8, ("weak",))))
    torch.manual_seed(0)
    found = run.method.loss(run.nets.train(), {"l": part}, None)
    return {n: t.total.item() / max(float(t.count), 1) for n, t in found.items()}


def test_images_that_were_looked_through_in_part_are_left_out() -> None:
    run = loop(world([BOX, (1, 0, 1.0, (3, 3, 9, 9))], [1]))
    run.run()
    assert run.feed.columns["complete"].tolist() == [0, 1]
    assert run.feed.rows(run.program[1].streams["l"].rows).tolist() == [1]


def test_one_class_that_was_not_looked_for_is_enough() -> None:
    given = world([BOX, (1, 0, 1.0, (3, 3, 9, 9))], [1])
    said = given.data.delta(source="y", who=HUMAN)
    every: dict[str, Any] = {"row": [0, 0], "kind": "boxes", "complete": 1, "source": 0, "class": [0, 1]}
    data = given.data + replace(said, looked=table(LOOKED, **every))
    run = loop(replace(given, data=data))
    run.run()
    assert run.feed.columns["complete"].tolist() == [0, 1]


@pytest.mark.parametrize("looked", [[], [1]])
def test_without_such_images_it_says_what_is_missing(looked: list[int]) -> None:
    """Nobody looked at the image with the box; or nothing was drawn at all."""
    with pytest.raises(NeedsError, match="no image"):
        loop(world([BOX] if not looked else [], [])).run()


def test_what_is_ignored_is_painted_over_but_for_what_is_known() -> None:
    net = make("tiny-conv", classes=3, channels=3, side=16)
    net.mean += 0.25
    x, state = torch.rand(2, 3, 16, 16), torch.tensor([0, 1, 0], dtype=torch.int8)
    xyxy = torch.tensor([[2.0, 2, 10, 10], [6.0, 6, 14, 14], [0.0, 0, 16, 2.4]])
    shown = painted(x, Boxes(xyxy, torch.tensor([0, 1, 2]), state, torch.tensor([0, 0, 1])), net)
    for i, row, column in np.ndindex(2, 16, 16):
        first = i == 0 and 2 <= row < 10 and 2 <= column < 10 and not (row >= 6 and column >= 6)
        over = first or (i == 1 and row < 2)
        expected = torch.full((3,), 0.25) if over else x[i, :, row, column]
        assert torch.equal(shown[i, :, row, column], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_ignored_changes_nothing_but_what_it_covers(kind: str) -> None:
    """Boxes without area, of no class or to be ignored reach torchvision neither as objects nor as errors."""
    flat: Row = (0, 1, 1.0, (5, 5, 5, 9))
    plain, ignored = (terms(world([BOX, extra], [0, 1]), kind=kind) for extra in (flat, (0, 1, 0.0, (5, 5, 5, 9))))
    assert plain == ignored and plain["hidden"] == 0.5 and all(map(np.isfinite, plain.values()))
    unnamed = terms(world([(0, None, 1.0, BOX[3])], [0, 1]), kind=kind)
    assert unnamed["hidden"] == 1 and unnamed != terms(world([(0, 1, 1.0, BOX[3])], [0, 1]), kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_objects_and_of_one_pixel(kind: str) -> None:
    for given in (world([BOX], [0, 1]), world([(0, 1, 1.0, (0, 0, 1, 1))], [0, 1], side=1)):
        run = loop(given, kind=kind)
        run.run()
        assert all(v.isfinite().all() for v in run.nets.state_dict().values())


@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_the_shapes(kind: str) -> None:
    """Bars, posts and discs, 120 small steps: the surest box of an image is the toy's, and has its class mostly."""
    case = Case.open("torchvision-detector")
    recipe = case.recipe(120, 16)
    run = case.loop(recipe=recipe.but(optim=recipe.optim.but(lr=0.003)), method=case.method(kind=kind))
    run.run()
    images, truth = toy.pictures(toy.POOL)
    said = list(boxes_of(run.nets["net"], images, [(32, 48)] * len(images), batch=7))
    best = [(f.xyxy[0], int(f.cls[0])) for f in said]
    frame = np.array([6, 4, 42, 28])  # of 2, 2, 14, 14 in an image of 16, told in one of 48 x 32
    assert np.mean([c == t for (_, c), t in zip(best, truth, strict=True)]) > 0.6  # by chance a third
    assert np.median([np.abs(box - frame).max() for box, _ in best]) < 4
    assert all((np.diff(f.score) <= 0).all() for f in said)
