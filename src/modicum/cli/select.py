"""Say which images a person should label next."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import say


def select(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    budget: Annotated[int, typer.Option(help="How many images.", min=1)] = 20,
    method: Annotated[str, typer.Option(help="Select method: see `modicum methods --role select`.")] = "",
    out: Annotated[str, typer.Option(help="Write the list as CSV, with an empty class column to fill in.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of random choices.", min=0)] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the method.")] = None,
) -> None:
    """Say which images a person should label next."""
    from modicum.cli._tables import place, settings, write_rows
    from modicum.core.kinds import KINDS
    from modicum.core.plan import minutes
    from modicum.engine.verbs import select as choose

    if out:
        place(out)
    table, positions = choose(run, budget, method, settings(set_), seed)
    ids = table.data.ids[table.rows[positions]]
    if out:
        write_rows(out, ("image", "class"), ((i, "") for i in ids))
    else:
        for i in ids:
            say(i)
    needs = minutes(len(ids) * KINDS["class"].seconds)
    say(f"# {len(ids)} images to label: {needs} of a person's time" + (f": {out}" if out else ""))
