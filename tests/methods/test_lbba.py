"""LBBA: the boosted loss and the adjuster's against plain loops, what is masked, and what each of the two may see."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from modicum.core.errors import NeedsError
from modicum.core.program import Train
from modicum.engine.arms import Bench
from modicum.functional.boxes import encode, iou, unpacked
from modicum.functional.geometry import warp_boxes
from modicum.functional.moves import jittered
from modicum.models import files
from modicum.nn.adjusting import NEAR, adjusting, known
from modicum.nn.regions import in_view
from modicum.testing import toy
from modicum.testing.case import Case, Scene
from modicum.testing.stand_ins import ToyBench

SMALL = {"width": 16, "thin": 4, "most": 12, "heads": 2}


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An adjuster of two stages on disk, that benches of toy data bring; its moves are large."""
    case = Case.open("lbba-adjuster")
    bench = case.bench(case.plain)
    torch.manual_seed(0)
    net = adjusting(bench.make("adjust"), 2, 16, 4).eval()
    for stage in net.mover.stages:
        torch.nn.init.normal_(stage[-1].weight, std=3)
    files.save(net, tmp_path)
    monkeypatch.setattr(ToyBench, "_brought", lambda self, role: Bench._brought(
        replace(self, brought={"adjust": tmp_path}), role))  # fmt: skip
    return net


def scene(name: str, number: int = 1, steps: int = 12, **settings: Any) -> Scene:
    """A step of one Train phase on toy data, after all that comes before it."""
    case = Case.open(name)
    loop = case.loop(method=case.method(**settings), recipe=case.recipe(steps))
    loop.nets.train()
    for k, phase in enumerate(loop.program[:number]):
        loop.at = (k, 0)
        loop.phase(phase, k)
    phase = loop.program[number]
    assert isinstance(phase, Train)
    clock = loop.clock(phase, number, 0)
    batch = {n: loop.feed.draw(s, n, 0, number, phase.lane) for n, s in phase.streams.items()}
    return Scene(loop, loop.nets, phase, clock, batch)


def shares(logits: Tensor, tags: list[int], masked: bool) -> list[float]:
    """A softmax, perhaps over the present classes alone and background."""
    some = [c for c in range(len(logits)) if not masked or c >= len(tags) or tags[c] or not (any(tags) or c >= 3)]
    whole = sum(math.exp(logits[c].item()) for c in some)
    return [math.exp(logits[c].item()) / whole if c in some else 0.0 for c in range(len(logits))]


def apart(scores: Tensor, boxes: Tensor, mine: list[int], many: int, tau: float, c: int) -> list[int]:
    taken: list[int] = []
    for r in sorted(mine, key=lambda r: (-scores[r, c].item(), r))[:many]:
        if all(iou(boxes[r], boxes[t]) <= tau for t in taken):
            taken.append(r)
    return taken


def told_by(scores: Tensor, boxes: Tensor, image: Tensor, tags: Tensor, many: Any, tau: float) -> list[Any]:
    """Of each region its class, 3 for none, and its weight."""
    out: list[Any] = []
    for r, b in enumerate(image.tolist()):
        mine = (image == b).nonzero()[:, 0].tolist()
        there = [c for c in range(3) if tags[b, c] == 1]
        seeds = [(s, c) for c in there for s in apart(scores, boxes, mine, many(len(mine)), tau, c)]
        if not seeds:
            out.append((3, 0.0))
            continue
        s, c = max(seeds, key=lambda seed: iou(boxes[r], boxes[seed[0]]).item())
        out.append((c if iou(boxes[r], boxes[s]) >= 0.5 else 3, scores[s, c].item()))
    return out


def expected(said: Any, boxes: Tensor, image: Tensor, tags: Tensor, masked: bool, moves: Any) -> dict[str, float]:
    """The terms of the equation, region by region."""
    own, many = tags[image].tolist(), len(boxes)
    where = torch.cat([said.where[image == b].softmax(0) for b in range(len(tags))])
    scores = torch.tensor([shares(z, t, masked) for z, t in zip(said.what, own, strict=True)]) * where
    out, means = {}, []
    for k, logits in enumerate(said.refined):
        told = told_by(scores, boxes, image, tags, lambda n: max(1, math.ceil(0.15 * n)), 0.2)
        logp = logits.log_softmax(1)
        out[f"refined {k + 1}"] = -sum(w * logp[r, y].item() for r, (y, w) in enumerate(told)) / many
        scores = torch.tensor([shares(z, t, masked)[:3] for z, t in zip(logits, own, strict=True)])
        means.append(scores)
    told = told_by(sum(means) / len(means), boxes, image, tags, lambda n: 50, 0.1)
    logits, offsets = said.fast
    out["fast class"] = out["fast moved"] = 0.0
    for r, (y, w) in enumerate(told):
        logp = logits[r].log_softmax(0)
        out["fast class"] -= w * (0.8 * logp[y].item() + 0.2 * logp.max().item()) / many
        if y < 3 and moves is not None:
            goal, good = moves(boxes[r : r + 1], image[r : r + 1])
            out["fast moved"] += bool(good) * w * smooth_l1_loss(offsets[r], goal[0], reduction="sum").item() / many
    return out


