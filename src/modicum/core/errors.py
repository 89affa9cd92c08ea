"""Errors that a person can act on: what was found, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_STAY = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\u200c\u200d"


def visible(text: str, plain: str = "") -> str:
    """Text as it can be shown: controls, bidi controls and half characters as escapes such as \\x1b, the rest as it is.

    plain: controls that stay.  Spaces of any width and the joiners that some scripts need (U+200C, U+200D) stay too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in plain or c in _STAY else ascii(c)[1:-1] for c in text)


class ModicumError(Exception):
    """Base of every error Modicum raises on purpose.

    found: what is wrong, with the offending value.  where: file, row, setting or method.
    fix: the next thing to do.  `exit_code` is what the command line returns.
    """

    exit_code = 1

    def __init__(self, found: str, *, where: object = "", fix: str = "") -> None:
        self.found, self.where, self.fix = visible(found, "\n"), visible(str(where)), visible(fix, "\n")
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
    """A run directory is missing, damaged, in use, from another version, or cannot be written."""

    exit_code = 5


class ModelError(ModicumError):
    """A network cannot be found, loaded, changed or exported."""

    exit_code = 6


class MachineError(ModicumError):
    """The machine refuses: a file outside a run cannot be written, memory is short, a device is not there."""

    exit_code = 7


class ModicumWarning(UserWarning):
    """Something the user should know, that did not stop the work."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: `Did you mean 'fixmatch'?`, or the list of what there is, or of its first twenty."""
    options = sorted(known)
    close = difflib.get_close_matches(word, options, n=3, cutoff=0.6)
    if close:
        return "Did you mean " + " or ".join(repr(c) for c in close) + "?"
    shown = ", ".join(options[:20]) + (f" and {len(options) - 20:,} more" if len(options) > 20 else "")
    return f"Known: {shown}." if options else "There is none to choose from."
