"""Write a run's report page again."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import say


def report(run: Annotated[str, typer.Argument(help="A run's folder.")]) -> None:
    """Write a run's report page again."""
    from modicum.engine.verbs import report as write

    say(write(run))
