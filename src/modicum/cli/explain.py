"""Draw where a trained network looks."""

from __future__ import annotations

from typing import Annotated

import typer


def explain(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    images: Annotated[list[str], typer.Argument(help="Image files or folders.")],
    out: Annotated[str, typer.Option(help="Folder for the pictures.")] = "modicum-maps",
    method: Annotated[str, typer.Option(help="Explain method (default: the closed form where it holds).")] = "",
    target: Annotated[str, typer.Option(help="Class to explain (default: the most probable).")] = "",
) -> None:
    """Draw where a trained network looks."""
    from modicum.engine.verbs import explain as draw

    done = draw(run, list(images), out, method, target)
    for path, name in zip(done.files, done.classes, strict=True):
        typer.echo(f"{path}\t{name}")
    for text in done.warnings:
        typer.echo(f"careful: {text}", err=True)
    for where, reason in done.faults:
        typer.echo(f"skipped {where}: {reason}", err=True)
