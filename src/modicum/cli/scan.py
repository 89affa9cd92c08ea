"""Look at a folder: images, labels, faults, duplicates, and what kind of problem it is."""

from __future__ import annotations

from typing import Annotated

import typer


def scan(
    data: Annotated[str, typer.Argument(help="Folder, table or file of images, or sample:digits.")],
    json: Annotated[bool, typer.Option("--json", help="Print everything found as JSON.")] = False,
    strict: Annotated[bool, typer.Option(help="Exit with an error if any file or row cannot be used.")] = False,
) -> None:
    """Look at a folder: images, labels, faults, duplicates, and what kind of problem it is."""
    import json as writer

    from modicum.core.errors import DataError
    from modicum.engine.look import scan as look

    seen = look(data)
    faults = seen.faults
    if json:
        listed = [{"where": f.where, "reason": f.reason} for f in faults]
        typer.echo(writer.dumps({**seen.to_dict(), "faults": listed}, indent=1))
    else:
        for line in seen.lines():
            typer.echo(line)
        for fault in faults[:20]:
            typer.echo(f"  skipped {fault.where}: {fault.reason}")
        if len(faults) > 20:
            typer.echo(f"  ... and {len(faults) - 20} more: `modicum scan {data} --json` lists them")
    if strict and faults:
        raise DataError(
            f"{len(faults)} files or rows cannot be used", where=data, fix="Mend or remove them, or leave out --strict."
        )
