"""Token Contrast: its losses against a plain loop over pairs and crops, from the equations."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from modicum.core import draws
from modicum.core.program import Train
from modicum.data.feed import Feed
from modicum.testing import toy
from modicum.testing.case import Case, Scene
from modicum.testing.stand_ins import Alone, ToyBench

NETS = ("tiny-vit:depth=3,width=16", "tiny-conv:width=4")
TAGS = Case.open("tagger").facts


def scene(net: str, kind: str = "class", **settings: Any) -> Scene:
    """The first step in which all is asked, after three of the classifier, on a network of this name."""
    case = Case.open("toco")
    world = toy.world(case.facts if kind == "class" else TAGS)
    bench = ToyBench(world.data, world.pixels, world.pool, net, toy.SIDE, 3, 1, Alone(), kind=Feed)
    method = case.method(
        **{"labels": kind, "after": 0.5, "crops": 4, "hidden": 256, "crop": 0.5, "low": 0.4, "share": 0.3, **settings}
    )
    loop = bench.loop(method, case.recipe(6), "toco", None, tick=None)
    loop.nets.train()
    for number, steps in ((0, 3), (1, 0)):
        phase = loop.program[number]
        assert isinstance(phase, Train)
        loop.optimisers[0] = loop.fresh(phase, loop.nets)
        for step in range(steps):
            loop.step(phase, loop.nets, loop.clock(phase, number, step))
    batch = {n: loop.feed.draw(s, n, 0, 1, 0) for n, s in phase.streams.items()}
    return Scene(loop, loop.nets, phase, loop.clock(phase, 1, 0), batch)


def slow(at: Scene, present: list[list[int]]) -> dict[str, list[float]]:
    """The terms of the batch, each a list of what is averaged, image by image."""
    nets, part, method = copy.deepcopy(at.nets), at.batch["l"], at.loop.method
    net, x, side = nets["net"], at.batch["l"]["weak"], toy.SIDE
    out: dict[str, list[float]] = {"alike": [], "unlike": [], "crops": []}
    seed = draws.key(at.clock.seed, at.clock.phase, at.clock.step, at.clock.lane, "crops")
    luck = draws.uniform(seed, part.rows, 0, 2 * method.crops)
    with torch.no_grad():
        early = net.early(net.normalise(x))
        last = net.tokens(early)  # batch statistics, once
        settled = copy.deepcopy(net).eval()
        for i in range(len(x)):
            e = early[i, 1:].T.unflatten(1, (4, 4)) if early.ndim == 3 else early[i]
            t = last[i, 1:].T.unflatten(1, (4, 4)) if last.ndim == 3 else last[i]
            found = torch.zeros(3, *e.shape[1:])
            for c in present[i]:
                cam = torch.einsum("k,khw->hw", nets["middle"].weight[c], e).clamp_min(0)
                found[c] = cam / cam.max() if bool(cam.any()) else cam
            found = F.interpolate(found[None], t.shape[1:], mode="bilinear")[0]
            label = [[0] * 4 for _ in range(4)]
            for r in range(4):
                for q in range(4):
                    value, c = max((float(found[c, r, q]), -c) for c in range(3))
                    label[r][q] = 1 - int(c) if value > method.high else 0 if value <= method.low else -1
            places = [(r, q) for r in range(4) for q in range(4) if label[r][q] >= 0]
            for a in places:
                for b in places:
                    cos = abs(float(F.cosine_similarity(t[:, a[0], a[1]], t[:, b[0], b[1]], 0)))
                    if label[a[0]][a[1]] != label[b[0]][b[1]]:
                        out["unlike"].append(cos)
                    elif a != b:
                        out["alike"].append(1 - cos)
            p = nets["slow"].net((last[i, 0] if last.ndim == 3 else t.mean((1, 2)))[None])[0]
            edge, scores = side // 2, list[tuple[bool, float]]()
            for k in range(method.crops):
                row, column = (int(luck[i, 2 * k + j] * (side - edge + 1)) for j in (0, 1))
                crop = x[i : i + 1, :, row : row + edge, column : column + edge]
                tokens = settled.tokens(settled.early(settled.normalise(crop)))[0]
                q = nets["project"]((tokens[0] if tokens.ndim == 2 else tokens.mean((1, 2)))[None])[0]
                some = sum(
                    label[y // 4][z // 4] != 0 for y in range(row, row + edge) for z in range(column, column + edge)
                )
                cos = float(F.cosine_similarity(q, p, 0))
                scores.append((some / edge**2 > method.share, math.exp(cos / 0.5)))
            outside = sum(v for inside, v in scores if not inside)
            out["crops"] += [-math.log(v / (v + outside)) for inside, v in scores if inside]
    return out


@pytest.mark.parametrize("kind", ["class", "tags"])
@pytest.mark.parametrize("net", NETS)
def test_toco_is_a_plain_loop_over_pairs_and_crops(net: str, kind: str) -> None:
    at = scene(net, kind)
    part, truth = at.batch["l"], toy.pictures()[1]
    present = [[int(truth[row])] for row in part.rows.tolist()]
    if kind == "tags":  # one image shows two classes, of another nothing is known
        assert part.labels.tags is not None
        tags = part.labels.tags.clone()
        tags[0], tags[1] = torch.tensor([1, 0, 1]), -1
        at = replace(at, batch={"l": replace(part, labels=replace(part.labels, tags=tags))})
        present = [[0, 2], [], *present[2:]]
    expected, found = slow(at, present), at.losses()[0]
    weights = {"alike": 1.0, "unlike": 1.0, "crops": 0.5}
    for name, values in expected.items():
        assert len(values) > 5, f"{name}: the scene asks nothing"
        term = found[name]
        assert float(term.total.detach()) == pytest.approx(sum(values), rel=1e-3), name
        assert int(term.count) == len(values) and term.weight == weights[name]


def test_both_classifiers_are_asked_by_the_labels() -> None:
    at = scene(NETS[0])
    net, part = copy.deepcopy(at.nets["net"]), at.batch["l"]
    with torch.no_grad():
        early = net.early(net.normalise(part["weak"]))
        first = net.head(net.late(early).amax((2, 3)))
        second = at.nets["middle"](early[:, 1:].amax(1))
    found = at.losses()[0]
    for name, logits in (("labelled", first), ("middle", second)):
        term = found[name]
        assert float(term.total.detach() / term.count) == pytest.approx(
            float(F.cross_entropy(logits, part.labels.cls)), rel=1e-4
        )


def test_what_each_term_teaches() -> None:
    at = scene(NETS[0])

    def pulled(name: str) -> set[str]:
        at.nets.zero_grad(set_to_none=True)
        at.loop.method.loss(at.nets, at.batch, at.clock)[name].total.backward()
        return {k.split(".")[0] for k, p in at.nets.named_parameters() if p.grad is not None and bool(p.grad.any())}

    assert pulled("labelled") == pulled("alike") == pulled("unlike") == {"net"}
    assert pulled("middle") == {"net", "middle"} and pulled("crops") == {"net", "project"}


def test_the_contrast_of_patches_makes_them_less_alike() -> None:
    """Two patches of which one shows the object and the other nothing: their cosine falls where they are told apart."""

    def apart(ptc: float) -> float:
        at = scene(NETS[0], ptc=ptc, ctc=0.0)
        for step in range(25):
            at.loop.step(at.phase, at.nets, replace(at.clock, step=step))
        term = at.loop.method.loss(at.nets, at.batch, at.clock)["unlike"]
        return float(term.total.detach() / term.count)

    assert apart(10.0) < 0.9 * apart(0.0)


def test_the_average_projector_follows_and_is_not_trained() -> None:
    at = scene(NETS[0])
    before = {k: v.clone() for k, v in at.nets["slow"].state_dict().items()}
    at.loop.step(at.phase, at.nets, at.clock)
    weight = min(0.9, (1 + at.clock.total) / (10 + at.clock.total))
    for (k, v), now in zip(at.nets["slow"].net.state_dict().items(), at.nets["project"].state_dict().values()):
        assert torch.allclose(v, weight * before[f"net.{k}"] + (1 - weight) * now, atol=1e-6)
    assert not any(p.requires_grad for p in at.nets["slow"].parameters())
