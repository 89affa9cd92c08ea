"""What `fit` chooses for a grid of situations: made-up labels, measured and planned by the code that `fit` calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from modicum.core.dataset import Dataset
from modicum.data.scan import traits
from modicum.data.stream import FACTS
from modicum.engine import choose

CLASSES, LACK = 10, 10  # classes, images without a label for each with one
LABELS, TAILS, SIDES = (1, 4, 10, 25, 100, 1000), (1, 10, 100), (28, 64, 224)
HASTE = 100  # labels-only steps that a short time allows


@dataclass(frozen=True)
class Choice:
    """One situation and what came of it.

    labels: of the commonest class.  tail: how many times as many as of the rarest.  steps: labels-only steps the time
    allows, 0 = any number.  names: the chain, best first; others: what else could take its last step, in order.
    """

    labels: int
    tail: int
    unlabelled: bool
    side: int
    steps: int
    traits: tuple[str, ...]
    names: tuple[str, ...]
    others: tuple[str, ...]
    suits: tuple[str, ...]


def choices() -> Iterator[Choice]:
    """Every situation of the grid that can be: a tail of 1:100 takes 100 labels."""
    for labels, tail, unlabelled in itertools.product(LABELS, TAILS, (False, True)):
        if labels < tail:
            continue
        data = _data(labels, tail, unlabelled)
        for side in SIDES:
            facts = np.zeros(1, FACTS)
            facts["height"] = facts["width"] = side
            found = tuple(traits(data, facts, [], []))
            for steps in (0, HASTE):
                chain = choose.chain(data, found, "", steps)
                last = chain.steps[-1]
                yield Choice(
                    labels, tail, unlabelled, side, steps, found, chain.names, last.names[1:], last.options[0].suits
                )


def _data(labels: int, tail: int, unlabelled: bool) -> Dataset:
    """Labels that fall off by a constant factor from class to class, rounded up."""
    counts = np.ceil(labels * tail ** (-np.arange(CLASSES) / (CLASSES - 1)) - 1e-9).astype(int)
    cls = np.repeat(np.arange(CLASSES), counts)
    cls = np.concatenate([cls, np.full(LACK * len(cls) * unlabelled, -1)])
    return Dataset.build([str(i) for i in range(len(cls))], [f"class {c}" for c in range(CLASSES)], cls=cls)


def table(found: Sequence[Choice]) -> list[tuple[str, ...]]:
    """A row for each kind of labels, with what is chosen for each number of them; equal sides and times are one."""
    rows = []
    for unlabelled, tail in itertools.product((False, True), TAILS):
        cells: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        for side, steps in itertools.product(SIDES, (0, HASTE)):
            here = (unlabelled, tail, side, steps)
            at = {c.labels: " > ".join(c.names) for c in found if (c.unlabelled, c.tail, c.side, c.steps) == here}
            cells.setdefault(tuple(at.get(n, "") for n in LABELS), []).append((side, steps))
        for cell, where in cells.items():
            sides = dict.fromkeys(str(s) for s, _ in where)
            side = "any" if len(sides) == len(SIDES) else ", ".join(sides)
            labels = "balanced" if tail == 1 else f"1:{tail}"
            rows.append((f"{LACK} a label" if unlabelled else "none", labels, side, _time(t for _, t in where), *cell))
    return rows


def reasons(found: Sequence[Choice]) -> list[tuple[str, ...]]:
    """A row for each set of traits and what came of it."""
    times: dict[tuple[str, ...], set[int]] = {}
    for c in found:
        row = (", ".join(c.traits), " > ".join(c.names), ", ".join(c.suits), ", ".join(c.others[:3]))
        times.setdefault(row, set()).add(c.steps)
    return sorted((row[0], _time(steps), *row[1:]) for row, steps in times.items())


def _time(steps: Iterable[int]) -> str:
    known = set(steps)
    return "any" if len(known) == 2 else "short" if known.pop() else "enough"
