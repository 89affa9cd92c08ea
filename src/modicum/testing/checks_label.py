"""Laws of label methods: they add, never overwrite, and say nothing where they know nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modicum.core.dataset import HUMAN, MODEL, Dataset, Table
from modicum.core.kinds import Fact
from modicum.testing import tolerances, toy
from modicum.testing.case import Case
from modicum.testing.compare import near, same
from modicum.testing.results import check, demand
from modicum.testing.toy import World

LABEL = ("label",)


def kind_of(case: Case) -> str:
    """The kind of labels that the method gives."""
    kind = case.card.made[0].kind
    return kind if kind in ("boxes", "masks") else "class"


def some(case: Case) -> World:
    """Toy data in which a person has labelled a few rows and nothing at all is known of some others."""
    facts = tuple(f if f.net else replace(f, some=True) for f in case.facts)
    made = toy.world((*facts, Fact(kind_of(case), some=True)))
    human = made.data.without(kind_of(case), np.flatnonzero(np.arange(len(made.data)) % 12 != 0))
    columns = {k: v.copy() for k, v in made.columns.items()}
    for values in columns.values():
        values[nothing()] = np.nan
    for kind in ("votes", "probs", "maps"):
        human = human.without(kind, nothing())
    return replace(made, data=human, columns=columns)


def nothing() -> np.ndarray:
    """Rows without votes and maps, and with outputs that are not finite."""
    return np.arange(3, toy.POOL, 12)


def stated(delta: Dataset) -> np.ndarray:
    """Rows about which the delta says something."""
    soft = [np.flatnonzero(np.isfinite(v).all(1)) for k, v in delta.columns.items() if k == "probs"]
    return np.unique(np.concatenate([delta.annotations["row"].to_numpy(), *soft]).astype(np.int64))


@check("labels kept", LABEL, "Rows that a person labelled are not left out of the delta.")
def kept(case: Case) -> None:
    """What a person said is neither labelled again nor overruled."""
    world = some(case)
    table = case.table(world)
    delta = case.method().label(table)
    human = np.flatnonzero(world.data.known(kind_of(case)))
    again = np.intersect1d(delta.annotations["row"].to_numpy(), human)
    demand(not len(again), f"row {again[:1]} was labelled by a person, and is labelled again")
    resolved = (world.data + delta).resolve((HUMAN,))
    same(world.data.cls[human], resolved.cls[human], "classes that a person gave")


@check("labels with evidence", LABEL, "A row without votes, or with outputs that are not finite, gets a class.")
def evidence(case: Case) -> str:
    """Rows get a label where there is something to tell it from, and only rows of the table."""
    world = some(case)
    found = stated(case.method().label(case.table(world)))
    guessed = np.intersect1d(found, nothing())
    demand(not len(guessed), f"row {guessed[:1]} gets a label from nothing")
    demand(len(found) > 0, "nothing is labelled where there is evidence")
    part = np.flatnonzero(world.pool)[:20]
    outside = np.setdiff1d(stated(case.method().label(case.table(world, part))), part)
    demand(not len(outside), f"row {outside[:1]} is not in the table, and is labelled")
    return f"{len(found)} of {toy.POOL} rows labelled"


@check("label delta", LABEL, "The delta is not made by Dataset.delta or delta_class, or its source is not the method.")
def adds(case: Case) -> None:
    """The result is a delta of the same classes, made by a model, with confidences and probabilities in range."""
    world = some(case)
    delta = case.method().label(case.table(world))
    demand(isinstance(delta, Dataset), f"label gives a {type(delta).__name__}, not a Dataset")
    joined = world.data + delta
    demand(len(joined) == len(world.data) + len(delta), "rows are lost on adding")
    demand(joined.names == world.data.names, f"classes become {joined.names}")
    who = delta.sources["who"].to_pylist()
    demand(bool(who) and set(who) == {MODEL}, f"its sources are {who}, not a model")
    cls, sure = delta.annotations["class"].to_numpy(), delta.annotations["confidence"].to_numpy(zero_copy_only=False)
    demand(bool(((cls >= 0) & (cls < len(joined.names))).all()), "a class that there is not")
    told = sure[~np.isnan(sure.astype(np.float64))]
    demand(bool(((told >= 0) & (told <= 1)).all()), "a confidence outside 0 to 1")
    soft = delta.columns.get("probs")
    if soft is not None:
        known = soft[np.isfinite(soft).all(1)]
        near(known.sum(1), np.ones(len(known)), tolerances.FP32, "sums of probabilities")
        demand(bool((known >= 0).all()), "a negative probability")


@check("label permutation", LABEL, "Ties or starting values depend on the order of rows.")
def permutation(case: Case) -> None:
    """The order of rows, in the data or the table, changes no label."""
    world = some(case)
    order = np.random.default_rng(1).permutation(toy.POOL)
    moved = replace(world, data=world.data.take(order), columns={k: v[order] for k, v in world.columns.items()})
    one, two = (_said(case, case.table(w)) for w in (world, moved))
    same(one[0][order], two[0], "classes of permuted rows")
    near(one[1][order], two[1], tolerances.FP32, "probabilities of permuted rows")
    shuffled = _said(case, case.table(world, order))
    same(one[0], shuffled[0], "classes from a table in another order")


def _said(case: Case, table: Table) -> tuple[np.ndarray, np.ndarray]:
    delta = case.method().label(table)
    cls = np.full(len(table.data), -1, np.int64)
    cls[delta.annotations["row"].to_numpy()] = delta.annotations["class"].to_numpy()
    return cls, delta.columns.get("probs", np.zeros((len(cls), 0)))
