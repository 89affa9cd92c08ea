"""Laws of training: what is learned from, what gets a gradient, and that it goes down."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from modicum.core.batch import Boxes, Part, View
from modicum.core.errors import ModicumError
from modicum.core.loss import Loss
from modicum.core.net import Net
from modicum.core.recipe import Recipe
from modicum.engine import choose, pace
from modicum.testing import tolerances, toy
from modicum.testing.case import WARM, Case, losses
from modicum.testing.compare import near, same
from modicum.testing.results import TRAINS, NotForItError, check, demand
from modicum.testing.stand_ins import GarbledFeed


@check("hidden labels", TRAINS, "Labels are read of rows that need not have any, or rows outside the pool count.")
def hidden_labels(case: Case) -> None:
    """Garbage in labels that are hidden, or outside the pool, leaves every loss bitwise equal."""
    plain, _ = case.first
    for garbage in (0, 1):
        found = losses(case.loop(case.world(outside=12, garbage=garbage)))
        same(plain, found, f"loss with rows outside the pool, labels seed {garbage}: step")
    if case.steps:
        same(case.still.values(), case.scene(GarbledFeed).values(), "loss with garbage for unknown labels: turn")


@check("extremes", TRAINS, "A mean over nothing, a class without images, or a batch statistic of one value.")
def extremes(case: Case) -> str:
    """One label, all labels, an absent class, a batch of one, constant images: finite losses or a clear error."""
    every = np.arange(toy.POOL)
    worlds: dict[str, tuple[dict[str, Any], int]] = {
        "one label in all": ({"labelled": every[:1]}, 4), "all labelled": ({"labelled": every}, 4),
        "a class absent": ({"labelled": every[every % 3 > 0]}, 4), "a batch of one": ({}, 1),
        "constant images": ({"constant": True}, 4),
    }  # fmt: skip
    said = []
    for name, (given, batch) in worlds.items():
        try:
            found = losses(case.loop(case.world(**given), recipe=case.recipe(2, batch)))
        except ModicumError as error:
            said.append(f"{name} is refused: {error.found}")
            continue
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
        demand(all(map(math.isfinite, found)), f"{name}: losses {found}")
    return "; ".join(said)


@check("off", TRAINS, "A term of weight 0 still draws a stream, or the labelled stream is not called 'l'.")
def off(case: Case) -> None:
    """With the card's `off` settings the method is the labels-only baseline, bit for bit."""
    if not case.card.off:
        raise NotForItError
    recipe = case.recipe(5)
    plain = choose.compose(choose.baseline(), {}, Recipe(wraps=()))
    loops = [case.loop(method=method, recipe=recipe) for method in (case.method(**case.card.off), plain)]
    ours, theirs = (losses(loop) for loop in loops)
    where = f"with {dict(case.card.off)} and of {choose.baseline()}"
    same(ours, theirs, f"loss {where}: step")
    if all("net" in loop.nets for loop in loops):  # batch statistics do not show in the loss
        one, two = (dict(loop.nets["net"].state_dict()) for loop in loops)
        same(one, two, f"state of the net {where}:")


@check("gradients", TRAINS, "A detach too many, a teacher without requires_grad_(False), a module that no loss uses.")
def gradients(case: Case) -> None:
    """Every trained parameter gets a finite gradient and no frozen one does."""
    if not case.steps:
        raise NotForItError
    got: set[str] = set()
    asked: set[str] = set()

    def tick(*_: Any) -> None:
        groups = (g for turns in loop.optimisers.values() for o in turns for g in o.param_groups)
        trained = {id(p) for g in groups for p in g["params"]}
        for name, p in loop.nets.named_parameters():
            asked.update({name} if id(p) in trained else ())
            if p.grad is not None:
                demand(p.requires_grad, f"the frozen parameter {name} has a gradient")
                demand(bool(p.grad.isfinite().all()), f"the gradient of {name} is not finite")
                got.add(name)

    loop = case.loop(steps=4, tick=tick)
    loop.run()
    demand(bool(asked), "nothing is trained")
    missing = sorted(asked - got)
    demand(not missing, f"no gradient reaches {', '.join(missing[:4])} ({len(missing)} of {len(asked)} parameters)")