@pytest.mark.parametrize(("use", "masked"), [("last", True), ("first", False), ("none", True)])
def test_the_boosted_loss_against_plain_loops(brought: Any, use: str, masked: bool) -> None:
    step = scene("lbba", use=use, masked=masked, **SMALL)
    net, part = step.nets["net"].eval(), step.batch["l"]
    torch.nn.init.normal_(net.reader.fast.weight, std=0.3)
    with torch.no_grad():
        found = step.loop.method.loss(step.nets, step.batch, step.clock)
        boxes, image = in_view(part, "weak")
        said, tags = net.regions(part["weak"], boxes, image), part.labels.tagged(3)
        stage = {"last": 1, "first": 0}.get(use)
        moves = None if stage is None else lambda b, i: brought.moves(part["weak"], b, i, stage)
        wanted = expected(said, boxes, image, tags, masked, moves)
    assert tags.min() >= 0
    for name, value in wanted.items():
        if name not in found:
            assert use == "none" and name == "fast moved"
            continue
        assert (found[name].total / found[name].count).item() == pytest.approx(value, rel=1e-4), name
        assert value > 0
    if use != "none":
        assert 0 < found["believed"].total < found["believed"].count


def test_stages_come_one_after_the_other(brought: Any) -> None:
    step = scene("lbba", **SMALL)
    at = {use: [step.loop.method.but(use=use).stage(step.nets, d) for d in (0.0, 0.49, 0.5, 0.99, 1.0)] for use in (
        "all", "first", "last", "none")}  # fmt: skip
    assert at == {"all": [0, 0, 1, 1, 1], "first": [0] * 5, "last": [1] * 5, "none": [-1] * 5}


def test_the_booster_brings_the_adjuster_frozen_and_needs_no_other_image(brought: Any) -> None:
    """Nothing but the network on disk is handed over, and training leaves it as it was."""
    case = Case.open("lbba")
    loop = case.loop(method=case.method(**SMALL), recipe=case.recipe(4))
    assert loop.nets["adjust"].frozen and not any(p.requires_grad for p in loop.nets["adjust"].parameters())
    streams = [s for p in loop.program for s in (p.streams.values() if isinstance(p, Train) else [p.stream])]  # type: ignore[union-attr]
    assert {s.rows for s in streams} == {"tagged"}
    loop.run()
    for name, value in brought.state_dict().items():
        assert torch.equal(value, loop.nets["adjust"].state_dict()[name])
    assert not any(isinstance(v, Tensor) and v.shape[0] == toy.POOL for v in brought.state_dict().values() if v.ndim)


def test_what_moves_no_boxes_is_refused() -> None:
    case = Case.open("lbba")
    bench = case.bench(case.plain)
    with pytest.raises(NeedsError, match="does not move boxes"):
        case.method().build(bench.info(case.recipe(4)), lambda role, frozen=False: bench.make("net"))
    assert "adjust" not in case.method(use="none").build(bench.info(case.recipe(4)), bench.make)


# -- the adjuster ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [0, 1, 3])
def test_the_loop_of_the_adjuster(stages: int) -> None:
    case = Case.open("lbba-adjuster")
    loop = case.loop(method=case.method(stages=stages, **SMALL), recipe=case.recipe(70))
    trains = [p for p in loop.program if isinstance(p, Train)]
    assert [p.name for p in trains] == ["rough", *(f"{n}_{t}" for t in range(1, stages + 1) for n in ("weak", "again"))]
    steps = [p.steps for p in trains]
    assert sum(steps) == 70 and (steps[0] == 35 if stages else steps == [70])
    assert not stages or max(steps[1:]) - min(steps[1:]) <= 1
    assert len({p.lane for p in trains}) == len(trains), "each has a learning rate that falls on its own"
    assert len(loop.nets["adjust"].mover.stages) == stages + 1


def test_further_stages_leave_those_before_as_they_are() -> None:
    case = Case.open("lbba-adjuster")
    loop = case.loop(method=case.method(stages=2, **SMALL), recipe=case.recipe(10))
    seen: list[tuple[str, dict[str, Tensor]]] = []
    run = loop.phase

    def phase(given: Any, number: int) -> None:
        run(given, number)
        seen.append((given.name, {k: v.clone() for k, v in loop.nets["adjust"].state_dict().items()}))

    setattr(loop, "phase", phase)  # noqa: B010
    loop.run()
    learned = {"rough": "mover.stages.0", "again_1": "mover.stages.1", "again_2": "mover.stages.2"}
    before = seen[0][1]
    for name, now in seen:
        moved = {k for k in now if not torch.equal(now[k], before[k])}
        assert any(k.startswith(learned[name]) for k in moved) if name in learned else not moved
        assert name == "rough" or all(k.startswith(learned[name]) for k in moved)
        before = now
    assert len(seen) == 8


