"""Laws of the card's needs: what it asks for suffices, and nothing of it is asked for in vain."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import ModicumError, NeedsError
from modicum.core.kinds import KINDS, Fact
from modicum.core.plan import plan, with_images
from modicum.core.search import gives
from modicum.engine import choose
from modicum.testing import toy
from modicum.testing.case import Case
from modicum.testing.results import TABLES, TRAINS, NotForItError, check, demand

ROLES = (*TRAINS, *TABLES, "imagine")


@check("needs sufficient", ROLES, "The method reads something that its card does not ask for.")
def sufficient(case: Case) -> None:
    """With any one way of meeting the card's needs, the planner offers the method and it gives something."""
    for have in itertools.product(*case.needs):
        if case.card.role == "wrap":
            inner = Case.open(choose.baseline())
            found = plan(inner.facts, case.card.made[0], {inner.name: inner.card, case.name: case.card})
            demand(case.name in found.chains[0].around, f"the planner does not offer it around {inner.name}")
            case.exercise()
            continue
        chains = plan(have, case.card.made[0], {case.name: case.card}).chains
        steps = [s.names for c in chains for s in c.steps if len(c.steps) == 1]
        demand(any(case.name in names for names in steps), f"the planner does not offer it for {_words(have)}")
        found = _work(case, have)
        demand(_worked(found), f"with {_words(have)} alone it gives nothing")


@check("needs necessary", (*ROLES, "explain"), "A need is not read, or its lack shows as another error.")
def necessary(case: Case) -> None:
    """Without a need, the planner refuses and the method's error names what is missing."""
    if case.card.role == "wrap":
        raise NotForItError
    for i, gone in enumerate(case.needs):
        have = tuple(n[0] for j, n in enumerate(case.needs) if j != i)
        if any(set(gone) & set(gives(f)) for f in with_images(have)):
            demand(all(f.kind == "image" for f in gone), f"{_words(gone)} follows from the other needs: leave it out")
            continue
        said = _refusal(case, have)
        if all(f.kind == "image" for f in gone) or case.card.role == "explain":
            continue
        if case.card.role in TRAINS and all(fact.net for fact in gone):
            continue  # a network that has learned something is asked for before the program begins: engine/choose.py
        said += _failure(case, have, gone)
        named = any(word in said for fact in gone for word in _names(fact))
        demand(named, f"without {_words(gone)} the error does not name it: {said}")


def _refusal(case: Case, have: tuple[Fact, ...]) -> str:
    try:
        plan(have, case.card.made[0], {case.name: case.card})
    except NeedsError as error:
        return str(error)
    demand(False, f"the planner uses it with {_words(have)} alone")
    return ""


def _failure(case: Case, have: tuple[Fact, ...], gone: tuple[Fact, ...]) -> str:
    """What the method itself says when it lacks something."""
    try:
        found = _work(case, have)
    except ModicumError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"without {_words(gone)}: {type(error).__name__}: {error}") from error
    demand(not _worked(found), f"it works without {_words(gone)}: the card asks in vain")
    return _words(gone)


def _work(case: Case, have: tuple[Fact, ...]) -> Any:
    world = toy.world(have)
    if case.card.role in TRAINS:
        return case.exercise(world=world, steps=2)
    if case.card.role == "imagine":
        named = any(f.kind == "names" for fact in have for f in gives(fact))
        return case.pictures(case.method(), toy.CLASSES if named else ())
    return case.apply(case.method(), world.table(case.columns(have)))


def _worked(found: Any) -> bool:
    """It gave something: a finite number, a position, a label."""
    if isinstance(found, Dataset):
        soft = found.columns.get("probs")
        return bool(found.annotations.num_rows) or (soft is not None and bool(np.isfinite(soft).any()))
    if isinstance(found, list):
        return bool(found) and all(map(math.isfinite, found))
    return bool(np.isfinite(np.asarray(found)).any())


def _names(fact: Fact) -> tuple[str, ...]:
    """Words by which an error may name a fact."""
    if fact.net:
        return (str(fact), "features" if "features" in (fact.kind, fact.part) else "logits")
    return (fact.kind, *(w for w in ("label",) if KINDS[fact.kind].seconds))


def _words(facts: tuple[Fact, ...]) -> str:
    return ", ".join(map(str, facts)) or "nothing"
