"""Teachers of boxes: what their boxes teach, against plain loops, and what happens where there is nothing to teach."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modicum.core.dataset import HUMAN
from modicum.core.errors import NeedsError
from modicum.core.net import guessing
from modicum.core.recipe import PLAIN
from modicum.engine.dense import boxes_of
from modicum.functional.assign import class_targets, in_view, objects
from modicum.functional.mixture import lines
from modicum.functional.teacher import spread, through
from modicum.nn.detect import Dense, found
from modicum.testing import toy
from modicum.testing.case import Case, Scene

from .test_detector import BOX, world
from .test_wsss import scene

SMALL = {"width": 8, "depth": 1}
NAMES = ("box-teacher", "soft-teacher", "consistent-teacher")

ONE: dict[str, dict[str, Any]] = {"consistent-teacher": {"many": 0}}  # one threshold for all


def looks(at: Scene) -> tuple[Dense, Dense, Any]:
    """What the teacher says of the weak views and the student of the strong ones, and the way between them."""
    part, other = at.batch["l"], at.batch["u"]
    with guessing(at.nets["ema"].net), torch.no_grad():
        ours = at.nets["ema"].net.dense(other["weak"])
        said = at.nets["net"].dense(torch.cat([part["weak"], part["strong"], other["strong"]]))
    rows = slice(2 * len(part.rows), None)
    mine = said._replace(logits=said.logits[rows], middle=said.middle[rows], far=said.far[rows])
    return ours, mine, through(other.views["weak"], other.views["strong"])


def believed(ours: Dense, view: Any, b: int, p: int, c: int) -> float:
    """1 - what the teacher says at the place of a position, by the nearest position of its level; 0 outside."""
    side, (x, y) = view.pixels.shape[-1], (view.affine[b] @ torch.cat([ours.at[p], torch.ones(1)])).tolist()
    if not (0 <= x < side and 0 <= y < side):
        return 0.0
    level = (ours.stride == ours.stride[p]).nonzero()[:, 0].tolist()
    near = min(level, key=lambda q: (ours.at[q, 0].item() - x) ** 2 + (ours.at[q, 1].item() - y) ** 2)
    return 1 - 1 / (1 + math.exp(-ours.logits[b, near, c].item()))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_teacher_tells_against_plain_loops(name: str) -> None:
    at = scene(name, steps=6, tau=0.2, doubt=1.0, burn=0.0, weight=2.0, **SMALL, **ONE.get(name, {}))
    method: Any = at.loop.method
    ours, said, view = looks(at)
    boxes = in_view(found(ours, (16, 16), least=0.2), view, method.least)
    images, positions, classes = said.logits.shape
    mine = objects(boxes)
    owner = method.owner(said, mine, images)
    every = torch.ones(images, classes, dtype=torch.bool)
    target, known = class_targets(owner, mine, boxes, every, said.at, classes)
    soft, total, owned = name == "soft-teacher", 0.0, int((owner >= 0).sum())
    for b in range(images):
        weights = {}
        for p, c in np.ndindex(positions, classes):
            q = 1 / (1 + math.exp(-said.logits[b, p, c].item()))
            if target[b, p, c]:
                total -= 0.25 * (1 - q) ** 2 * math.log(q)
            elif known[b, p, c]:
                r = believed(ours, view, b, p, c)
                weights[p, c] = r if soft else float(r > 0), -0.75 * q**2 * math.log(1 - q)
        scale = len(weights) / max(1, sum(w for w, _ in weights.values()))
        total += scale * sum(w * value for w, value in weights.values())
    term = method.loss(at.nets, at.batch, at.clock)["told class"]
    assert owned > 0 and len(mine.cls) > 0 and term.weight == 2.0
    assert float(term.count) == owned + images and term.total.item() == pytest.approx(total, rel=1e-3)


def test_only_steady_boxes_teach_sides() -> None:
    at = scene("soft-teacher", steps=40, tau=0.3, low=0.2, steady=0.2, burn=0.0, **SMALL)
    ours, _, _ = looks(at)
    boxes = found(ours, (16, 16), least=0.2)
    assert boxes.score is not None
    method: Any = at.loop.method
    sigma = spread(boxes, ours.xyxy, method.owner(ours, boxes, len(ours.logits)))
    sure, firm, _ = method.lesson(at.nets, ours, (16, 16))
    assert len(sure.cls) == int((boxes.score > 0.3).sum()) < len(boxes.cls)
    assert len(firm.cls) == int((sigma < 0.2).sum()) and 0 < len(firm.cls) < len(boxes.cls)
    sure, firm, _ = method.but(steady=0.0).lesson(at.nets, ours, (16, 16))
    assert torch.equal(sure.xyxy, firm.xyxy), "without that rule, those that teach classes"


def some_tags(said: list[tuple[int, int, int]]) -> toy.World:
    """Boxes on the first half of the images; of the others these tags (row, class, 1 there, 0 not)."""
    given = Case.open("box-teacher").world()
    row, cls, value = (np.array(column) for column in zip(*said, strict=True))
    about: dict[str, Any] = {"row": row, "kind": "tags", "class": cls, "value": value.astype(np.float32)}
    more = given.data.delta(source="t", who=HUMAN, **about)
    return replace(given, data=given.data + more)


def told(given: toy.World, **settings: Any) -> tuple[dict[str, Any], Tensor]:
    """Terms, and how a class's last bias is pulled by what the teacher tells."""
    at = scene("box-teacher", given, burn=0.0, steps=4, **SMALL, **settings)
    at.nets.zero_grad()
    terms: Any = at.loop.method.loss(at.nets, at.batch, at.clock)  # type: ignore[attr-defined]
    terms["told class"].total.backward()
    return terms, at.nets["net"].detector.cells.bias.grad


