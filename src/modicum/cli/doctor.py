"""Look at this machine: versions, cores, memory, disk, devices, and what is wrong."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import Json, put_json, say


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what must import PyTorch.")] = False,
    json: Json = False,
) -> None:
    """Look at this machine: versions, cores, memory, disk, devices, and what is wrong."""
    import time

    from modicum.cli._findings import CAREFUL, WRONG, look

    begun, found = time.perf_counter(), []
    for finding in look(quick):
        found.append(finding)
        if not json:
            say(f"{finding.state:<8} {finding.about:<10} {finding.text}")
            if finding.fix:
                say(f"{'':<19} -> {finding.fix}")
    took = time.perf_counter() - begun
    wrong, careful = (sum(f.state == state for f in found) for state in (WRONG, CAREFUL))
    if json:
        put_json({"wrong": wrong, "careful": careful, "seconds": took, "findings": [f._asdict() for f in found]})
    else:
        verdict = f"{wrong} wrong" if wrong else "Nothing is wrong"
        say(f"{verdict}" + (f", {careful} to be careful about" if careful else "") + f".  Looked for {took:.1f} s.")
    if wrong:
        raise typer.Exit(1)
