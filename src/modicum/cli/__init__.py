"""The command line.  `main` finds the verb, runs it, and turns errors into one paragraph and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code.  0 done, 2 bad arguments, 70 a fault of ours, 130 stopped by the user.

    `--debug` anywhere shows the traceback.
    """
    from modicum.core.errors import ModicumError

    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    try:
        from modicum.cli._app import Stopped, build
    except KeyboardInterrupt:
        return _say("stopped", 130)
    try:
        build(words)(args=words, prog_name="modicum")
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 1 if leave.code else 0
    except (KeyboardInterrupt, Stopped):
        if debug:
            raise
        return _say("stopped", 130)
    except ModicumError as error:
        if debug:
            raise
        return _say(str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        return _say(
            f"a fault in Modicum: {type(error).__name__}: {error}\n"
            "Run it again with --debug and report what it prints, please.", 70,
        )  # fmt: skip
    return 0


def _say(text: str, code: int) -> int:
    print(f"modicum: {text}", file=sys.stderr)
    return code