def test_under_a_doubtful_box_nothing_is_said_to_be_background() -> None:
    plain, spared = (scene("box-teacher", steps=6, tau=0.6, burn=0.0, doubt=d, **SMALL) for d in (1.0, 0.05))
    ours, said, view = looks(plain)
    method: Any = spared.loop.method
    maybe, none = (m.lesson(plain.nets, ours, (16, 16)).maybe for m in (method, plain.loop.method))
    assert len(maybe.cls) and not maybe.state.any() and not len(none.cls)
    shown, classes = in_view(maybe, view, method.least), said.logits.shape[2]
    hidden = torch.zeros_like(said.logits, dtype=torch.bool)
    for xyxy, cls, image in zip(shown.xyxy, shown.cls, shown.image, strict=True):
        x, y = said.at.unbind(1)
        hidden[image, (x > xyxy[0]) & (x < xyxy[2]) & (y > xyxy[1]) & (y < xyxy[3]), cls] = True
    every = torch.ones(len(said.logits), classes, dtype=torch.bool)
    owner = torch.full(said.logits.shape[:2], -1)
    _, known = class_targets(owner, none, shown, every, said.at, classes)
    assert torch.equal(~known, hidden) and hidden.any()


def test_tags_drop_boxes_of_absent_classes_and_spare_present_ones() -> None:
    rows = [r for r in range(toy.POOL) if r // 3 % 2]  # those without boxes
    free = told(Case.open("box-teacher").world(), tau=0.05)[0]["boxes for classes"]
    absent = told(some_tags([(r, c, 0) for r in rows for c in range(3)]), tau=0.05)[0]["boxes for classes"]
    assert float(free.total) > 0 and float(absent.total) == 0
    terms, pull = told(some_tags([(r, 1, 1) for r in rows]), tau=1.0, doubt=1.0)
    assert float(terms["boxes for classes"].total) == 0
    assert pull[1] == 0 and pull[0] > 0 and pull[2] > 0, "there, but not found: not background"


@pytest.mark.parametrize("name", NAMES)
def test_a_teacher_that_finds_nothing_and_boxes_that_are_all_ignored(name: str) -> None:
    case = Case.open(name)
    unsure = case.loop(method=case.method(tau=1.0, burn=0.0, **SMALL, **({"low": 1.0} if name == NAMES[1] else {})))
    unsure.run()
    ignored = case.loop(world([(0, 1, 0.0, BOX[3])], [0]), method=case.method(tau=0.0, burn=0.0, **SMALL))
    ignored.run()
    for run in (unsure, ignored):
        assert all(v.isfinite().all() for v in run.nets.state_dict().values())


@pytest.mark.parametrize("name", NAMES)
def test_images_of_one_pixel(name: str) -> None:
    case = Case.open(name)
    given = world([(0, 1, 1.0, (0, 0, 1, 1))], [0], side=1)
    recipe = case.recipe(3, 2).but(views={"weak": PLAIN, "strong": PLAIN, "plain": PLAIN})
    run = case.loop(given, method=case.method(tau=0.0, burn=0.0, **SMALL), recipe=recipe)
    run.run()
    assert all(v.isfinite().all() for v in run.nets.state_dict().values())
    net = run.method.deliver(run.nets)
    shown = next(iter(boxes_of(net, [np.full((1, 1, 3), 90, np.uint8)])))
    assert shown.xyxy.shape == (len(shown.cls), 4)


def test_without_boxes_or_without_other_images_it_says_what_is_missing() -> None:
    case = Case.open("box-teacher")
    for given in (world([], []), world([], [0]), world([BOX], [0, 1])):
        with pytest.raises(NeedsError, match="boxes"):
            case.loop(given, method=case.method(burn=0.0, **SMALL)).run()


def test_the_teacher_begins_after_its_share_of_the_steps_and_not_at_all_without_weight() -> None:
    case = Case.open("box-teacher")
    loop = case.loop(steps=10, method=case.method(burn=0.3))
    assert [(p.steps, sorted(p.streams)) for p in loop.program] == [(3, ["l"]), (7, ["l", "u"])]  # type: ignore[union-attr]
    assert loop.program[1].carry and loop.program[1].streams["u"].rows == "~boxes"  # type: ignore[union-attr]
    for settings in ({"weight": 0.0}, {"burn": 1.0}):
        (only,) = case.loop(steps=10, method=case.method(**settings)).program
        assert only.steps == 10 and sorted(only.streams) == ["l"]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["box-teacher", "soft-teacher"])
