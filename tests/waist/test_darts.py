"""DARTS (arXiv:1806.09055), first order: operations are weighed on one half of the data, trained on the other.

Two turns with optimiser groups of their own; then the best operation stays (a Change of structure) and is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from modicum.core.batch import Batch
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Net, Nets
from modicum.core.program import Change, Clock, Info, Program, Stream, Train, Turn
from modicum.core.recipe import Optim

from .conftest import Stand


class Mixed(nn.Module):
    """A weighted sum of operations (B,K,h,w) -> the same shape."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList([nn.Conv2d(k, k, 3, padding=1), nn.Conv2d(k, k, 1), nn.Identity()])
        self.alpha = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return sum(w * f(x) for w, f in zip(self.alpha.softmax(0), self.operations, strict=True))  # type: ignore[return-value]


class Searched(Net):
    """A net with one more operation between its body and its pooling."""

    def __init__(self, net: Net) -> None:
        super().__init__(len(net.mean))
        self.net, self.cell, self.head = net, Mixed(net.head.in_features), net.head

    def spatial(self, x: Tensor) -> Tensor:
        return self.cell(self.net.spatial(self.net.normalise(x)))

    def pool(self, maps: Tensor) -> Tensor:
        return self.net.pool(maps)


@dataclass(frozen=True)
class Darts(Learn):
    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": Searched(make("net"))})

    def program(self, info: Info) -> Program:
        size, steps = info.recipe.batch, info.recipe.steps
        halves = {"train": Stream("class & half < 0.5", size), "val": Stream("class & half > 0.5", size)}
        turns = (Turn("weigh", ("net.cell.alpha",), "arch"), Turn("fit", ("net.net", "net.cell.operations")))
        return [
            Train(halves, steps * 2 // 3, turns, name="search"),
            Change("discretise"),
            Train({"train": Stream("class", size)}, steps - steps * 2 // 3, (Turn("fit"),), name="train", lane=1),
        ]

    def fit(self, nets: Nets, batch: Batch, clock: Clock, stream: str = "train") -> Loss:
        part = batch[stream]
        return {stream: mean(cross_entropy(nets["net"](part["weak"]).logits, part.labels.cls, reduction="none"))}

    def weigh(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        return self.fit(nets, batch, clock, "val")

    def discretise(self, nets: Nets) -> None:
        cell = nets["net"].cell
        nets["net"].cell = cell.operations[int(cell.alpha.argmax())]


def test_it_trains_and_resumes(shapes: Stand, proves: Callable[..., Any]) -> None:
    data = shapes.data.with_column("half", (np.arange(48) // 6 % 2).astype(np.float32))
    stand = replace(shapes, data=data)
    loop, losses = proves(stand, Darts(), steps=30, groups={"arch": Optim(name="adamw", lr=0.1)})
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert stand.accuracy(loop.method.deliver(loop.nets)) > 0.6
    assert not hasattr(loop.nets["net"].cell, "alpha")
    searched, _ = stand.run(Darts(), kill=10, steps=30, groups={"arch": Optim(name="adamw", lr=0.1)})
    assert (searched.nets["net"].cell.alpha.diff() != 0).any()
