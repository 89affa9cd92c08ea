"""A program is a plain list of phases; the engine alone runs it.

Functions are named, not held: `loss`, `fn` are attributes of the method, dotted to reach inside a wrapper
(`inner.loss`), and `at` is the part of the nets they are handed.  So a program is data: it can be printed,
compared, rewritten by a wrapper and resumed by (phase, step).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from modicum.core.errors import SettingsError
from modicum.core.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Stream:
    """What a phase draws: images of the rows chosen by `rows` (see core/where.py), `size` a step over all processes.

    sampler: "shuffle" (each row once an epoch), "balanced" (classes alike), "weighted:COLUMN".
    """

    rows: str
    size: int
    views: tuple[str, ...] = ("weak",)
    sampler: str = "shuffle"

    def __post_init__(self) -> None:
        if len(set(self.views)) < len(self.views):
            twice = next(v for v in self.views if self.views.count(v) > 1)
            fix = "A view has one draw an image: declare another name for the second in the recipe's views."
            raise SettingsError(f"the view {twice!r} stands twice in one stream", where=f"rows {self.rows!r}", fix=fix)


@dataclass(frozen=True, slots=True)
class Turn:
    """One optimiser step: which loss, what it trains (prefixes of parameter names; () = all), which optimiser group."""

    loss: str = "loss"
    trains: tuple[str, ...] = ()
    group: str = "main"


@dataclass(frozen=True, slots=True)
class Train:
    """`steps` gradient steps over named streams; each step takes all turns in order, then the method's `after_step`.

    lane: phases of one lane share a schedule and optimisers; copies trained apart (model averaging) each have their
    own, and draw their own data.  at: the part of the nets handed to the losses (`after_step` is handed all of them).
    carry: go on with the optimiser state of the last Train of this lane, if its turns were the same and no Change in
    between dropped it; otherwise optimisers begin anew.
    """

    streams: Mapping[str, Stream]
    steps: int
    turns: tuple[Turn, ...] = (Turn(),)
    name: str = "train"
    lane: int = 0
    at: str = ""
    carry: bool = False


@dataclass(frozen=True, slots=True)
class Collect:
    """A pass over a stream without gradient: `fn(nets, batch) -> (B, ...)` fills the column `into`; the batch is
    `batch["all"]`.  Later phases choose rows by the column and find it in `Part.columns`.

    draw: passes of other numbers see other draws of a view that moves.
    `mode="train"` runs the nets in train mode (to refresh batch-norm statistics).  `into=""` keeps no column: what `fn`
    finds is then left in buffers (importances), where a Change can read it.
    """

    fn: str
    stream: Stream
    into: str = ""
    mode: str = "eval"
    name: str = "collect"
    at: str = ""
    draw: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """`fn(nets)` changes the nets in place: average, prune, extend a head, discretise.

    It may depend on the nets alone (what it must know of the data, an earlier phase left in a buffer) and on torch's
    generator, so that resuming can repeat it.  A change of structure must show in the modules' `repr`, or in the names,
    shapes or `requires_grad` of parameters and buffers.
    optimisers: "" dropped; "keep", or "mean": each lane goes on from the mean over lanes, where its Train has `carry`.
    After a change of structure they are always dropped.
    """

    fn: str
    name: str = "change"
    at: str = ""
    optimisers: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """The run waits for a person: `select` (a select method) names the rows and kinds, at most `seconds` of work."""

    select: str
    seconds: float
    name: str = "ask"
    at: str = ""


Phase = Train | Collect | Change | Ask
Program = list[Phase]


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the run is.  step counts within the phase, of `steps`; total counts all steps of this lane before this one,
    and done is the share of them that is over, 0 to 1: schedules are functions of it."""

    phase: int
    step: int
    steps: int
    seed: int
    lane: int = 0
    total: int = 0
    done: float = 0.0


@dataclass(frozen=True)
class Info:
    """What a method may know of the data before training: from visible labels only.

    classes: names.  counts: visible labels a class.  images: all rows; labelled: rows with a label.
    channels, side: of the cached pixels.  recipe: how to train.  pool: rows that may be drawn (0: all images).
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    images: int
    labelled: int
    channels: int = 3
    side: int = 32
    recipe: Recipe = field(default_factory=Recipe)
    pool: int = 0

    @property
    def prior(self) -> tuple[float, ...]:
        """Share of each class among visible labels; uniform where there are none."""
        total = sum(self.counts)
        return tuple(c / total for c in self.counts) if total else (1 / len(self.classes),) * len(self.classes)


def inside(phase: Phase, owner: str, at: str, lane: int | None = None) -> Phase:
    """A phase of an inner method as its wrapper's: names reach into `owner`, nets into `at`."""
    scope = f"{at}.{phase.at}" if phase.at else at
    if isinstance(phase, Train):
        turns = tuple(replace(t, loss=f"{owner}.{t.loss}") for t in phase.turns)
        return replace(phase, turns=turns, at=scope, lane=phase.lane if lane is None else lane)
    if isinstance(phase, Ask):
        return phase
    return replace(phase, fn=f"{owner}.{phase.fn}", at=scope)
