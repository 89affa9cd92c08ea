"""Give each image of a run a number: uncertainty, suspicion of a wrong label."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import say


def score(
    method: Annotated[str, typer.Argument(help="Score method: see `modicum methods --role score`.")],
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    out: Annotated[str, typer.Option(help="Write all scores to a CSV file.")] = "",
    rows: Annotated[str, typer.Option(help="Which images: 'class', '~class', 'split:test', joined by &.")] = "all",
    top: Annotated[int, typer.Option(help="How many to print.", min=0)] = 20,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A setting of the method.")] = None,
) -> None:
    """Give each image of a run a number: uncertainty, suspicion of a wrong label."""
    import numpy as np

    from modicum.cli._tables import place, settings, write_rows
    from modicum.core.registry import card
    from modicum.engine.verbs import score as measure

    if out:
        place(out)
    table, values = measure(run, method, settings(set_), rows)
    ids = table.data.ids[table.rows]
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")
    say(f"# larger = {card(method).higher}")
    for i in order[: min(top, int(np.isfinite(values).sum()))]:
        say(ids[i], f"{values[i]:.4f}")
    if out:
        texts = ("" if np.isnan(values[i]) else f"{values[i]:.6g}" for i in order)
        write_rows(out, ("image", "score"), zip(ids[order], texts, strict=True))
        say(f"{len(order):,} scores: {out}")
