"""Every registered method and every part through every law, one pytest id each; how many apply is pinned in counts.csv.

After adding a method or a law: MODICUM_REGENERATE=1 pytest -n 0 tests/conformance, then read the difference.
"""

from __future__ import annotations

import csv
import functools
import os
from pathlib import Path

import pytest

from modicum.core import registry
from modicum.testing import CHECKS, Result, check_method

COUNTS = Path(__file__).parent / "counts.csv"
RANKS = ("two ranks", "part on two ranks")
FAST = {n: c for n, c in CHECKS.items() if not c.slow}
ROLES = {n: c.role for n, c in registry.cards().items()} | {n: n.partition("/")[0] for n in registry.part_names()}


def marked(name: str, check: str) -> object:
    """One worker does all of a method, and one worker all that needs two processes."""
    group = "ranks" if check in RANKS else name
    return pytest.param(name, check, id=f"{name}-{check}", marks=pytest.mark.xdist_group(group))


PAIRS = [marked(n, c) for n, role in ROLES.items() for c, law in FAST.items() if role in law.roles]


@functools.cache
def results(name: str) -> dict[str, Result]:
    return {r.check: r for r in check_method(name, skip=RANKS)}


def pinned() -> dict[str, int]:
    with COUNTS.open(encoding="utf-8", newline="") as file:
        return {row["method"]: int(row["checks"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize(("name", "check"), PAIRS)
def test_law(name: str, check: str) -> None:
    found = {r.check: r for r in check_method(name, only=check)} if check in RANKS else results(name)
    if check in found:  # a law that says nothing about the method is left out, and counted below
        assert found[check].ok, f"{found[check].message}\nusual cause: {found[check].cause}"


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in ROLES])
def test_as_many_laws_apply_as_are_pinned(name: str) -> None:
    count = len(results(name)) + sum(ROLES[name] in CHECKS[c].roles for c in RANKS)
    if os.environ.get("MODICUM_REGENERATE"):
        known = {**(pinned() if COUNTS.exists() else {}), name: count}
        rows = "".join(f"{n},{known[n]}\n" for n in sorted(known) if n in ROLES)
        COUNTS.write_text(f"method,checks\n{rows}", encoding="utf-8")
    assert pinned().get(name) == count, "checks came or went: see the head of this file"


def test_nothing_is_pinned_that_is_gone() -> None:
    assert set(pinned()) <= set(ROLES)


@pytest.mark.slow
@pytest.mark.parametrize("check", [n for n, c in CHECKS.items() if c.slow])
@pytest.mark.parametrize("name", list(registry.cards()))
def test_slow_law(name: str, check: str) -> None:
    for found in check_method(name, only=check):
        assert found.ok, f"{found.message}\nusual cause: {found.cause}"
