"""Boxes from tags: the losses of three methods against plain loops, proposals that move with the view, drafts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from modicum.core.dataset import HUMAN, MODEL, Dataset, Table
from modicum.core.errors import DataError, NeedsError
from modicum.functional.boxes import encode, iou
from modicum.methods.regions.found_boxes import FoundBoxes
from modicum.nn.regions import in_view
from modicum.testing import toy
from modicum.testing.case import Case, Scene

SMALL = {"width": 16, "thin": 4, "most": 12}


def scene(name: str, **settings: Any) -> Scene:
    """A step of the method on toy data, after its proposals were collected and three steps taken."""
    case = Case.open(name)
    loop = case.loop(method=case.method(**settings), recipe=case.recipe(8))
    loop.phase(loop.program[0], 0)
    phase: Any = loop.program[1]
    loop.optimisers[0] = loop.fresh(phase, loop.nets)
    for step in range(3):
        loop.step(phase, loop.nets, loop.clock(phase, 1, step))
    batch = {n: loop.feed.draw(s, n, 3, 1) for n, s in phase.streams.items()}
    return Scene(loop, loop.nets, phase, loop.clock(phase, 1, 3), batch)


def seeds_of(scores: Tensor, boxes: Tensor, mine: list[int], c: int, settings: dict[str, Any]) -> list[int]:
    """OICR's one seed of a class, or MIST's."""
    best = sorted(mine, key=lambda r: (-scores[r, c].item(), r))
    if "share" not in settings:
        return best[:1]
    taken: list[int] = []
    for r in best[: max(1, math.ceil(settings["share"] * len(mine)))]:
        if all(iou(boxes[r], boxes[t]) <= settings["near"] for t in taken):
            taken.append(r)
    return taken


def expected(said: Any, boxes: Tensor, image: Tensor, tags: Tensor, settings: dict[str, Any]) -> float:
    """The papers' losses, region by region, all tags known or none."""
    where = torch.cat([said.where[image == b].softmax(0) for b in range(len(tags))])
    scores = said.what.softmax(1) * where
    known = [b for b in range(len(tags)) if tags[b, 0] >= 0]
    total = 0.0
    for b in known:
        whole = scores[image == b].sum(0).clamp(1e-6, 1 - 1e-6).tolist()
        total -= sum(math.log(s if t else 1 - s) for s, t in zip(whole, tags[b].tolist(), strict=True)) / len(known)
    for k, logits in enumerate(said.refined):
        logp, part = logits.log_softmax(1), 0.0
        for b in known:
            mine = (image == b).nonzero()[:, 0].tolist()
            seeds = [(r, c) for c in range(3) if tags[b, c] == 1 for r in seeds_of(scores, boxes, mine, c, settings)]
            for r in mine if seeds else ():
                s, c = max(seeds, key=lambda seed: iou(boxes[r], boxes[seed[0]]).item())
                near, weight = iou(boxes[r], boxes[s]).item(), scores[s, c].item()
                y = c if near >= 0.5 else 3
                part -= weight * logp[r, y].item()
                if said.offsets and y < 3:
                    goal = encode(boxes[s], boxes[r])
                    part += weight * smooth_l1_loss(said.offsets[k][r, y], goal, reduction="sum").item()
        total += (settings.get("first", 1.0) if k == 0 else 1.0) * part / len(boxes)
        scores = logits.softmax(1)[:, :-1]
    return total


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("wsddn", {}), ("oicr", {"heads": 2, "first": 3.0}), ("oicr", {"heads": 1, "first": 1.0}),
        ("mist", {"heads": 2, "first": 3.0, "share": 0.5, "near": 0.2, "drop": 0.0}),
    ],
)  # fmt: skip
def test_the_loss_against_plain_loops(name: str, settings: dict[str, Any]) -> None:
    step = scene(name, **SMALL, **settings)
    net, part = step.nets["net"].eval(), step.batch["l"]
    with torch.no_grad():
        boxes, image = in_view(part, "weak")
        said = net.regions(part["weak"], boxes, image)
        tags = part.labels.tagged(3)
        found = step.loop.total_of(step.loop.method.loss(step.nets, step.batch, step.clock)).item()
    assert (tags == 1).any() and len(boxes) > 2 * len(tags)
    assert found == pytest.approx(expected(said, boxes, image, tags, settings), rel=1e-4)


@pytest.mark.parametrize("name", ["oicr", "mist"])
def test_regions_are_refined_after_a_while(name: str) -> None:
    step = scene(name, after=0.9, **SMALL)
    early = step.loop.method.loss(step.nets, step.batch, step.clock)
    assert {k for k, t in early.items() if t.weight} == {"tags"} and len(early) > 3


