"""The detector: its loss against plain loops over positions, and what of boxes reaches it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from modicum.core.dataset import HUMAN, Dataset
from modicum.core.errors import NeedsError
from modicum.core.loss import value
from modicum.core.recipe import PLAIN
from modicum.core.tables import LOOKED, table
from modicum.engine.dense import boxes_of
from modicum.functional.assign import class_targets, in_view, objects
from modicum.testing import toy
from modicum.testing.case import Case

from .test_wsss import scene

SMALL = {"width": 8, "depth": 1}
Row = tuple[int, int | None, float, tuple[float, float, float, float]]  # image, class, value, box


def world(rows: list[Row], looked: list[int], side: int = toy.SIDE, images: int = 2) -> toy.World:
    """Images with these boxes, of which these were looked through."""
    data = Dataset.build([f"{i}.png" for i in range(images)], toy.CLASSES, split="train", height=side, width=side)
    if rows or looked:
        image, cls, values, xyxy = ([r[k] for r in rows] for k in range(4))
        corner = {n: [float(b[k]) for b in xyxy] for k, n in enumerate(("x0", "y0", "x1", "y1"))}
        given: dict[str, Any] = {"row": image, "kind": "boxes", "value": values, **corner, "class": cls}
        said = data.delta(source="x", who=HUMAN, **given)
        data += replace(said, looked=table(LOOKED, row=looked, kind="boxes", complete=1, source=0))
    pixels = toy.pixels_of(toy.pictures()[0][:images, :side, :side])
    return toy.World(data, pixels, np.ones(images, bool), np.zeros(images, np.int64), {})


def loop(given: toy.World, **settings: Any) -> Any:
    case = Case.open("detector")
    recipe = case.recipe(2, 2).but(views={"weak": PLAIN, "strong": PLAIN, "plain": PLAIN})
    return case.loop(given, method=case.method(**SMALL, **settings), recipe=recipe)


def terms(given: toy.World, **settings: Any) -> dict[str, tuple[float, float]]:
    """Totals and counts of the first batch, at the start."""
    run = loop(given, **settings)
    part = next(iter(run.feed.sweep(np.arange(len(given.data)), 8, ("weak",))))
    found = run.method.loss(run.nets.train(), {"l": part}, None)
    return {n: (t.total.item(), float(t.count)) for n, t in found.items()}


@pytest.mark.parametrize("assign", ["centre", "atss", "iou", "cost"])
def test_the_loss_against_plain_loops(assign: str) -> None:
    step = scene("detector", assign=assign, **SMALL)
    part, method = step.batch["l"], step.loop.method
    with torch.no_grad():
        said = step.nets["net"].dense(part["weak"])
        found = value(method.loss(step.nets, step.batch, step.clock)).item()
    boxes = in_view(part.labels.boxes, part.views["weak"], method.least)
    mine = objects(boxes)
    images, positions, classes = said.logits.shape
    owner = method.owner(said, mine, images)
    target, known = class_targets(owner, mine, boxes, part.labels.looked, said.at, classes)
    assert (owner >= 0).any() and known.all()
    logits, points, far = said.logits.double().tolist(), said.at.tolist(), said.far.double().tolist()
    right = wrong = sides = weights = middles = 0.0
    count = 0
    for b in range(images):
        for p in range(positions):
            for c in range(classes):
                q = 1 / (1 + math.exp(-logits[b][p][c]))
                right += -0.25 * (1 - q) ** 2 * math.log(q) if target[b, p, c] else 0
                wrong += 0 if target[b, p, c] else -0.75 * q**2 * math.log(1 - q)
            if (m := int(owner[b, p])) < 0:
                continue
            (x, y), true = points[p], mine.xyxy[m].tolist()
            left, up, rest, down = x - true[0], y - true[1], true[2] - x, true[3] - y
            s = math.sqrt(min(left, rest) / max(left, rest) * min(up, down) / max(up, down))
            ours = (x - far[b][p][0], y - far[b][p][1], x + far[b][p][2], y + far[b][p][3])
            both = max(min(ours[2], true[2]) - max(ours[0], true[0]), 0) * max(
                min(ours[3], true[3]) - max(ours[1], true[1]), 0
            )
            union = (ours[2] - ours[0]) * (ours[3] - ours[1]) + (true[2] - true[0]) * (true[3] - true[1]) - both
            frame = (max(ours[2], true[2]) - min(ours[0], true[0])) * (max(ours[3], true[3]) - min(ours[1], true[1]))
            q = 1 / (1 + math.exp(-said.middle[b, p].item()))
            sides += s * (1 - both / union + (frame - union) / frame)
            middles -= s * math.log(q) + (1 - s) * math.log(1 - q)
            weights, count = weights + s, count + 1
    expected = (right + wrong) / (count + images) + sides / weights + middles / count
    assert found == pytest.approx(expected, rel=1e-4)


def test_boxes_move_with_the_view() -> None:
    """A disc's box, as the view shows it, still holds the bright pixels."""
    step = scene("detector", **SMALL)
    part = step.batch["l"]
    shown = in_view(part.labels.boxes, part.views["weak"], 0.0)
    checked = 0
    for box, cls, image in zip(shown.xyxy, shown.cls, shown.image, strict=True):
        bright = part["weak"][image].mean(0) > 125 / 255
        if toy.CLASSES[int(cls)] != "disc" or not bright.any():
            continue
        y, x = bright.nonzero(as_tuple=True)
        inside = (x + 0.5 >= box[0]) & (x + 0.5 <= box[2]) & (y + 0.5 >= box[1]) & (y + 0.5 <= box[3])
        assert inside.float().mean() > 0.9
        checked += 1
    assert checked


