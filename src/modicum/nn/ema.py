"""An exponential moving average of a network's weights: the teacher of many methods, and what often ships."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import TypeVar

import torch
from torch import Tensor, nn

Copied = TypeVar("Copied", bound=nn.Module)


class EMA(nn.Module):
    """`net` is the average: parameters are averaged, buffers (batch-norm statistics) are copied.

    Source: Polyak and Juditsky 1992; as a teacher, Tarvainen and Valpola 2017.
    """

    net: nn.Module

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = copied(net).requires_grad_(False)

    @torch.no_grad()
    def update(self, net: nn.Module, decay: float, step: int) -> None:
        """average <- d * average + (1-d) * net, d = min(decay, (1+step)/(10+step)): early noise is forgotten."""
        weight = 1 - min(decay, (1 + step) / (10 + step))
        ours: list[Tensor] = list(self.net.parameters())
        theirs: list[Tensor] = list(net.parameters())
        torch._foreach_lerp_(ours, theirs, weight)
        for a, b in zip(self.net.buffers(), net.buffers(), strict=True):
            a.copy_(b)


def copied(net: Copied) -> Copied:
    """A deep copy, in half the time: of a module's many registers, such as those of hooks, most are empty."""
    empty = (x for m in net.modules() for x in vars(m).values() if type(x) in (dict, OrderedDict) and not x)
    return copy.deepcopy(net, {id(x): type(x)() for x in empty})
