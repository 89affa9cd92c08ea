"""Objectives: what the labelled images ask of the logits.  One file, one objective, found by its file name."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from modicum.core.loss import Term, mean
from modicum.core.net import Net
from modicum.core.program import Info
from modicum.core.registry import read_part
from modicum.functional.losses import wide


class Objective(nn.Module):
    """`__init__(self, info, *, knobs...)`; what depends on the visible labels' counts is a buffer.

    forward(logits (B,C), target int64 (B,), done) -> values (B,), weights (B,): done is the share of training that is
    over.  Predictions read the plain logits: what an objective adds to them is for training alone.
    """

    def __init__(self, info: Info) -> None:
        super().__init__()

    def forward(self, logits: Tensor, target: Tensor, done: float) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def dress(self, net: Net) -> Net:
        """The network with the head that the objective wants; most want the one it has."""
        return net

    def term(self, logits: Tensor, target: Tensor, done: float) -> Term:
        """The mean over labelled images as a Term."""
        values, weights = self(wide(logits), target, done)
        return mean(values, weights)


def read_objective(text: str) -> tuple[type[Objective], dict[str, Any]]:
    """`ldam:scale=30` -> the objective and its knobs.  SettingsError for an unknown name or knob, or a bad value."""
    return read_part("nn/objective", Objective, text)


def make_objective(text: str, info: Info) -> Objective:
    """An objective by name with its knobs, ready for this data."""
    cls, knobs = read_objective(text)
    return cls(info, **knobs)
