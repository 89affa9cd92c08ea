"""Checks and their results, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

TRAINS = ("learn", "wrap", "change")
TABLES = ("label", "score", "select")
ALL = (*TRAINS, *TABLES, "explain", "imagine")
PARTS = ("trust", "objective")


class BrokenError(AssertionError):
    """A law does not hold; the text says where."""


class NotForItError(Exception):
    """The law says nothing about this method or part."""


Law = Callable[[Any], "str | None"]  # of a Case, or of a Part


@dataclass(frozen=True)
class Result:
    """What a check found.  method: its name, or a part's.  message: what is wrong, or what was measured.  cause: what
    usually is behind a failure.  seconds: CPU time of this process."""

    method: str
    check: str
    ok: bool
    message: str
    cause: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """One law.  run(case): BrokenError where it does not hold, NotForItError where it does not apply, else a sentence
    or nothing.  slow: only run when asked for."""

    name: str
    roles: tuple[str, ...]
    cause: str
    run: Law
    slow: bool = False


def check(name: str, roles: tuple[str, ...], cause: str, slow: bool = False) -> Callable[[Law], Check]:
    """Make a Check of a function."""
    return lambda run: Check(name, roles, cause, run, slow)


def demand(holds: bool, message: str) -> None:
    """BrokenError unless it holds."""
    if not holds:
        raise BrokenError(message)
