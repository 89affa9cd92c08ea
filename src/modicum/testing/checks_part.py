"""Laws of all parts, trust rules and objectives alike: the file, the knobs, what is remembered, other processes."""

from __future__ import annotations

import ast
import copy
import inspect
import math
import re
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from modicum.core.errors import SettingsError
from modicum.testing import ranks, tolerances
from modicum.testing.compare import near, same, unmoved, untouched
from modicum.testing.part import BASES, INFO, Part, counted, guesses, labelled, verdicts
from modicum.testing.results import PARTS, NotForItError, check, demand


@check("part", PARTS, "The signature is not the base class's, or a knob is not explained: see nn/trust/fixed.py.")
def written(part: Part) -> None:
    """The signature is the base's, so a part cannot see what it should not; file, class and knobs are explained."""
    base = BASES[part.role]
    takes, given = (list(inspect.signature(c.forward).parameters) for c in (base, part.cls))
    demand(given == takes, f"forward takes {', '.join(given)}, not {', '.join(takes)}")
    first, *knobs = inspect.signature(part.cls).parameters.values()
    demand(first.name == "info", "the first argument is not `info`")
    words = (ast.get_docstring(ast.parse(part.path.read_text(encoding="utf-8"))) or "").split()
    demand(len(words) >= 4, "the file's docstring says too little: idea, equation, source")
    demand(bool(part.cls.__doc__) and part.cls.__doc__ != base.__doc__, "the class has no docstring")
    for knob in knobs:
        demand(knob.kind is knob.KEYWORD_ONLY, f"{knob.name} is not a keyword: put `*` before it")
        demand(type(knob.default) in (int, float, str, bool), f"{knob.name} has no plain default")
        told = re.search(rf"\b{knob.name}: ", part.cls.__doc__ or "")
        demand(bool(told), f"the class's docstring lacks `{knob.name}: `")


@check("part knobs", PARTS, "A knob is not checked by `core.settings.within`, or a value in its range breaks it.")
def knobs(part: Part) -> None:
    """Numbers have a range; both ends of it work, and what lies outside is refused by name."""
    if not part.knobs:
        raise NotForItError
    for name, default in part.knobs.items():
        if isinstance(default, (bool, str)):
            continue
        demand(name in part.ranges, f"{name} has no range")
        low, high = part.ranges[name]
        for value in (type(default)(low), type(default)(high)):
            try:
                said = part.run(part.make(INFO, **{name: value}))
            except Exception as error:
                raise AssertionError(f"{name}={value!r}: {type(error).__name__}: {error}") from error
            bad = next((k for k, v in said.items() if not v.isfinite().all()), "")
            demand(not bad, f"{name}={value!r}: {bad} is not finite")
        for value in (type(default)(low - 1), type(default)(high + 1), math.nan):
            try:
                part.make(INFO, **{name: value})
            except SettingsError as error:
                demand(name in str(error), f"{name}={value!r} is refused without naming {name}: {error.found}")
            else:
                demand(False, f"{name}={value!r} is not refused")


@check("part state", PARTS, "What changes, or follows from the labels' counts, is no buffer: see `register_buffer`.")
def state(part: Part) -> None:
    """A copy, and a new module with the saved state, go on with the same bits; nothing else about it changes."""
    module = part.make()
    before = _plain(module)
    part.run(module)
    same(before, _plain(module), "an attribute that is no buffer:")
    again = part.make(INFO if part.role == "trust" else counted(3, 3, 3, 3))
    again.load_state_dict(module.state_dict())
    copied = copy.deepcopy(module)
    said = part.run(module)
    same(said, part.run(copied), "after a copy:")
    same(said, part.run(again), "after saving and loading:")
    demand(not list(module.parameters()), "it has parameters, which training would move")


def _plain(module: nn.Module) -> dict[str, str]:
    """All that a module holds beside buffers and other modules, and its class, as text."""
    known = vars(nn.Module())
    own = ((f"{n}.{k}".strip("."), k, v) for n, m in module.named_modules() for k, v in vars(m).items())
    held = {name: repr(v) for name, k, v in own if k not in known}
    shared = {k: repr(v) for k, v in vars(type(module)).items() if not callable(v) and not k.startswith("__")}
    return {**held, **shared}


@check("part untouched", PARTS, "A global generator, an in-place operation on an input, or the process was changed.")
def leaves_alone(part: Part) -> None:
    """Inputs, generators and the process are as they were."""
    module = part.make()
    batches = guesses() if part.role == "trust" else [labelled()]
    inputs = {f"of step {i}": batch for i, batch in enumerate(batches)}
    unmoved(part.began)
    with untouched(SimpleNamespace(), inputs):
        for given in inputs.values():
            with torch.no_grad():
                module(*given) if part.role == "trust" else module.term(*given, 0.5)
    unmoved(part.began)


@check("part types", PARTS, "A constant or a buffer of another type, or a sum in few digits.")
def types(part: Part) -> None:
    """float64 gives the same answers, and bf16 finite ones."""
    usual, double, half = (part.run(part.make(), t) for t in (torch.float32, torch.float64, torch.bfloat16))
    for name, value in usual.items():
        if not name.startswith("state"):
            near(value.detach(), double[name].detach(), tolerances.FP32, f"{name} in float32 and float64")
            demand(bool(half[name].isfinite().all()), f"{name} is not finite in bf16")
    if part.role == "objective":
        module, (logits, target) = part.make(), labelled(torch.bfloat16)
        for done in (0.0, 1.0):
            short, wide = (module.term(z, target, done).total.float() for z in (logits, logits.float()))
            near(short, wide, (tolerances.BF16, 1e-3), "the sum of bf16 logits, and of the same in float32")


@check("part on two ranks", PARTS, "A statistic of one process's share, or a collective that not every process calls.")
def two_ranks(part: Part) -> None:
    """Two processes that share each batch say together what one says."""
    alone, theirs = verdicts(part), ranks.pool().judge(part)
    demand(alone.keys() == theirs.keys(), "two ranks say other things")
    for name, value in alone.items():
        near(value.detach(), theirs[name], (tolerances.RANKS, 1e-12), f"{name}, alone and on two ranks")


def finite(values: Any, what: str) -> None:
    """BrokenError unless all of a tensor is finite."""
    demand(bool(values.isfinite().all()), f"{what} is not finite")
