"""W2N: the shape of its program, what each stage believes, and what is never called background."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modicum.core.dataset import HUMAN, MODEL, Dataset
from modicum.core.errors import NeedsError
from modicum.core.loss import Loss
from modicum.core.program import Collect, Train
from modicum.core.tables import LOOKED, table
from modicum.functional.assign import objects
from modicum.nn.drafts import DRAFTS, MOST, Drafts, read, shown
from modicum.testing import toy
from modicum.testing.case import Case

SMALL = {"width": 8, "depth": 1}
BOX: dict[str, Any] = {"x0": 3.0, "y0": 2.0, "x1": 13.0, "y1": 12.0}


def world(tags: bool = True, boxes: bool = True, wrong: int = 0) -> toy.World:
    """Tags of all images; of half of them a model's boxes, of which these many first ones are of an absent class."""
    images, truth = (a[: toy.POOL] for a in toy.pictures())
    many = len(truth)
    data = Dataset.build([f"{i}.png" for i in range(many)], toy.CLASSES, split="train", height=16, width=16)
    if tags:
        row, every = np.repeat(np.arange(many), 3), np.tile(np.arange(3), many)
        told: dict[str, Any] = {"value": (truth[row] == every).astype(np.float32), "class": every}
        data += data.delta(source="t", who=HUMAN, row=row, kind="tags", **told)
    if boxes:
        rows = np.arange(0, many, 2)
        cls = (truth[rows] + (np.arange(len(rows)) < wrong)) % 3
        about = {**BOX, "class": cls}
        said = data.delta(source="w", who=MODEL, row=rows, kind="boxes", **about)
        data += replace(said, looked=table(LOOKED, row=rows, kind="boxes", complete=1, source=0))
    return toy.World(data, toy.pixels_of(images), np.ones(many, bool), truth, {})


def loop(given: toy.World | None = None, steps: int = 8, **settings: Any) -> Any:
    case = Case.open("w2n")
    return case.loop(given or world(), method=case.method(**{**SMALL, **settings}), recipe=case.recipe(steps, 12))


def put(run: Any, given: toy.World, sure: Any = 1.0, sigma: Any = 0.0) -> None:
    """The boxes that the images came with as drafts that were drawn."""
    many = len(given.truth)
    values = torch.full((many, MOST, 8), torch.nan)
    rows = torch.arange(0, many, 2)
    values[rows, 0] = torch.tensor([*BOX.values(), 0, 1, 0, 0])
    values[rows, 0, 4] = torch.from_numpy(given.truth)[rows].float()
    values[rows, 0, 6], values[rows, 0, 7] = (torch.as_tensor(v).expand(many)[rows].float() for v in (sure, sigma))
    run.feed.put(DRAFTS, values)


def drawn(run: Any, upto: int, **drafts: Any) -> dict[str, Any]:
    """The batch of a Train phase after all phases before it, of which no step is taken; drafts: of `put`, in place of
    those that are drawn."""
    run.nets.train()
    if drafts:
        put(run, **drafts)
    for number, phase in enumerate(run.program[:upto]):
        if isinstance(phase, Collect) and not (drafts and phase.name == "draw"):
            run.collect(phase, number, run.nets)
    phase = run.program[upto]
    return {n: run.feed.draw(s, n, 0) for n, s in phase.streams.items()}


def place(run: Any, name: str) -> int:
    return next(i for i, p in enumerate(run.program) if p.name == name)


