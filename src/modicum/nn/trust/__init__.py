"""Trust rules: which pseudo-labels to believe, and how much.  One file, one rule, found by its file name."""

from __future__ import annotations

from inspect import signature
from typing import Any, NamedTuple

from torch import Tensor, nn

from modicum.core.errors import SettingsError, did_you_mean
from modicum.core.program import Info
from modicum.core.recipe import parse_call
from modicum.core.registry import load_part


class Pseudo(NamedTuple):
    """target: int64 (U,), the guessed classes.  weight: float (U,), how much each is believed, 0 = not at all."""

    target: Tensor
    weight: Tensor


class Trust(nn.Module):
    """A rule.  `__init__(self, info, *, knobs...)`; anything it remembers is a buffer, so that it is saved and resumed.

    forward(probs (U,C), rows int64 (U,)) -> Pseudo, weights in [0,1].  Called without gradient, once a step, in
    training only.
    """

    def __init__(self, info: Info) -> None:
        super().__init__()

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        raise NotImplementedError


def read_trust(text: str) -> tuple[type[Trust], dict[str, Any]]:
    """`fixed:tau=0.9` -> the rule and its knobs.  SettingsError for an unknown name or knob, or what is no number."""
    name, given = parse_call(text)
    cls = load_part("nn/trust", name, Trust)
    known = {k: p.default for k, p in signature(cls).parameters.items() if k != "info"}
    knobs = {}
    for key, value in given.items():
        if key not in known:
            raise SettingsError(f"trust rule {name!r} has no knob {key!r}", where="trust", fix=did_you_mean(key, known))
        try:
            knobs[key] = type(known[key])(value)
        except ValueError:
            raise SettingsError(f"{value!r} is not a number", where=f"trust {name}.{key}") from None
    return cls, knobs


def make_trust(text: str, info: Info) -> Trust:
    """A rule by name with its knobs, ready for this data."""
    cls, knobs = read_trust(text)
    return cls(info, **knobs)
