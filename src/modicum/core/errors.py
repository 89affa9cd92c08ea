"""Errors that a person can act on: what was found, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ModicumError(Exception):
    """Base of every error Modicum raises on purpose.

    found: what is wrong, with the offending value.  where: file, row, setting or method.
    fix: the next thing to do.  `exit_code` is what the command line returns.
    """

    exit_code = 1

    def __init__(self, found: str, *, where: object = "", fix: str = "") -> None:
        self.found, self.where, self.fix = found, str(where), fix
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.found}" if self.where else self.found
        return f"{head}\n{self.fix}" if self.fix else head


class DataError(ModicumError):
    """The images, tables or folders that the user brought cannot be used as they are."""

    exit_code = 3


class NeedsError(ModicumError):
    """A method is asked to work without something that its card needs."""

    exit_code = 4


class SettingsError(ModicumError):
    """A setting is unknown, of the wrong type, or outside its range."""

    exit_code = 2


class RunError(ModicumError):
    """A run directory is missing, damaged, from another version, or in use."""

    exit_code = 5


class ModelError(ModicumError):
    """A network cannot be found, loaded, changed or exported."""

    exit_code = 6


class ModicumWarning(UserWarning):
    """Something the user should know, that did not stop the work."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: `Did you mean 'fixmatch'?`, or the list of what there is."""
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=3, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(repr(c) for c in close) + "?"
    shown = ", ".join(options[:20]) + (", ..." if len(options) > 20 else "")
    return f"Known: {shown}." if options else ""
