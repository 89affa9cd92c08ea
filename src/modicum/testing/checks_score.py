"""Laws of scores: finite, in the direction the card says, and of each row alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np

from modicum.core.dataset import HUMAN
from modicum.core.errors import ModicumError
from modicum.testing import tolerances, toy
from modicum.testing.case import Case
from modicum.testing.compare import near, same
from modicum.testing.results import check, demand
from modicum.testing.toy import World

SCORE = ("score",)


def uncertain(world: World) -> tuple[World, np.ndarray]:
    """Every third row's logits say nothing; the others are sure."""
    bad = np.arange(len(world.truth)) % 3 == 1
    luck = np.random.default_rng(6).normal(0, 0.3, (len(bad), len(toy.CLASSES)))
    logits = luck + np.where(bad, 0, 5)[:, None] * np.eye(len(toy.CLASSES))[world.truth]
    return replace(world, columns={**world.columns, "logits": logits.astype(np.float32)}), bad


def mislabelled(world: World) -> tuple[World, np.ndarray]:
    """Every fourth row has a wrong class, and a network that has not seen the labels tells the truth."""
    rows = np.arange(len(world.truth))
    bad = (rows % 4 == 1) & world.pool
    clean = world.data.without("class", rows)
    wrong = np.where(bad, (world.truth + 1) % len(toy.CLASSES), world.truth)
    return replace(world, data=clean + clean.delta_class(wrong, source="human", who=HUMAN)), bad


PLANTED: Mapping[str, Callable[[World], tuple[World, np.ndarray]]] = {
    "less certain": uncertain, "more likely mislabelled": mislabelled,
}  # fmt: skip
"""What a card's `higher` promises -> a case in which the rows that should score high are known."""


@check("score direction", SCORE, "The sign is wrong, or the card's `higher` promises another direction.")
def direction(case: Case) -> str:
    """The score is larger where the card's `higher` says so, on a planted case."""
    promise = case.card.higher
    demand(promise in PLANTED, f"no planted case for higher={promise!r}; there are {', '.join(PLANTED)}")
    world, bad = PLANTED[promise](case.world())
    values = case.method().score(case.table(world))
    bad = bad[world.pool]
    high, low = values[bad], values[~bad]
    area = float((high[:, None] > low).mean() + (high[:, None] == low).mean() / 2)
    demand(area >= tolerances.DIRECTION, f"larger should mean {promise}: on the planted case the area is {area:.2f}")
    return f"area {area:.2f} on the planted case"


@check("score finite", SCORE, "A logarithm of 0, a division by 0, or NaN where the row has all it needs.")
def finite(case: Case) -> None:
    """One float64 a row: a number where the row has what the card needs, NaN where it has not."""
    world = case.world()
    lacking = np.zeros(toy.POOL, bool)
    for fact in case.facts:
        lacking |= False if fact.net else ~world.data.known(fact.kind)
    for name, logits in _outputs(world).items():
        values = case.method().score(case.table(replace(world, columns={**world.columns, "logits": logits})))
        demand(isinstance(values, np.ndarray) and values.shape == (toy.POOL,), f"{name}: not one value a row")
        demand(values.dtype == np.float64, f"{name}: values of type {values.dtype}, not float64")
        demand(not np.isinf(values).any(), f"{name}: an infinite score")
        wrong = np.flatnonzero(np.isnan(values) & ~lacking)
        demand(not len(wrong), f"{name}: row {wrong[:1]} has all it needs and no score")
        invented = np.flatnonzero(~np.isnan(values) & lacking)
        demand(not len(invented), f"{name}: row {invented[:1]} lacks what the card needs and has a score")


def _outputs(world: World) -> dict[str, np.ndarray]:
    logits = world.columns["logits"]
    return {"a fair network": logits, "certainty": 1e4 * logits, "all alike": 0 * logits}


@check("score of bad rows", SCORE, "A row that is not finite spoils others, or gets a number itself.")
def bad_rows(case: Case) -> None:
    """A row with outputs that are not finite has no score and changes no other."""
    world = case.world()
    logits = world.columns["logits"].copy()
    logits[[4, 9]] = np.nan
    spoilt = replace(world, columns={**world.columns, "logits": logits})
    fair, values = (case.method().score(case.table(w)) for w in (world, spoilt))
    same(np.delete(fair, [4, 9]), np.delete(values, [4, 9]), "scores of the rows beside")
    reads = "logits" in case.columns(case.facts)
    demand(not reads or bool(np.isnan(values[[4, 9]]).all()), "a row whose outputs are not finite has a score")


@check("score permutation", SCORE, "A score depends on its neighbours: a rank, a mean or a maximum over the table.")
def permutation(case: Case) -> None:
    """The score of a row does not depend on the rows beside it."""
    world, method = case.world(), case.method()
    rows = np.arange(toy.POOL)
    whole = method.score(case.table(world, rows))
    order = np.random.default_rng(1).permutation(toy.POOL)
    near(whole[order], method.score(case.table(world, order)), tolerances.FP64, "scores of permuted rows")
    half = toy.POOL // 2
    parts = [method.score(case.table(world, rows[:half])), method.score(case.table(world, rows[half:]))]
    near(whole, np.concatenate(parts), tolerances.FP64, "scores of halves and of the whole")
    near(whole[:1], method.score(case.table(world, rows[:1])), tolerances.FP64, "the score of one row alone")
    with suppress(ModicumError):
        demand(len(method.score(case.table(world, rows[:0]))) == 0, "an empty table has scores")
