"""Trust rules: which pseudo-labels to believe, and how much.  One file, one rule, found by its file name."""

from __future__ import annotations

from inspect import signature
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from modicum.core.program import Info
from modicum.core.registry import read_part
from modicum.nn.ranks import everyone, mine, shares


class Pseudo(NamedTuple):
    """target: int64 (U,), the guessed classes.  weight: float (U,), how much each is believed, 0 = not at all."""

    target: Tensor
    weight: Tensor


class Trust(nn.Module):
    """A rule.  `__init__(self, info, *, knobs...)`; anything it remembers is a buffer, so that it is saved and resumed.

    forward(probs (U,C), rows int64 (U,)) -> Pseudo, weights in [0,1].  Called without gradient, once a step, in
    training only, with the guesses of all processes: a rule need not know that there are several.
    settles: the knobs of a rule whose `tau` is found from held-out guesses before training (nn/trust/risk.py).
    """

    settles: ClassVar[tuple[str, ...]] = ()

    def __init__(self, info: Info) -> None:
        super().__init__()

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        raise NotImplementedError

    def judge(self, probs: Tensor, rows: Tensor) -> Pseudo:
        """What the rule says of this process's guesses, having seen those of all."""
        held = shares(probs)
        target, weight = self(everyone(probs, held), everyone(rows, held))
        return Pseudo(mine(target, held), mine(weight, held))


def read_trust(text: str) -> tuple[type[Trust], dict[str, Any]]:
    """`fixed:tau=0.9` -> the rule and its knobs.  SettingsError for an unknown name or knob, or a bad value."""
    return read_part("nn/trust", Trust, text)


def make_trust(text: str, info: Info) -> Trust:
    """A rule by name with its knobs, ready for this data."""
    cls, knobs = read_trust(text)
    return cls(info, **knobs)


def unsettled(text: str) -> tuple[float, ...]:
    """The values of the knobs by which a rule's `tau` is still to be found from held-out guesses; () if it is not."""
    cls, knobs = read_trust(text)
    known = {k: p.default for k, p in signature(cls).parameters.items()}
    return () if "tau" in knobs else tuple(float(knobs.get(k, known[k])) for k in cls.settles)