BOX: Row = (0, 1, 1.0, (2, 2, 14, 14))


def test_a_class_is_background_only_where_it_was_looked_for() -> None:
    nobody, one, both = (terms(world([BOX], looked)) for looked in ([], [0], [0, 1]))
    assert nobody["class"][0] < one["class"][0] < both["class"][0]
    assert nobody["sides"] == one["sides"] == both["sides"]
    count = one["middle"][1]
    assert count > 0 and one["class"][1] == count + 2


def test_ignored_boxes_and_boxes_of_no_class_are_neither() -> None:
    none = terms(world([(0, 1, 1.0, (5, 5, 5, 9)), (0, 1, 1.0, (9, 9, 9, 9))], [0]))
    assert none["sides"] == none["middle"] == (0, 0) and none["class"][1] == 2, "boxes of no area are no boxes"
    ignored, unnamed = terms(world([(0, 1, 0.0, BOX[3])], [0])), terms(world([(0, None, 1.0, BOX[3])], [0]))
    for found in (ignored, unnamed):
        assert found["sides"] == (0, 0) and found["middle"] == (0, 0)
    assert unnamed["class"][0] < ignored["class"][0] < none["class"][0], "one class is hidden, or all"


@pytest.mark.parametrize("looked", [[], [0, 1]])
def test_without_boxes_it_says_what_is_missing(looked: list[int]) -> None:
    with pytest.raises(NeedsError, match="boxes"):
        loop(world([], looked)).run()


def test_a_batch_without_objects_teaches_what_is_background() -> None:
    run = loop(world([BOX], [0, 1]))
    part = next(iter(run.feed.sweep(np.array([1]), 8, ("weak",))))
    net = run.nets["net"].train()
    found = value(run.method.loss(run.nets, {"l": part}, None))
    found.backward()
    assert found > 0 and net.detector.cells.bias.grad.gt(0).all(), "all classes become less likely"


def test_boxes_too_small_for_any_position_are_told() -> None:
    found = terms(world([(0, 1, 1.0, (3.2, 3.2, 4.8, 4.8)), BOX], [0]))
    assert found["lost"] == (1, 2)


def test_images_of_one_pixel() -> None:
    case = Case.open("detector")
    given = world([(0, 1, 1.0, (0, 0, 1, 1))], [0, 1], side=1)
    run = loop(given)
    run.run()
    assert all(v.isfinite().all() for v in run.nets.state_dict().values())
    found = next(iter(boxes_of(run.nets["net"], [np.full((1, 1, 3), 90, np.uint8)])))
    assert found.xyxy.shape == (len(found.cls), 4) and case.card.makes == ("net:boxes",)


def test_it_finds_the_shapes() -> None:
    """Bars, posts and discs, 120 small steps: the surest box of an image is the toy's and has its class."""
    case = Case.open("detector")
    recipe = case.recipe(120, 16)
    run = case.loop(recipe=recipe.but(optim=recipe.optim.but(lr=0.01)), method=case.method(width=16, depth=1))
    run.run()
    images, truth = toy.pictures(toy.POOL)
    said = list(boxes_of(run.nets["net"], images, [(32, 48)] * len(images), batch=7))
    best = [(f.xyxy[0], int(f.cls[0])) for f in said]
    assert np.mean([c == t for (_, c), t in zip(best, truth, strict=True)]) > 0.8
    frame = np.array([6, 4, 42, 28])  # of 2, 2, 14, 14 in an image of 16, told in one of 48 x 32
    assert np.median([np.abs(box - frame).max() for box, _ in best]) < 4
    assert all((np.diff(f.score) <= 0).all() for f in said)
