"""Say which images a person should label next."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import say


def select(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    budget: Annotated[int, typer.Option(help="How many images.", min=1)] = 20,
    method: Annotated[str, typer.Option(help="Select method: see `modicum methods --role select`.")] = "",
    out: Annotated[str, typer.Option(help="Write the list as CSV, with empty columns for classes or tags.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of random choices.", min=0)] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the method.")] = None,
) -> None:
    """Say which images a person should label next."""
    from modicum.cli._tables import place, settings, write_rows
    from modicum.core.kinds import KINDS
    from modicum.core.plan import minutes
    from modicum.engine.verbs import select as choose
    from modicum.runs.run import Run

    if out:
        place(out)
    table, positions = choose(run, budget, method, settings(set_), seed)
    ids, kind = table.data.ids[table.rows[positions]], KINDS[str(Run(run).config["want"])]
    if out:
        heads = {"class": ["class"], "tags": [f"tag:{name}" for name in table.data.names]}.get(kind.name, [])
        write_rows(out, ("image", *heads), ((i, *("" for _ in heads)) for i in ids))
    else:
        for i in ids:
            say(i)
    needs = minutes(len(ids) * kind.seconds)
    say(f"# {len(ids)} images to label ({kind.name}): {needs} of a person's time" + (f": {out}" if out else ""))
