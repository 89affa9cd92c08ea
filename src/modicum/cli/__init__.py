"""The command line.  `main` finds the verb, runs it, and turns whatever happens into one paragraph and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code, which docs/reference/cli.md lists.

    `--debug` anywhere shows the traceback of an error.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    try:
        from modicum.cli import _ends, _screen
    except ImportError as error:  # typer itself, without which not even `doctor` runs
        print(f"modicum: {error}\nInstall it: {sys.executable} -m pip install modicum", file=sys.stderr)
        return 7
    _screen.lenient()
    with _ends.signals() as came:
        try:
            from modicum.cli._app import run

            run(words)
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            return _ends.ended(error, words, came, debug)
    return _ends.DONE