def test_hidden_cells_are_drawn_by_the_image_and_the_step() -> None:
    step = scene("mist", **SMALL)
    values = [step.loop.method.loss(step.nets.eval(), step.batch, step.clock)["tags"].total for _ in range(2)]
    other = step.loop.method.but(drop=0.0).loss(step.nets, step.batch, step.clock)["tags"].total
    assert values[0] == values[1] != other


def test_proposals_lie_where_the_image_shows_them() -> None:
    """The column of a disc's image holds a box close to the bright pixels."""
    case = Case.open("wsddn")
    loop = case.loop(steps=1)
    loop.run()
    column = loop.feed.columns["proposals"]
    images, truth = toy.pictures()
    discs = [r for r in range(toy.POOL) if truth[r] == 2 and not column[r].isnan().all()]
    reached = 0
    for row in discs:
        y, x = np.nonzero(images[row].mean(2) > 125)
        low, high = (np.quantile([x, y], share, axis=1) for share in (0.02, 0.98))
        box = torch.from_numpy(np.concatenate([low, high + 1]))
        some = column[row][~column[row].isnan().any(1)]
        assert some[0].tolist() == [0, 0, toy.SIDE, toy.SIDE]
        reached += bool(iou(box.float(), some).max() > 0.6)
    assert reached > 0.8 * len(discs) > 3


# -- drafts ------------------------------------------------------------------------------------------------------------


def found_in(boxes: list[list[tuple[float, ...]]], tags: list[list[int]]) -> Table:
    """A table of images with these boxes (x0, y0, x1, y1, class, score) and tags of two classes."""
    n, most = len(boxes), max(map(len, boxes))
    column = np.full((n, most, 6), np.nan, np.float32)
    for row, some in zip(column, boxes, strict=True):
        row[: len(some)] = np.array(some).reshape(-1, 6)
    data = Dataset.build([f"{i}.png" for i in range(n)], ["a", "b"], height=40, width=40)
    row, cls = np.nonzero(np.array(tags) >= 0)
    said = np.array(tags)[row, cls].astype(np.float32)
    data += data.delta(source="x", who=HUMAN, row=row, kind="tags", value=said, **{"class": cls})
    return Table(data, np.arange(n), {"found": column})


def drafts(table: Table, **settings: Any) -> list[tuple[Any, ...]]:
    delta = FoundBoxes(**settings).label(table)
    said = delta.annotations.to_pylist()
    assert set(delta.sources["who"].to_pylist()) == {MODEL}
    assert delta.looked["row"].to_pylist() == sorted({a["row"] for a in said})
    return [(a["row"], a["class"], a["x0"], a["y1"], round(a["confidence"], 3)) for a in said]


def test_the_best_boxes_of_classes_that_are_there() -> None:
    table = found_in(
        [
            [(0, 0, 10, 10, 0, 0.5), (1, 0, 10, 10, 0, 0.9), (20, 20, 30, 30, 0, 0.4), (0, 0, 9, 9, 1, 1.0)],
            [(5, 5, 9, 9, 1, 0.02), (20, 0, 30, 10, 1, 0.011), (20, 20, 30, 30, 1, 0.009)],
            [],
        ],
        [[1, 0], [-1, 1], [1, 1]],
    )
    best = [(0, 0, 1, 10, 0.9), (1, 1, 5, 9, 0.02)]
    assert drafts(table, least=0.5) == [*best[:1], best[1], (1, 1, 20, 10, 0.011)]
    assert drafts(table, least=1.0) == drafts(table, most=1) == best
    more = [(1, 1, 20, 10, 0.011), (1, 1, 20, 30, 0.009)]
    assert drafts(table, least=0.4) == [best[0], (0, 0, 20, 30, 0.4), best[1], *more]
    assert len(drafts(table, least=0.0, tau=1.0)) == 6


def test_what_a_person_drew_stays_and_what_is_missing_is_said() -> None:
    table = found_in([[(0, 0, 10, 10, 0, 0.5)], [(0, 0, 10, 10, 0, 0.5)]], [[1, 0], [1, 0]])
    drawn = table.data + table.data.delta(
        source="y", who=HUMAN, row=[0], kind="boxes", x0=[1.0], y0=[1.0], x1=[5.0], y1=[5.0], **{"class": [0]}
    )
    assert {d[0] for d in drafts(Table(drawn, table.rows, table.columns))} == {1}
    with pytest.raises(NeedsError, match="net:boxes"):
        FoundBoxes().label(Table(table.data, table.rows))
    with pytest.raises(DataError, match="shape"):
        FoundBoxes().label(Table(table.data, table.rows, {"found": np.zeros((2, 3, 5))}))
    with pytest.raises(NeedsError, match="none of 2"):
        FoundBoxes().label(Table(Dataset.build(["a", "b"], ["a", "b"]), table.rows, table.columns))
