"""Write images and labels as another format, such as a table, Parquet or COCO."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modicum.cli._screen import say


def convert(
    data: Annotated[str, typer.Argument(help="Folder, table, archive or file of images, or sample:digits.")],
    out: Annotated[str, typer.Argument(help="The folder to write; nothing may be there yet.")],
    to: Annotated[str, typer.Option(help="folders, table, parquet, idx, coco, voc, yolo or masks.")],
    strict: Annotated[bool, typer.Option(help="Write nothing if the format cannot hold all that is known.")] = False,
) -> None:
    """Write images and labels as another format, such as a table, Parquet or COCO.

    OUT appears whole or not at all. What the format cannot hold is listed.
    """
    from modicum.cli._ends import Stopped
    from modicum.cli._progress import telling
    from modicum.cli._tables import free_to_write
    from modicum.data.convert import convert as run

    free_to_write(Path(out).parent)
    try:
        with telling(out) as teller:
            done = run(data, out, to, strict=strict, progress=lambda n, total: teller.tick("images", n, total, {}))
    except KeyboardInterrupt:
        raise Stopped(f"nothing was written to {out}") from None
    say(f"{len(done.data):,} images: {out}")
    for fault in done.faults[:20]:
        say(f"  not read  {fault.where}: {fault.reason}")
    if len(done.faults) > 20:
        say(f"  ... and {len(done.faults) - 20} more: `modicum scan {data} --json` lists them")
    for line in done.lost:
        say(f"  not held  {line}")
    if not done.lost:
        say("Read back and compared: all names, labels and splits are there.")
