"""Prune and finetune: collect how active channels are, drop those below the mean (how many, the data decide), go on.

The EMA wrapper around it begins its average anew, since the shapes are others then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modicum.core import registry
from modicum.core.batch import Batch
from modicum.core.loss import Loss
from modicum.core.method import Learn, Make, Reshape
from modicum.core.net import Net, Nets
from modicum.core.program import Change, Clock, Collect, Info, Program, Stream, Train

from .conftest import Stand


class Seen(nn.Module):
    """How active each channel was, (K,)."""

    sum: Tensor

    def __init__(self, k: int) -> None:
        super().__init__()
        self.register_buffer("sum", torch.zeros(k))


@dataclass(frozen=True)
class Prune(Reshape):
    def build(self, info: Info, make: Make) -> Nets:
        net = make("net")
        return Nets({"net": net, "seen": Seen(net.head.in_features)})

    def program(self, info: Info) -> Program:
        train = Train({"l": Stream("class", info.recipe.batch)}, info.recipe.steps // 2)
        fine = Train(train.streams, info.recipe.steps - train.steps, name="finetune", lane=1)
        return [train, Collect("importance", Stream("all", 16, ("plain",))), Change("prune"), fine]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        return registry.make("supervised").loss(nets, batch, clock)  # type: ignore[no-any-return]

    def importance(self, nets: Nets, batch: Batch) -> Tensor:
        out = nets["net"](batch["all"]["plain"])
        nets["seen"].sum += out.maps.mean((2, 3)).sum(0)
        return out.logits

    def prune(self, nets: Nets) -> None:
        net, keep = nets["net"], (nets["seen"].sum >= nets["seen"].sum.mean()).nonzero()[:, 0]
        conv, norm, _ = net.stages[-1]
        net.stages[-1][0] = thinner(conv, nn.Conv2d(conv.in_channels, len(keep), 3, 1, 1, bias=False), keep, 0)
        net.stages[-1][1] = thinner(norm, type(norm)(len(keep)), keep, 0)
        net.head = thinner(net.head, nn.Linear(len(keep), net.head.out_features), keep, 1)
        nets["seen"] = Seen(len(keep))


def thinner(old: nn.Module, new: nn.Module, keep: Tensor, dim: int) -> nn.Module:
    """A module with the kept slices of another's tensors along a dimension."""
    state = {k: v.index_select(dim, keep) if v.ndim > dim else v for k, v in old.state_dict().items()}
    new.load_state_dict(state)
    return new


def size(net: Net) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("wrapped", [False, True])
def test_it_trains_and_resumes(shapes: Stand, proves: Callable[..., Any], wrapped: bool) -> None:
    method: Learn = Prune()
    if wrapped:
        method = registry.load("ema").of({"inner": method, "decay": 0.5})
    loop, losses = proves(shapes, method, steps=30)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    net = method.deliver(loop.nets)
    assert size(net) < 0.9 * size(shapes.make("net")) and shapes.accuracy(net) > 0.6
