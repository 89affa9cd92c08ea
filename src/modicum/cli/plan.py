"""Find the ways from the labels you have to what you want."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import Json, put_json, say


def plan(
    want: Annotated[
        str, typer.Option(help="What you want: class, boxes, masks (a network for it), or a fact in full.")
    ],
    have: Annotated[str, typer.Option(help="What you have, e.g. tags,boxes@other.")] = "",
    data: Annotated[str, typer.Option(help="Read what you have from a folder or table instead.")] = "",
    traits: Annotated[str, typer.Option(help="What the data are like, e.g. few,tail (measured with --data).")] = "",
    best: Annotated[int, typer.Option(help="How many ways to show.", min=1, max=20)] = 4,
    json: Json = False,
) -> None:
    """Find the ways from the labels you have to what you want."""
    from modicum.core.plan import explain_plan
    from modicum.engine.look import plan as search

    found = search(want, have, data, traits, best)
    if json:
        put_json(found.to_dict())
        return
    for line in explain_plan(found).splitlines():
        say(line)
