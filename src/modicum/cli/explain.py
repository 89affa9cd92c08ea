"""Draw where a trained network looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modicum.cli._screen import say
from modicum.cli._tables import free_to_write


def explain(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    images: Annotated[list[str], typer.Argument(help="Image files or folders.")],
    out: Annotated[str, typer.Option(help="Folder for the pictures.")] = "modicum-maps",
    method: Annotated[str, typer.Option(help="Explain method (default: the usual one for the network).")] = "",
    target: Annotated[str, typer.Option(help="Class to explain (default: the most probable).")] = "",
    layer: Annotated[str, typer.Option(help="Layer by its dotted name (default: the last maps).")] = "",
) -> None:
    """Draw where a trained network looks."""
    free_to_write(Path(out))
    from modicum.engine.verbs import draw

    done = draw(run, list(images), out, method, target, layer)
    for path, name in zip(done.files, done.classes, strict=True):
        say(path, name)
    for text in done.warnings:
        say(f"careful: {text}", err=True)
    for where, reason in done.faults:
        say(f"skipped {where}: {reason}", err=True)