def test_the_shape_of_the_program() -> None:
    run = loop(steps=20, rounds=2, first=0.4)  # 8, and three times 4
    names = [p.name for p in run.program]
    assert names == ["adapt", "draw", "tally", "learn", "draw", "adapt", "draw", "tally", "learn"]
    trains = [p for p in run.program if isinstance(p, Train)]
    assert [p.steps for p in trains] == [8, 4, 4, 4] and all(p.carry and not p.lane for p in trains)
    learn: Any = run.program[3]
    assert [p.streams["d"].rows for p in run.program if p.name == "adapt"] == ["boxes", "tagged"]
    assert {n: (s.rows, s.views) for n, s in learn.streams.items()} == {
        "l": ("tagged", ("weak",)), "u": ("tagged", ("weak", "strong"))}  # fmt: skip
    alone: Any = loop(rounds=1, weight=0.0).program
    assert [p.name for p in alone] == ["adapt", "draw", "tally", "learn"] and set(alone[-1].streams) == {"l"}
    for share, name in ((0.0, "learn"), (1.0, "adapt")):
        (only,) = (p for p in loop(rounds=1, first=share).program if isinstance(p, Train))
        assert only.name == name and only.steps == 8


def test_boxes_of_absent_classes_are_no_drafts_and_what_is_drawn_is_of_classes_that_are_there() -> None:
    given = world(wrong=5)
    run = loop(given, rounds=1)
    part = next(iter(run.feed.sweep(np.arange(12), 12, ("plain",))))
    first = run.method.drafts(part, part.labels.tagged(3))
    assert first.boxes.image.tolist() == [10] and first.boxes.xyxy.tolist() == [[3, 2, 13, 12]]
    assert first.boxes.cls.tolist() == [given.truth[10]] and first.sure == 1 and first.sigma == 0
    run = loop(given, rounds=1)
    run.run()
    after = run.feed.columns[DRAFTS]
    there = ~after[..., 0].isnan()
    cls = torch.from_numpy(given.truth)[:, None].expand_as(there)
    assert torch.equal(after[..., 4][there].long(), cls[there])
    assert there[10::2, 0].all(), "what had a draft has one"
    corners = after[..., :4][there]
    assert corners.min() >= 0 and corners.max() <= 16 and (corners[:, 2:] > corners[:, :2]).all()


@pytest.mark.parametrize("adapt", ["growth", "containment", "none"])
def test_adapting_is_the_detectors_loss_and_one_term(adapt: str) -> None:
    run = loop(adapt=adapt)
    at = place(run, "adapt")
    batch = drawn(run, at)
    terms = run.method.loss(run.nets, batch, run.clock(run.program[at], at, 0))
    part = batch["d"]
    said = run.nets["net"].dense(part["weak"])
    drafts = run.method.drafts(part, part.labels.tagged(3))
    boxes = shown(drafts, torch.ones_like(drafts.sure, dtype=torch.bool), part.views["weak"], run.method.least)
    looked = torch.ones(len(part.rows), 3, dtype=torch.bool)
    for b, row in enumerate(part.rows.tolist()):  # no draft of the class that is there
        looked[b, int(run.feed.data.tags[row].argmax())] = row % 2 == 0
    plain = run.method.against(said, boxes, looked)
    for name, term in plain.items():
        assert terms[name].total.item() == pytest.approx(term.total.item(), rel=1e-5)
    extra = {n: t for n, t in terms.items() if n not in plain}
    assert {n: t.weight for n, t in extra.items()} == ({} if adapt == "none" else {adapt: 0.1})
    if adapt == "growth":
        known = objects(boxes)
        owner, total = run.method.owner(said, known, len(part.rows)), 0.0
        for b, p in (owner >= 0).nonzero().tolist():
            (x0, y0, x1, y1), (a0, b0, a1, b1) = said.xyxy[b, p].tolist(), known.xyxy[owner[b, p]].tolist()
            total += max(0.0, np.log((a1 - a0) * (b1 - b0)) - np.log((x1 - x0) * (y1 - y0)))
        assert float(extra[adapt].count) == (owner >= 0).sum() > 0
        assert extra[adapt].total.item() == pytest.approx(total, rel=1e-4) and total > 0