@check("loss falls", TRAINS, "A sign, a learning rate, or a network that is not the one delivered.")
def loss_falls(case: Case) -> str:
    """Cross-entropy on toy images falls by training."""
    (loop, before), world = case.warm, case.world()
    net: Any = case.method().deliver(loop.nets)
    rows = np.arange(toy.POOL)
    x, y = next(iter(loop.feed.sweep(rows, toy.POOL)))["plain"], torch.from_numpy(world.truth[rows])

    @torch.no_grad()
    def measured() -> float:
        return float(cross_entropy(net.eval()(x).logits, y))

    after, weights = measured(), {k: v.clone() for k, v in net.state_dict().items()}
    demand(before.keys() == weights.keys(), "another network is delivered after training than before")
    net.load_state_dict(before)
    start = measured()
    net.load_state_dict(weights)
    said = f"cross-entropy on toy images goes from {start:.3f} to {after:.3f} in {WARM} steps"
    demand(after <= tolerances.FALL * start, said)
    return said


@check("bf16", TRAINS, "A sum, softmax or threshold that is not taken in float32: use `.float()` before it.")
def bf16(case: Case) -> None:
    """The loss in bfloat16 is near the one in float32."""
    half, full = case.scene(half=True).values(), case.still.values()
    near(half, full, (tolerances.BF16, tolerances.BF16), "loss in bfloat16 and in float32")


@check("permutation", TRAINS, "Something depends on the place in the batch: a draw, a slice, a pairing.")
def permutation(case: Case) -> None:
    """The order of images in a batch changes no term of the loss."""
    scene = case.still
    luck = torch.Generator().manual_seed(2)
    orders = {name: torch.randperm(len(part.rows), generator=luck) for name, part in scene.batch.items()}
    other = {name: _permuted(part, orders[name]) for name, part in scene.batch.items()}
    for ours, theirs in zip(scene.losses(), scene.losses(other), strict=True):
        near(_numbers(ours), _numbers(theirs), tolerances.FP32, "terms of the permuted batch")


def _numbers(loss: Loss) -> list[float]:
    return [float(torch.as_tensor(x).detach()) for term in loss.values() for x in term]


def _permuted(part: Part, order: Tensor) -> Part:
    views = {n: View(v.pixels[order], v.affine[order], v.size[order]) for n, v in part.views.items()}
    given = {f.name: getattr(part.labels, f.name) for f in dataclasses.fields(part.labels)}
    demand(given["votes"] is None, "packed votes are not permuted by the suite yet")
    drawn, boxes = given.pop("drawn"), given.pop("boxes")
    labels = dataclasses.replace(
        part.labels, **{n: v[order] for n, v in given.items() if v is not None},
        drawn=None if drawn is None else lambda sure: drawn(sure)[order],
        boxes=None if boxes is None else _repacked(boxes, order),
    )  # fmt: skip
    return Part(part.rows[order], views, labels, {n: v[order] for n, v in part.columns.items()})


def _repacked(boxes: Boxes, order: Tensor) -> Boxes:
    """The boxes of images in another order."""
    image, at = order.argsort()[boxes.image].sort(stable=True)
    return Boxes(boxes.xyxy[at], boxes.cls[at], boxes.state[at], image)


@check("cost", TRAINS, "The card's `cost` was guessed: write what is measured at a real size.")
def cost(case: Case) -> str:
    """How many times the baseline's time a step takes, beside what the card says."""
    if not case.steps:
        raise NotForItError
    plain = choose.compose(choose.baseline(), {}, Recipe(wraps=()))
    recipe, labelled = case.recipe(10), Case.open(choose.baseline()).world()
    jobs = [lambda: case.loop(labelled, method=plain, recipe=recipe), lambda: case.loop(recipe=recipe)]
    found = pace.race(jobs, least=1, most=1, block=0.01)
    ratio, said = found.ratios[1], case.card.cost
    apart = "" if 1 / tolerances.COST <= ratio / max(said, 1e-9) <= tolerances.COST else " (far apart)"
    return f"a step takes {ratio:.1f} times the baseline's on toy data; the card says {said:g}{apart}"


def delivered(case: Case) -> Net:
    """The net that ships, after some training."""
    net = case.method().deliver(case.warm[0].nets)
    demand(isinstance(net, Net), f"deliver gives a {type(net).__name__}, not a Net")
    return net.eval()
