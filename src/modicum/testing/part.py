"""The part under test, a trust rule or an objective, on planted guesses and logits.

Letters: U guesses or B labelled rows, C = 4 classes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modicum.core import registry
from modicum.core.errors import SettingsError
from modicum.core.program import Info
from modicum.core.settings import ranges
from modicum.nn.objective import Objective
from modicum.nn.ranks import added, everyone, mine, world_size
from modicum.nn.trust import Trust
from modicum.testing.case import defined
from modicum.testing.compare import place
from modicum.testing.results import demand

BASES: Mapping[str, type[Any]] = {"trust": Trust, "objective": Objective}
INFO = Info(("a", "b", "c", "d"), (2, 5, 9, 1), images=40, labelled=17, pool=30)
STEPS, ROWS, DONE = 4, 12, (0.0, 0.5, 1.0)


@dataclass(frozen=True, eq=False)
class Part:
    """A part, found by the registry or in a file of its own.  name: `trust/fixed`.  where: what `open` was given."""

    name: str
    role: str
    cls: type[Any]
    path: Path
    where: str
    began: Mapping[str, Any] = field(default_factory=place)
    xfail: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def open(where: str) -> Part:
        """By `KIND/NAME`, or by the path of a file that ends in .py."""
        if where.endswith(".py"):
            return _of_file(Path(where))
        kind, _, name = where.partition("/")
        folder = registry.PARTS[kind]
        cls = registry.load_part(folder, name, BASES[kind])
        return Part(where, kind, cls, registry.parts(folder)[name], where)

    def make(self, info: Info = INFO, /, **knobs: Any) -> Any:
        """The module, ready for these data."""
        return self.cls(info, **knobs)

    @property
    def knobs(self) -> dict[str, Any]:
        """Each knob's default."""
        return {k: p.default for k, p in inspect.signature(self.cls).parameters.items() if k != "info"}

    @functools.cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Each knob's range, as it tells `core.settings.within`."""
        return ranges(self.make)

    def run(self, module: Any, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        """What the module says of the planted case, step by step, and what it remembers afterwards."""
        out: dict[str, Any] = {}
        if self.role == "trust":
            for i, (probs, rows) in enumerate(guesses(dtype)):
                out[f"target {i}"], out[f"weight {i}"] = believed(module, probs, rows)
        else:
            logits, target = labelled(dtype)
            for done in DONE:
                out[f"values {done}"], out[f"weights {done}"] = module(logits, target, done)
                total, count, _ = module.term(logits, target, done)
                out[f"total {done}"], out[f"count {done}"] = total, torch.as_tensor(count)
        return out | {f"state {k}": v.clone() for k, v in module.state_dict().items()}


def believed(rule: Any, probs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """target int64 (U,) and weight float (U,) of a rule, without gradient as in training; BrokenError if not such."""
    with torch.no_grad():
        target, weight = rule(probs, rows)
    demand(target.shape == rows.shape == weight.shape, f"{len(rows)} guesses, and {target.shape} and {weight.shape}")
    demand(target.dtype == torch.int64, f"target is {target.dtype}, not int64")
    demand(weight.is_floating_point(), f"weight is {weight.dtype}, not a float")
    demand(bool(((target >= 0) & (target < probs.shape[1])).all()), f"target {target.tolist()} of {probs.shape[1]}")
    demand(bool(((weight >= 0) & (weight <= 1)).all()), f"a weight lies outside 0 to 1: {weight.tolist()}")
    return target, weight


def guesses(dtype: torch.dtype = torch.float32, rows: int = ROWS) -> list[tuple[Tensor, Tensor]]:
    """Batches of probabilities (U,C), unsure and sure, no two alike, and of rows (U,) without repetition."""
    rng, out = np.random.default_rng(3), []
    for step in range(STEPS):
        z = (1 + step) * rng.normal(size=(rows, len(INFO.classes))) + [1, 0.5, 0, -0.5]
        probs = torch.tensor(z).softmax(1).to(dtype)
        out.append((probs, torch.from_numpy(rng.permutation(INFO.images)[:rows])))
    return out


def labelled(dtype: torch.dtype = torch.float32, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """Logits (B,C) and classes (B,), each class in turn."""
    logits = torch.from_numpy(np.random.default_rng(4).normal(size=(rows, len(INFO.classes)))).to(dtype)
    return logits, torch.arange(rows) % len(INFO.classes)


def counted(*counts: int) -> Info:
    """The same data with other labels."""
    return replace(INFO, counts=counts, labelled=sum(counts))


def verdicts(part: Part) -> dict[str, Tensor]:
    """What the part says in float64 of batches of 7 and of 1, which ranks share unequally; the same on all of them."""
    module, out = part.make().double(), {}
    for rows in (7, 1):
        held = [rows] if world_size() == 1 else [rows - rows // 2, rows // 2]
        if part.role == "trust":
            for i, (probs, places) in enumerate(guesses(torch.float64, rows)):
                said = module.judge(mine(probs, held), mine(places, held))
                out[f"target {i} of {rows}"], out[f"weight {i} of {rows}"] = (everyone(x, held) for x in said)
        else:
            logits, target = (mine(x, held) for x in labelled(torch.float64, rows))
            for done in DONE:
                total, count, _ = module.term(logits, target, done)
                out[f"total {done} of {rows}"] = added(total.double())
                out[f"count {done} of {rows}"] = added(torch.as_tensor(count, dtype=torch.float64))
    return out | dict(module.state_dict())


def _of_file(path: Path) -> Part:
    own = defined(path, tuple(BASES.values()))
    if len(own) != 1:
        fix = "Begin with `modicum new trust NAME` or `modicum new method NAME`; what is shared goes to other files."
        raise SettingsError(f"no CARD, and {len(own)} trust rules and objectives instead of one", where=path, fix=fix)
    role = next(kind for kind, base in BASES.items() if issubclass(own[0], base))
    return Part(f"{role}/{path.stem.replace('_', '-')}", role, own[0], path, str(path.resolve()))