def learned(given: toy.World, **settings: Any) -> tuple[Loss, Tensor]:
    """The terms at the first `learn`, and how the class term pulls each class's last bias."""
    run = loop(given, weight=0.0, **settings)
    at = place(run, "learn")
    batch = drawn(run, at, given=given)
    terms = run.method.loss(run.nets, batch, run.clock(run.program[at], at, 0))
    (pull,) = torch.autograd.grad(terms["class"].total, run.nets["net"].detector.cells.bias)
    return terms, pull


def test_an_image_of_which_no_box_is_believed_is_not_all_background() -> None:
    given = world()
    posts = toy.World(given.data, given.pixels, given.truth == 1, given.truth, {})
    terms, pull = learned(posts, share=0.0, steady=0.0)
    assert terms["named"].total == 0 == terms["framed"].total and float(terms["sides"].count) == 0
    assert pull[1] == 0 and pull[0] > 0 and pull[2] > 0, "what is there is not called background; what is not, is"
    terms, pull = learned(posts, share=1.0, steady=0.0)
    assert terms["named"].total == terms["named"].count and pull[1] != 0
    assert float(terms["sides"].count) == 0 and terms["framed"].total == 0, "a class may be believed and sides not"


def test_each_task_learns_from_its_own_boxes() -> None:
    given = world()
    run = loop(given, share=0.5, steady=0.4, weight=0.0)
    at, row = place(run, "learn"), torch.arange(toy.POOL)
    batch = drawn(run, at, given=given, sure=row // 2 % 2, sigma=row // 4 % 2)
    terms = run.method.loss(run.nets, batch, run.clock(run.program[at], at, 0))
    part = batch["l"]
    drafts: Drafts = read(part)
    named, framed = run.nets["split"].trusted(drafts)
    assert named.any() and framed.any() and not torch.equal(named, framed)
    said = run.nets["net"].dense(part["weak"])
    for names, kept in ((("class",), named), (("sides", "middle"), framed)):
        looked = torch.from_numpy(run.feed.data.tags == 0)[part.rows]
        looked[drafts.boxes.image[kept], drafts.boxes.cls[kept]] = True
        plain = run.method.against(said, shown(drafts, kept, part.views["weak"], run.method.least), looked)
        for name in names:
            assert terms[name].total.item() == pytest.approx(plain[name].total.item(), rel=1e-5)
            assert float(terms[name].count) == pytest.approx(float(plain[name].count), rel=1e-5)


def test_the_teacher_teaches_sides_at_last_alone_and_classes_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modicum.nn.drafting.LOW", 0.2)
    run = loop(steps=40, tau=0.3, steady=10.0, weight=3.0)
    run.run()
    at = len(run.program) - 1
    batch = {n: run.feed.draw(s, n, 0) for n, s in run.program[at].streams.items()}
    clock = run.clock(run.program[at], at, 0)
    early, late = (run.method.loss(run.nets, batch, replace(clock, done=done)) for done in (0.0, 0.95))
    assert "told sides" not in early and late["told sides"].weight == 3.0 == early["told class"].weight
    assert float(late["told middle"].count) > 0
    run = loop(tau=0.0)
    batch = drawn(run, place(run, "learn"))
    run.nets["ema"].net.detector.cells.bias.data[:] = 3.0  # it finds every class everywhere
    net = copy.deepcopy(run.nets["net"])
    part = batch["u"]
    said = net.dense(part["strong"])
    said.logits.retain_grad()
    terms = run.method.told(run.nets["ema"].net, part, said, False)
    terms["told class"].total.backward()
    tags = part.labels.tagged(3)
    slope = said.logits.grad.amin(1)  # a position is pulled up where an object is taught
    assert (slope[tags == 0] >= 0).all() and (slope[tags == 1] < 0).any()


def test_without_boxes_or_tags_it_says_what_is_missing() -> None:
    with pytest.raises(NeedsError, match="boxes"):
        loop(world(boxes=False)).run()
    with pytest.raises(NeedsError, match="tags"):
        loop(world(tags=False)).run()


def test_the_average_is_delivered() -> None:
    run = loop()
    run.run()
    assert run.method.deliver(run.nets) is run.nets["ema"].net
