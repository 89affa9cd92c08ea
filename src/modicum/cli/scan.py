"""Look at a folder: images, labels, faults, duplicates, and what kind of problem it is."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import Json, put_json, say


def scan(
    data: Annotated[str, typer.Argument(help="Folder, table or file of images, or sample:digits.")],
    json: Json = False,
    strict: Annotated[bool, typer.Option(help="Exit with an error if any file or row cannot be used.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Decode all images again, also unchanged ones.")] = False,
) -> None:
    """Look at a folder: images, labels, faults, duplicates, and what kind of problem it is."""
    from modicum.engine.look import demand
    from modicum.engine.look import scan as look

    seen = look(data, fresh=fresh)
    faults = seen.faults
    if json:
        listed = [{"where": f.where, "reason": f.reason} for f in faults]
        put_json({**seen.to_dict(most=len(seen.data)), "faults": listed})
    else:
        for line in seen.lines():
            say(line)
        for fault in faults[:20]:
            say(f"  skipped {fault.where}: {fault.reason}")
        if len(faults) > 20:
            say(f"  ... and {len(faults) - 20} more: `modicum scan {data} --json` lists them")
    if strict:
        demand(faults, data)
