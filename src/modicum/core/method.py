"""Roles.  A method is a frozen dataclass of settings; everything that changes lives in the nets it builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from modicum.core.card import Card
from modicum.core.errors import SettingsError
from modicum.core.program import Clock, Info, Phase, Program, Stream, Train, inside
from modicum.core.recipe import Recipe
from modicum.core.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from modicum.core.batch import Batch
    from modicum.core.dataset import Dataset, Table
    from modicum.core.loss import Loss
    from modicum.core.net import Net, Nets

Make = Callable[..., "Net"]
Presets = Mapping[str, Mapping[str, Any]]
Recipes = Mapping[str, Recipe]


@dataclass(frozen=True)
class Method(Settings):
    """Base of all roles.  `card` is the literal above the class, set when the registry loads the file."""

    card: ClassVar[Card]
    presets: ClassVar[Presets] = {"paper": {}, "small": {}}
    recipes: ClassVar[Recipes] = {"paper": Recipe(), "small": Recipe()}


@dataclass(frozen=True)
class Learn(Method):
    """Trains networks.  `loss` is required unless the program names other losses.

    build(info, make): `make(role)` gives a new Net of the run's architecture, `make(role, frozen=True)` one that the
    user brings.  program(info): a pure function of settings and info.  deliver: what predict, evaluate and export see.
    """

    def build(self, info: Info, make: Make) -> Nets:
        from modicum.core.net import Nets

        return Nets({"net": make("net")})

    def program(self, info: Info) -> Program:
        return [Train({"l": Stream("class", info.recipe.batch, ("weak",))}, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def after_step(self, nets: Nets, clock: Clock) -> None:
        """Called after every gradient step; updates buffers."""

    def deliver(self, nets: Nets) -> Net:
        return nets["net"]  # type: ignore[return-value]


@dataclass(frozen=True)
class Wrap(Learn):
    """A learn method around another: the one legal way to compose two.  Nets of the inner method are at `inner`."""

    inner: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner is None:
            card = getattr(type(self), "card", None)
            name = card.name if card else type(self).__name__.lower()
            fix = f"Give it as `inner`, or name both: `modicum fit FOLDER --method NAME --recipe wraps={name}`."
            raise SettingsError(f"{name} wraps another method, and none is given", where=name, fix=fix)

    def build(self, info: Info, make: Make) -> Nets:
        from modicum.core.net import Nets

        return Nets({"inner": self.inner.build(info, make)})

    def program(self, info: Info) -> Program:
        return [self.enter(phase) for phase in self.inner.program(info)]

    def enter(self, phase: Phase) -> Phase:
        """An inner phase as one of ours."""
        return inside(phase, "inner", "inner")

    def after_step(self, nets: Nets, clock: Clock) -> None:
        self.inner.after_step(nets["inner"], clock)

    def deliver(self, nets: Nets) -> Net:
        return self.inner.deliver(nets["inner"])


@dataclass(frozen=True)
class Label(Method):
    """Gives labels from a table: a delta Dataset whose rows carry their source."""

    def label(self, table: Table) -> Dataset:
        raise NotImplementedError


@dataclass(frozen=True)
class Score(Method):
    """Gives each row of a table a number, float64 (N,); the card says what larger means."""

    def score(self, table: Table) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class Select(Method):
    """Says which rows a person should look at next."""

    kind: ClassVar[str] = "class"

    def select(self, table: Table, budget: int, rng: np.random.Generator) -> np.ndarray:
        """Positions in the table, int64 (budget,): distinct, none that already has a label, best first."""
        raise NotImplementedError


@dataclass(frozen=True)
class Explain(Method):
    """Says where a network looks, from one captured pass.

    weigh(acts (B,K,h,w), grads (B,T,K,h,w) or None, head (C,K) or None, targets (B,T)) -> maps (B,T,h,w), sign kept.
    `gradient` says whether a backward pass is needed.
    """

    gradient: ClassVar[bool] = True

    def weigh(self, acts: Tensor, grads: Tensor | None, head: Tensor | None, targets: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Reshape(Learn):
    """Turns a network into a smaller or other one: a program that ends in a Change."""
