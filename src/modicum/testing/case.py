"""The method under test on toy data, and training made small enough that every law is checked in seconds."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modicum.core import registry
from modicum.core.batch import Part
from modicum.core.card import Card, read_card
from modicum.core.dataset import Table
from modicum.core.errors import SettingsError
from modicum.core.kinds import Fact
from modicum.core.loss import Loss
from modicum.core.method import Method
from modicum.core.net import scope
from modicum.core.program import Clock, Train
from modicum.core.recipe import Recipe
from modicum.data.feed import Feed
from modicum.engine import choose
from modicum.engine.loop import Loop
from modicum.nn.ema import copied
from modicum.testing import toy
from modicum.testing.compare import place
from modicum.testing.results import TRAINS, NotForItError, demand
from modicum.testing.stand_ins import Alone, ToyBench, captured, doors
from modicum.testing.toy import World

NET, WARM, SEED = "tiny-conv:width=4", 30, 1


@dataclass(frozen=True, eq=False)
class Scene:
    """One step in the middle of training, not taken yet: nets are a copy, the batch is drawn."""

    loop: Loop
    nets: torch.nn.Module
    phase: Train
    clock: Clock
    batch: dict[str, Part]

    def losses(self, batch: Mapping[str, Part] | None = None) -> list[Loss]:
        """Terms of each turn, on copies of the nets; those of its own batch are taken once."""
        return self.own if batch is None else self._losses(batch)

    @functools.cached_property
    def own(self) -> list[Loss]:
        """Terms of each turn, of the batch that was drawn."""
        return self._losses(self.batch)

    def _losses(self, batch: Mapping[str, Part]) -> list[Loss]:
        out = []
        for turn in self.phase.turns:
            with self.loop.fabric.autocast():
                out.append(self.loop.call(turn.loss)(copied(self.nets), batch, self.clock))
        return out

    def values(self, batch: Mapping[str, Part] | None = None) -> list[float]:
        """The scalar of each turn."""
        return [self.loop.total_of(loss).item() for loss in self.losses(batch)]


@dataclass(frozen=True, eq=False)
class Case:
    """A method, found by the registry or in a file of its own.  began: the process's state when it was opened."""

    name: str
    card: Card
    cls: type[Any]
    path: Path
    began: Mapping[str, Any] = field(default_factory=place)

    @staticmethod
    def open(name: str) -> Case:
        """By name, or by the path of a file that ends in .py."""
        if name.endswith(".py"):
            return _of_file(Path(name))
        return Case(name, registry.card(name), registry.load(name), registry.path(name))

    @property
    def role(self) -> str:
        """Of core.card.ROLES."""
        return self.card.role

    @property
    def xfail(self) -> Mapping[str, str]:
        """Checks that the card expects to fail -> reasons."""
        return self.card.xfail

    def method(self, _preset: str = "small", /, **settings: Any) -> Any:
        """The method with a preset and settings; a wrapper is put around the labels-only baseline."""
        around = {"inner": choose.compose(choose.baseline(), {}, Recipe(wraps=()))} if self.card.role == "wrap" else {}
        return self.cls.of({**self.cls.presets.get(_preset, {}), **around, **settings})

    def recipe(self, steps: int, batch: int = 8, preset: str = "small") -> Recipe:
        """The method's recipe, short and without wrappers."""
        recipe: Recipe = self.cls.recipes.get(preset, Recipe())
        return recipe.but(steps=steps, batch=batch, wraps=())

    @property
    def needs(self) -> tuple[tuple[Fact, ...], ...]:
        """Each need as its alternatives."""
        return tuple((n,) if isinstance(n, Fact) else n for n in self.card.needed)

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The first alternative of each need; a wrapper's are the baseline's."""
        needs = Case.open(choose.baseline()).needs if self.card.role == "wrap" else self.needs
        return tuple(n[0] for n in needs)

    def columns(self, have: tuple[Fact, ...]) -> tuple[str, ...]:
        """Columns that a run fills from the networks among these facts (engine.verbs.filled)."""
        if not any(f.net for f in have):
            return ()
        features = any(f.net and "features" in (f.kind, f.part) for n in self.needs for f in n)
        found = any(f.net and f.kind == "boxes" for f in have)
        return ("logits", *(("features",) if features else ()), *(("found",) if found else ()))

    def table(self, world: World | None = None, rows: np.ndarray | None = None) -> Table:
        """What the table methods are handed."""
        return (world or self.world()).table(self.columns(self.facts), rows)

    def world(self, **given: Any) -> World:
        """Toy data with what the card needs (see toy.world); made once where nothing is given."""
        return toy.world(given.pop("facts", self.facts), **given) if given else self.plain

    @functools.cached_property
    def plain(self) -> World:
        """Toy data with what the card needs, and no more."""
        return toy.world(self.facts)

    @functools.cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each channel of those data, which every network begins with."""
        return self.bench(self.plain).centre()

    def bench(self, world: World, fabric: Alone | None = None, kind: type[Feed] = Feed, **given: Any) -> ToyBench:
        """A bench of the real engine."""
        at = world.data, world.pixels, world.pool, NET, toy.SIDE, 3, SEED
        return ToyBench(*at, fabric or Alone(), kind=kind, **given)

    def loop(
        self, world: World | None = None, *, method: Any = None, recipe: Recipe | None = None, steps: int = 3,
        home: Path | None = None, tick: Any = None, fabric: Alone | None = None, kind: type[Feed] = Feed,
    ) -> Loop:  # fmt: skip
        """A training loop of the real engine, from its start."""
        world = world or self.plain
        known = self.moments if (world, kind) == (self.plain, Feed) else None
        bench = self.bench(world, fabric, kind, moments=known)
        return bench.loop(method or self.method(), recipe or self.recipe(steps), self.name, home, tick=tick)

    @functools.cached_property
    def warm(self) -> tuple[Loop, dict[str, Tensor]]:
        """A loop that has run WARM steps, and the weights of the delivered net before."""
        loop = self.loop(steps=WARM)
        before = copied(loop.method.deliver(loop.nets)).state_dict()
        loop.run()
        return loop, before

    @functools.cached_property
    def steps(self) -> bool:
        """Whether the program takes gradient steps; what it does otherwise is passes and changes alone."""
        return any(isinstance(p, Train) for p in self.loop().program)

    def scene(self, kind: type[Feed] = Feed, half: bool = False) -> Scene:
        """The step after half of the last Train phase, on trained nets; NotForItError where there is none."""
        if not self.steps:
            raise NotForItError
        warm, loop = self.warm[0], self.loop(steps=WARM, kind=kind, fabric=Alone(half=half))
        loop.nets = copied(warm.nets).train()
        for name, values in warm.feed.columns.items():
            loop.feed.put(name, values)
        number = max(i for i, p in enumerate(loop.program) if isinstance(p, Train))
        phase = loop.program[number]
        assert isinstance(phase, Train)
        clock = loop.clock(phase, number, phase.steps // 2)
        batch = {n: loop.feed.draw(s, n, clock.step, clock.phase, clock.lane) for n, s in phase.streams.items()}
        loop.seeded(clock.phase, clock.step, clock.lane)
        return Scene(loop, scope(loop.nets, phase.at), phase, clock, batch)

    @functools.cached_property
    def still(self) -> Scene:
        """That step for checks that change nothing in it."""
        return self.scene()

    @functools.cached_property
    def first(self) -> tuple[list[float], Mapping[str, Tensor]]:
        """`losses` of three steps from the start, and the state of the nets after them."""
        return self.outcome()

    def outcome(self) -> tuple[list[float], Mapping[str, Tensor]]:
        """The same once more."""
        loop = self.loop()
        return losses(loop), loop.nets.state_dict()

    def exercise(self, method: Any = None, world: World | None = None, steps: int = 1, batch: int = 8) -> Any:
        """Let the method do its work once.  -> losses, a delta, values, positions, maps or images, by its role."""
        method = method or self.method()
        if self.card.role in TRAINS:
            return losses(self.loop(world, method=method, recipe=self.recipe(steps, batch)))
        if self.card.role == "explain":
            return method.weigh(captured())
        if self.card.role == "imagine":
            return self.pictures(method)
        return self.apply(method, self.table(world))

    def pictures(self, method: Any, names: Sequence[str] = toy.CLASSES) -> list[float]:
        """The mean value of each of the images that a method makes, two of a class."""
        return [float(p.pixels.mean()) for p in method.imagine(names, 2, np.random.default_rng(0), doors())]

    def apply(self, method: Any, table: Table, budget: int = 5) -> Any:
        """A table method on a table."""
        if self.card.role == "label":
            return method.label(table)
        if self.card.role == "score":
            return method.score(table)
        return method.select(table, budget, np.random.default_rng(0))


def losses(loop: Loop) -> list[float]:
    """Run to the end; the scalar of every turn of every step.  BrokenError where a term is not finite.

    A program without steps has no loss: what the delivered net says of the toy images stands for it, logit by logit.
    """
    seen: list[float] = []
    watched: Callable[[Loss], Tensor] = loop.total_of

    def total_of(loss: Loss) -> Tensor:
        for name, term in loss.items():  # before the engine's own error: to run into it is no clear refusal
            demand(not term.weight or bool(term.total.isfinite()), f"the loss {name!r} is not finite")
        out = watched(loss)
        seen.append(out.item())
        return out

    setattr(loop, "total_of", total_of)  # noqa: B010
    loop.run()
    return seen if loop.total else answers(loop)


@torch.no_grad()
def answers(loop: Loop) -> list[float]:
    """The delivered net's logits on the toy images, in a row."""
    pixels = next(iter(loop.feed.sweep(np.arange(toy.POOL), toy.POOL)))["plain"]
    return loop.method.deliver(loop.nets).eval()(pixels).logits.flatten().tolist()  # type: ignore[no-any-return]


def _of_file(path: Path) -> Case:
    card = read_card(path)
    if card is None:
        raise SettingsError("no CARD in a method's file", where=path, fix="Start from `modicum new method NAME`.")
    own = defined(path, (Method,))
    if len(own) != 1:
        fix = "Move the others to files of their own, or import them."
        raise SettingsError(f"a method's file defines one Method, this one {len(own)}", where=path, fix=fix)
    own[0].card = card
    return Case(card.name, card, own[0], path)


def defined(path: Path, bases: tuple[type[Any], ...]) -> list[type[Any]]:
    """Subclasses of `bases` that a file outside the package defines; it is run."""
    name = f"_modicum_checked_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, bases) and c.__module__ == name]
