"""The list of verbs is the folder.  Only the verb that is asked for is imported; of the others one line is read."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from modicum.cli._screen import is_terminal
from modicum.core.errors import SettingsError, did_you_mean

FOLDER = Path(__file__).parent
ORDER = (
    "demo", "scan", "convert", "imagine", "plan", "fit", "predict", "explain", "label", "score", "select", "evaluate",
    "export", "report", "methods", "check", "new", "doctor",
)  # fmt: skip


def verbs() -> tuple[str, ...]:
    """Names of all verbs, in the order in which one meets them."""
    found = {p.stem.replace("_", "-") for p in FOLDER.glob("[!_]*.py")}
    return (*(v for v in ORDER if v in found), *sorted(found.difference(ORDER)))


def line(verb: str) -> str:
    """What a verb does: the first line of its file's docstring, read without importing it."""
    text = (FOLDER / f"{verb.replace('-', '_')}.py").read_text(encoding="utf-8")
    return text.split('"""', 2)[1].partition("\n")[0] if text.startswith('"""') else ""


def function(verb: str) -> Callable[..., Any]:
    """The function of a verb: imports its file, and that alone."""
    name = verb.replace("-", "_")
    found: Callable[..., Any] = getattr(importlib.import_module(f"modicum.cli.{name}"), name)
    return found


def build(words: Sequence[str] = ()) -> typer.Typer:
    """The application for one command line: the verb that `words` name is real, the others are lines of help."""
    pretty = is_terminal(sys.stdout)
    app = typer.Typer(
        no_args_is_help=True, add_completion=False, rich_markup_mode="rich" if pretty else None,
        context_settings=None if pretty else {"terminal_width": max(40, shutil.get_terminal_size((120, 24)).columns)},
    )  # fmt: skip
    app.callback(help="Small models from few labels.")(_top)
    wanted = next((w for w in words if not w.startswith("-")), "")
    if wanted and wanted not in verbs():
        raise SettingsError(f"there is no verb {wanted!r}", fix=did_you_mean(wanted, verbs()))
    for verb in verbs():
        if verb == wanted:
            app.command(verb)(function(verb))
        else:
            app.command(verb, help=line(verb))(_absent)
    return app


def run(words: Sequence[str]) -> None:
    """Run a command line; raises what the verb raises, typer's own exceptions among it."""
    if "" in words:
        raise SettingsError("an argument is empty", where=" ".join(words), fix="A variable of the shell is not set?")
    command = typer.main.get_command(build(words))
    with command.make_context("modicum", list(words)) as context:
        command.invoke(context)


def _absent() -> None:
    raise RuntimeError("a verb was not loaded")


def _version(show: bool) -> None:
    if show:
        import modicum

        typer.echo(f"modicum {modicum.__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass
