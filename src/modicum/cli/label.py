"""Make labels: from annotators' votes, or from a trained network's confident guesses."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import say


def label(
    method: Annotated[str, typer.Argument(help="Label method: see `modicum methods --role label`.")],
    source: Annotated[str, typer.Argument(help="Data with votes, or a run's folder.")],
    out: Annotated[str, typer.Option(help="Where to write the labels (CSV).")] = "labels.csv",
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the method: --set least=0.9.")] = None,
) -> None:
    """Make labels: from annotators' votes, or from a trained network's confident guesses."""
    from modicum.cli._tables import place, settings, write_labels
    from modicum.engine.verbs import label as make

    place(out)
    count = write_labels(make(source, method, settings(set_)), out, source)
    say(f"{count:,} labels: {out}")