def test_one_look_gives_what_a_look_from_each_score_on_gives(name: str) -> None:
    at = scene(name, steps=40, tau=0.35, doubt=0.1, burn=0.0, **SMALL)
    ours, _, _ = looks(at)
    method: Any = at.loop.method
    sure, _, maybe = method.lesson(at.nets, ours, (16, 16))
    alone, every = (found(ours, (16, 16), least=least) for least in (0.35, 0.1))
    assert every.score is not None
    low = every.score <= 0.35
    for mine, theirs in ((sure.xyxy, alone.xyxy), (sure.cls, alone.cls), (maybe.xyxy, every.xyxy[low])):
        assert torch.equal(mine, theirs) and len(mine)


def test_each_class_has_its_own_line() -> None:
    at = scene("consistent-teacher", steps=40, burn=0.0, doubt=0.06, **SMALL)
    ours, _, _ = looks(at)
    method: Any = at.loop.method
    assert (at.nets["scores"].values > 0).sum() > 100, "training fills it"
    at.nets["scores"].values[0] = torch.linspace(0.05, 0.1, 100)
    at.nets["scores"].values[0, 50:] = 0.99
    sure, firm, maybe = method.lesson(at.nets, ours, (16, 16))
    line = lines(at.nets["scores"].values, method.tau)
    every = found(ours, (16, 16))
    assert every.score is not None and firm is sure
    above = [s >= line[c].item() for s, c in zip(every.score.tolist(), every.cls.tolist(), strict=True)]
    doubtful = [s > 0.06 and not up for s, up in zip(every.score.tolist(), above, strict=True)]
    assert torch.equal(sure.xyxy, every.xyxy[above]) and torch.equal(maybe.xyxy, every.xyxy[doubtful])
    assert not (sure.cls == 0).any() and len(sure.cls) and len(maybe.cls)
    plain = method.but(many=0).lesson(at.nets, ours, (16, 16)).sure
    assert torch.equal(plain.xyxy, every.xyxy[every.score > method.tau])
