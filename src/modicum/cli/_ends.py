"""How a command ends: one paragraph on stderr and an exit code, whatever happened; a traceback only with `--debug`."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer

from modicum.core.errors import MachineError, ModicumError, visible

DONE, FAILED, USAGE, FAULT, STOPPED, CLOSED, TERMINATED = 0, 1, 2, 70, 130, 141, 143
CODES = {
    DONE: "Done.",
    FAILED: "What was asked for failed: a check of `doctor` or `check`, or training itself.",
    USAGE: "The command line is not understood.",
    FAULT: "A fault of Modicum; the message names the file that holds the traceback.",
    STOPPED: "Stopped by Ctrl-C.",
    CLOSED: "The program that read the output closed it (`modicum methods | head -1`).",
    TERMINATED: "Stopped by SIGTERM.",
}
"""Exit codes that belong to no class of error; those of the classes are `ModicumError.exit_code`."""

_MEND = {
    "ENOSPC": "Free some space, or choose another folder.",
    "EDQUOT": "Free some space, or choose another folder.",
    "EROFS": "Choose a folder that can be written.",
    "EACCES": "Change its permissions, or choose another folder.",
    "EPERM": "Change its permissions, or choose another folder.",
    "ENAMETOOLONG": "Use shorter names.",
    "EMFILE": "Allow more open files: ulimit -n 4096.",
    "EIO": "The disk or the network drive does not answer as it should: copy the data elsewhere.",
}


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with a sentence that says what is kept and how to go on."""


@contextmanager
def signals() -> Iterator[list[int]]:
    """Inside, SIGTERM stops as Ctrl-C does; gives the list of signals that came, SIGTERM among them."""
    came: list[int] = []

    def noted(number: int, frame: Any) -> None:
        came.append(number)
        now = signal.getsignal(signal.SIGINT)
        if not callable(now):  # Ctrl-C is ignored, as in a script's background
            raise KeyboardInterrupt
        now(signal.SIGINT, frame)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, noted)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ended(error: BaseException, words: Sequence[str], came: Sequence[int], debug: bool) -> int:
    """Say how a command ended that raised `error`; -> the exit code.  words: of the command line."""
    if isinstance(error, BrokenPipeError):
        _let_go()
        return CLOSED
    if isinstance(error, KeyboardInterrupt):
        _deaf()
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED if error.code else DONE
    text, code = _told(error, words, came, debug)
    if debug:
        traceback.print_exception(error)
    with suppress(OSError, ValueError):  # nobody reads stderr any more
        print(f"modicum: {text}" if code else text, file=sys.stderr, flush=True)
    return code or USAGE


def _told(error: BaseException, words: Sequence[str], came: Sequence[int], debug: bool) -> tuple[str, int]:
    """What to say, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        kept = str(error) or "no file is half written; the same command starts again"
        return f"stopped: {kept}", TERMINATED if signal.SIGTERM in came else STOPPED
    if isinstance(error, typer.TyperException):
        return usage(error, next((w for w in words if not w.startswith("-")), ""))
    if not isinstance(error, ModicumError):
        error = machine(error) or error
    if isinstance(error, ModicumError):
        return str(error), error.exit_code
    return _fault(error, "" if debug else save(error, words)), FAULT


def _fault(error: BaseException, saved: Path | str | None) -> str:
    """What is said of an error that nobody foresaw."""
    place = _place(error)
    found = f"{type(error).__name__}: {_short(error)}" + (f" ({place})" if place else "")
    ways = f"The traceback is in {saved}: send it with your report, please." if saved else "Report it, please."
    return f"this is a fault of Modicum: {found}\n{ways}  The same command with --debug prints it."


def usage(error: Any, verb: str) -> tuple[str, int]:
    """What is said of a command line that was not understood.  Code 0 stands for bare help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return error.format_message(), 0
    context = getattr(error, "ctx", None)
    found = visible(" ".join(error.format_message().split())).rstrip(".")
    found = f"{verb}: {found[:1].lower()}{found[1:]}" if verb else f"{found[:1].lower()}{found[1:]}"
    form = " ".join(context.get_usage().split()[1:]) if context and verb else ""
    help = f"modicum {verb} --help" if verb else "modicum --help"
    return f"{found}\n" + (f"Write `{form}`; `{help}` says more." if form else f"See `{help}`."), USAGE


def machine(error: BaseException) -> MachineError | None:
    """The error in a person's words if the machine refused something: a disk, a permission, memory; else None."""
    import errno

    torch = sys.modules.get("torch")
    out_of_memory = isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError))
    if out_of_memory or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        fix = "Close other programs, or make it smaller: --batch, --side or a smaller --net."
        return MachineError("out of memory", fix=fix)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "modicum").startswith("modicum"):
        fix = f"Install it: {sys.executable} -m pip install modicum; `modicum doctor` says what else is missing."
        return MachineError(f"the package {error.name!r} is not installed", fix=fix)
    if not isinstance(error, OSError):
        return None
    name = errno.errorcode.get(error.errno or 0, "")
    if name not in _MEND and not error.filename:
        return None
    fix = _MEND.get(name, "Check that the file or folder is there and may be used.")
    return MachineError(error.strerror or _short(error), where=error.filename or "output", fix=fix)


def save(error: BaseException, words: Sequence[str]) -> Path | None:
    """Keep the traceback of a fault; -> its file (the same fault, the same file), None where it cannot be written."""
    import platform

    import modicum
    from modicum.core.places import state_home

    lines = "".join(traceback.format_exception(error))
    steps = [f"{Path(f.filename).name} {f.name} {f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
    code = hashlib.sha256("\n".join([modicum.__version__, type(error).__name__, *steps]).encode()).hexdigest()[:8]
    system = f"modicum {modicum.__version__}, Python {platform.python_version()}, {platform.platform()}"
    file = state_home() / f"fault-{code}.txt"
    text = f"{system}\nmodicum {' '.join(words)}\n\n{lines}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return file


def _place(error: BaseException) -> str:
    """The last line of Modicum that the error went through: `engine/loop.py, line 30`."""
    import modicum

    home = Path(modicum.__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(home):
            return f"{Path(frame.filename).relative_to(home).as_posix()}, line {frame.lineno}"
    return ""


def _short(error: BaseException) -> str:
    return visible(" ".join(str(error).split()))[:200]


def _let_go() -> None:
    """Nobody reads our output: what is still in the buffer goes nowhere, also when Python ends."""
    with suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _deaf() -> None:
    """A second Ctrl-C must not cut off the line that says what is kept."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
