"""Class-incremental sessions: a head that grows, class means for what is past; past images are never needed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy

from modicum.core.batch import Batch
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Nets
from modicum.core.program import Change, Clock, Collect, Info, Program, Stream, Train, Turn
from modicum.core.settings import knob

from .conftest import Stand, same


class Means(nn.Module):
    """sum: (C,D) of features of each class; count: (C,)."""

    def __init__(self, classes: int, d: int) -> None:
        super().__init__()
        self.register_buffer("sum", torch.zeros(classes, d))
        self.register_buffer("count", torch.zeros(classes))

    def add(self, cls: Tensor, h: Tensor) -> None:
        self.sum += F.one_hot(cls, len(self.sum)).float().T @ h
        self.count += cls.bincount(minlength=len(self.count))


@dataclass(frozen=True)
class Sessions(Learn):
    arrive: tuple[int, ...] = knob((2, 1), doc="classes that arrive in each session")

    def build(self, info: Info, make: Make) -> Nets:
        net = make("net")
        net.head = nn.Linear(net.head.in_features, self.arrive[0])
        return Nets({"net": net, "means": Means(len(info.classes), net.head.in_features)})

    def program(self, info: Info) -> Program:
        size, steps = info.recipe.batch, info.recipe.steps // len(self.arrive)
        out: Program = [Train({"l": Stream("session:s0 & class", size)}, steps, name="session 0")]
        for t in range(1, len(self.arrive)):
            before, now = Stream(f"session:s{t - 1} & class", 16, ("plain",)), Stream(f"session:s{t} & class", size)
            out += [Collect("remember", before), Change("extend")]
            out.append(Train({"l": now}, steps, (Turn(trains=("net.head",)),), name=f"session {t}", lane=t))
        return out

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        h, cls = nets["net"].body(batch["l"]["weak"]), batch["l"].labels.cls
        old = nets["means"].count.nonzero()[:, 0]
        if len(old):
            h = torch.cat([h, (nets["means"].sum / nets["means"].count[:, None])[old]])
        return {"seen": mean(cross_entropy(nets["net"].head(h), torch.cat([cls, old]), reduction="none"))}

    def remember(self, nets: Nets, batch: Batch) -> Tensor:
        h = nets["net"].body(batch["all"]["plain"])
        nets["means"].add(batch["all"].labels.cls, h)
        return h

    def extend(self, nets: Nets) -> None:
        old = nets["net"].head
        t = next(i for i in range(len(self.arrive)) if sum(self.arrive[: i + 1]) == old.out_features)
        head = nets["net"].head = nn.Linear(old.in_features, sum(self.arrive[: t + 2]))
        with torch.no_grad():
            head.weight[: old.out_features], head.bias[: old.out_features] = old.weight, old.bias


@pytest.fixture
def arriving(shapes: Stand) -> Stand:
    session = np.where(shapes.truth < 2, "s0", "s1").astype(object)
    return replace(shapes, data=shapes.data.with_images(session=session))


def test_it_trains_and_resumes(arriving: Stand, proves: Callable[..., Any]) -> None:
    loop, losses = proves(arriving, Sessions(), steps=40)
    assert losses[19] < 0.6 * losses[0] and losses[39] < 0.8 * losses[20]
    assert arriving.accuracy(loop.method.deliver(loop.nets)) > 0.5


def test_garbage_in_place_of_past_sessions_changes_no_bit(arriving: Stand, tmp_path: Path) -> None:
    whole, _ = arriving.run(Sessions(), steps=20)
    arriving.run(Sessions(), tmp_path, kill=13, steps=20)
    past = arriving.truth < 2
    images = np.stack([arriving.pixels.image(i) for i in range(48)])
    images[past] = np.random.default_rng(0).integers(0, 256, images[past].shape)
    wrong = arriving.data + arriving.data.delta_class(np.where(past, 0, -1), source="wrong", who="human")
    assert same(arriving.but(wrong, images).run(Sessions(), tmp_path, steps=20)[0].nets, whole.nets)