def pairs(part: Any, rough: list[tuple[Tensor, int, int]], least: float) -> list[tuple[Tensor, Tensor, int]]:
    """Boxes (box, whose, class or -1) with the true box that each is to become."""
    true, out = known(part), []
    for box, b, c in rough:
        mine = [k for k in range(len(true.cls)) if true.image[k] == b and (c < 0 or true.cls[k] == c)]
        best = max(mine, key=lambda k: iou(box, true.xyxy[k]).item(), default=-1)
        if best >= 0 and iou(box, true.xyxy[best]) >= least:
            out.append((box, true.xyxy[best], b))
    return out


def loss_of(step: Scene, found: list[tuple[Tensor, Tensor, int]], stage: int) -> float:
    net, x, total = step.nets["adjust"], step.batch["l"]["weak"], 0.0
    for box, goal, b in found:
        told = net.offsets(x[b : b + 1], box[None], torch.tensor([0]), stage)
        total += smooth_l1_loss(told, encode(goal, box)[None], reduction="sum").item()
    return total / len(found)


def test_the_first_stage_learns_from_rough_boxes_and_near_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    from modicum.core import draws

    monkeypatch.setattr(draws, "uniform", lambda seed, at, view, n: torch.full((len(at), n), 0.75))  # all alike
    step = scene("lbba-adjuster", reach=0.3, **SMALL)
    step.nets.eval()
    part = step.batch["l"]
    with torch.no_grad():
        found = step.loop.method.rough(step.nets, step.batch, step.clock)["moved"]
        true = known(part)
        drawn = []
        for box, b in zip(true.xyxy, true.image.tolist(), strict=True):
            side = (box[2:] - box[:2]).repeat(2)
            near = (box + 0.5 * 0.3 * side).clamp(0, toy.SIDE)
            drawn += [(near, box, b)] * 4
        boxes, image = in_view(part, "weak")
        some = [(box, b, -1) for box, b in zip(boxes, image.tolist(), strict=True)]
        near = pairs(part, some, 0.3)
        assert near and len(near) < len(some) and found.count == len(drawn) + len(near)
        assert (found.total / found.count).item() == pytest.approx(loss_of(step, drawn + near, 0), rel=1e-4)


def test_later_stages_learn_from_what_the_detector_chose() -> None:
    step = scene("lbba-adjuster", number=4, **SMALL)
    part, column = step.batch["l"], step.loop.feed.columns["chosen"]
    step.nets.eval()
    assert step.phase.name == "again_1" and column.shape == (toy.POOL, 12, 5)
    with torch.no_grad():
        found = step.loop.method.again_1(step.nets, step.batch, step.clock)["moved"]
        some, image = unpacked(part.columns["chosen"])
        view = part.views["weak"]
        xyxy, kept = warp_boxes(some[:, :4], image, view.affine, (toy.SIDE, toy.SIDE))
        rough = [(xyxy[m], int(image[m]), int(some[m, 4])) for m in range(len(some)) if kept[m] >= 0.5]
        near = pairs(part, rough, NEAR)
        assert near and found.count == len(near)
        assert (found.total / found.count).item() == pytest.approx(loss_of(step, near, 1), rel=1e-4)


def test_chosen_regions_are_of_present_classes_and_lie_in_the_image() -> None:
    step = scene("lbba-adjuster", number=4, **SMALL)
    column, data = step.loop.feed.columns["chosen"], step.loop.feed.data
    boxes, image = unpacked(column)
    assert len(boxes) and boxes[:, :4].min() >= 0 and boxes[:, :4].max() <= toy.SIDE
    assert all(data.tags[i, int(c)] == 1 for i, c in zip(image.tolist(), boxes[:, 4].tolist(), strict=True))
    given = step.loop.feed.columns["proposals"]
    for i in np.unique(image)[:6].tolist():
        mine = boxes[image == i, :4]
        assert all((given[i] - box).abs().amax(1).nan_to_num(9).min() < 1e-3 for box in mine)


def test_rough_boxes_come_nearer_to_true_ones() -> None:
    case = Case.open("lbba-adjuster")
    loop = case.loop(method=case.method(stages=0, **SMALL), recipe=case.recipe(200))
    loop.run()
    net: Any = loop.method.deliver(loop.nets)
    part = next(iter(loop.feed.sweep(np.arange(toy.POOL), toy.POOL)))
    true = known(part, "plain")
    luck = torch.rand(len(true.cls), 4, generator=torch.Generator().manual_seed(1))
    rough = jittered(true.xyxy, luck, 0.3)
    moved = net.adjust(part["plain"], rough, true.image, 0)
    assert iou(moved, true.xyxy).mean() > iou(rough, true.xyxy).mean() + 0.1
