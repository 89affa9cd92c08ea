"""Laws of selections: exactly what was asked for, distinct, open, and the same for the same generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modicum.core.dataset import MODEL, Table
from modicum.core.errors import ModicumError
from modicum.core.kinds import Fact
from modicum.testing import toy
from modicum.testing.case import Case
from modicum.testing.compare import same
from modicum.testing.results import check, demand

SELECT = ("select",)


def open_table(case: Case, some: bool = True) -> Table:
    """Part of the rows in another order, so that a position is not a row; half of them labelled by a person."""
    world = toy.world((*(f for f in case.facts if f.kind != "class" or f.net), Fact("class", some=True)))
    if not some:
        world = replace(world, data=world.data.without("class", np.arange(toy.POOL)))
    return case.table(world, np.random.default_rng(8).permutation(toy.POOL)[:40])


def chosen(case: Case, table: Table, budget: int, seed: int = 0) -> np.ndarray:
    """The selection, after the laws that hold for each."""
    found = case.method().select(table, budget, np.random.default_rng(seed))
    demand(isinstance(found, np.ndarray) and found.shape == (budget,), f"budget {budget} gives {np.shape(found)}")
    demand(found.dtype.kind == "i", f"positions of type {found.dtype}, not whole numbers")
    demand(len(set(found.tolist())) == budget, f"budget {budget}: one image is chosen twice")
    demand(bool(((found >= 0) & (found < len(table))).all()), "a position outside the table: rows were given")
    demand(bool((table.cls[found] < 0).all()), "an image that a person has labelled already is chosen")
    return found


@check("selection", SELECT, "Rows instead of positions, drawing with replacement, or labelled images left in.")
def selection(case: Case) -> None:
    """As many distinct unlabelled positions as the budget says, from none to all."""
    for some in (True, False):
        table = open_table(case, some)
        free = int((table.cls < 0).sum())
        for budget in (0, 1, 7, free):
            chosen(case, table, budget)


@check("selection by rng", SELECT, "A global generator, or a set or dict whose order decides.")
def reproducible(case: Case) -> None:
    """The same generator gives the same selection."""
    table = open_table(case)
    same(chosen(case, table, 7, seed=3), chosen(case, table, 7, seed=3), "the selection of the same generator")


@check("selection too large", SELECT, "The budget is cut in silence: `functional.rows.unlabelled` refuses it.")
def too_large(case: Case) -> None:
    """A budget beyond the unlabelled images, or below 0, is refused by number."""
    table = open_table(case)
    for budget in (int((table.cls < 0).sum()) + 1, -1):
        try:
            found = case.method().select(table, budget, np.random.default_rng(0))
        except ModicumError as error:
            demand(str(budget) in str(error), f"the error does not name the budget {budget}: {error.found}")
        else:
            demand(False, f"a budget of {budget} gives {len(found)} images instead of an error")


@check("selection after guesses", SELECT, "A model's guess closes a row, though what a person would say is still open.")
def guesses(case: Case) -> None:
    """An image that only a model labelled can still be chosen."""
    table = open_table(case)
    free = int((table.cls < 0).sum())
    guessed = np.where(table.data.cls < 0, 0, -1)
    data = table.data + table.data.delta_class(guessed, source="guess", who=MODEL)
    found = case.method().select(replace(table, data=data), free, np.random.default_rng(0))
    demand(len(found) == free and bool((table.cls[found] < 0).all()), "rows that only a model labelled are not offered")
