"""Roles.  A method is a frozen dataclass of settings; everything that changes lives in the nets it builds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from modicum.core.card import Card
from modicum.core.errors import ModelError, SettingsError
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

    def risk(self) -> tuple[float, ...]:
        """(share, level): believe guesses from the confidence on at which at most `share` of held-out ones is wrong.

        () asks for nothing.  `fit` trains in folds first and hands what it finds to `settled`.
        """
        return ()

    def settled(self, tau: float) -> dict[str, Any]:
        """The settings that hold this least confidence."""
        return {}


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

    def risk(self) -> tuple[float, ...]:
        return tuple(self.inner.risk())

    def settled(self, tau: float) -> dict[str, Any]:
        return dict(self.inner.settled(tau))


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


class Answer(NamedTuple):
    """scores: (n,T), of each target.  probs: (n,T), its class's probability; NaN where a target is not one class."""

    scores: Tensor
    probs: Tensor


@dataclass(frozen=True)
class Attention:
    """weights: a block each, first to last, (B,heads,N,N), rows sum to 1.  slopes: for each, the gradient of every
    target's score, (B,T,heads,N,N); empty where no method asked.  prefix: tokens before those of the h*w patches.
    query: (N,), how much the head reads of each token, sum 1."""

    weights: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]
    prefix: int
    query: Tensor


@dataclass(frozen=True)
class Seen:
    """What one captured pass shows a method of one layer: B images, T targets an image, K maps of h x w positions.

    count: T.  images: (B,c,H,W).  acts: (B,K,h,w), float32 or float64; K = 0 for methods that read attention.
    grads: (B,T,K,h,w), gradient of each target's score by acts; None where no method asked.
    rows: (B,T,K), weights of each target's score on averaged maps; None where it is not linear in those.
    notes: a method may append a sentence about maps that should not be trusted.
    rest(i, acts (n,K,h,w)) -> Answer: image i with other maps at this layer; only what follows is run n times.
    look(i, images (n,c,H,W)) -> Answer: other images, asked for the targets of image i.
    again(images (B,c,H,W)) -> the same of other images, with the same targets.
    guided() -> (B,T,c,H,W), gradient of each target's score by the images that passes every ReLU where it is positive.
    classes: int64 (B,T), of the targets, -1 where one is no class; None where nobody says.
    """

    count: int
    images: Tensor
    acts: Tensor
    grads: Tensor | None
    rows: Tensor | None
    notes: list[str]
    rest: Callable[[int, Tensor], Answer]
    look: Callable[[int, Tensor], Answer]
    again: Callable[[Tensor], Seen]
    guided: Callable[[], Tensor]
    attention: Attention | None = None
    classes: Tensor | None = None

    def gradient(self, where: str) -> Tensor:
        """`grads`; ModelError where there are none."""
        if self.grads is None:
            raise ModelError("the gradient was not captured", where=where, fix="Give a pass with gradient.")
        return self.grads


@dataclass(frozen=True)
class Explain(Method):
    """Says where a network looks, from one captured pass.

    weigh(seen) -> maps (B,T,h,w), sign kept.  gradient: whether a backward pass is needed.
    attention: whether it reads the attention of a transformer instead of a layer's maps.
    layer: the one layer that it reads, without gradient, whatever layers are named; "" = those.
    """

    gradient: ClassVar[bool] = True
    attention: ClassVar[bool] = False
    layer: ClassVar[str] = ""

    def weigh(self, seen: Seen) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Reshape(Learn):
    """Turns a network into a smaller or other one: a program that ends in a Change."""


class Imagined(NamedTuple):
    """An image that was made.  pixels: uint8 (S,S,3).  tags: int8 (C,), 1 present, 0 absent.  caption: the sentence it
    was made from.  kept: False where the method itself turned it down."""

    pixels: np.ndarray
    tags: np.ndarray
    caption: str
    kept: bool = True


Cutouts = Mapping[str, Sequence["np.ndarray"]]


@dataclass(frozen=True)
class Doors:
    """What a run lends a method that makes images.  Each opens what a user named, and refuses what is not there.

    language(name) -> write(start, words, seed) -> str: how a language model goes on, in so many tokens at most.
    brush(name, side, steps, guidance) -> paint(sentence, seed) -> uint8 (side,side,3): a text-to-image model.
    cutouts(place, names) -> for each class pictures, uint8 (h,w,4), the last channel what belongs to the object.
    judge(place, names) -> tell(images uint8 (B,S,S,3)) -> probabilities (B,C) of the classes, by a classifier.
    """

    language: Callable[[str], Callable[[str, int, int], str]]
    brush: Callable[[str, int, int, float], Callable[[str, int], np.ndarray]]
    cutouts: Callable[[str, Sequence[str]], Cutouts]
    judge: Callable[[str, Sequence[str]], Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Imagine(Method):
    """Makes images of named classes.  What is said of them is which classes are there: never where.

    many(classes, real): images of each class beside so many real ones (0 = none).
    imagine(names, number, rng, doors): `number` images that are kept of each class, in order; one rng, one result.
    """

    def many(self, classes: int, real: int) -> int:
        raise NotImplementedError

    def imagine(
        self, names: Sequence[str], number: int, rng: np.random.Generator, doors: Doors
    ) -> Iterator[Imagined]:
        raise NotImplementedError
