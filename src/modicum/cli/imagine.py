"""Make images of named classes, with tags, from cut-outs or by generators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modicum.cli._screen import say


def imagine(
    names: Annotated[str, typer.Argument(help="Names of the classes, apart by commas: cat,dog.")],
    out: Annotated[str, typer.Option(help="The folder to write; nothing may be there yet.")] = "modicum-imagined",
    number: Annotated[int, typer.Option(help="Images of each class.", min=1)] = 100,
    describe: Annotated[str, typer.Option(help="template, grammar or a language model (its folder).")] = "grammar",
    paint: Annotated[str, typer.Option(help="composer or a text-to-image model (its folder).")] = "composer",
    cutouts: Annotated[str, typer.Option(help="For composer: a folder of PNGs a class, or data with boxes.")] = "",
    side: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 96,
    filter: Annotated[str, typer.Option(help="A classifier's run, which must agree with the class asked for.")] = "",
    keep: Annotated[float, typer.Option(help="Probability above which the filter keeps an image.")] = 0.6,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Another setting: --set company=0.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
) -> None:
    """Make images of named classes, with tags, from cut-outs or by generators.

    OUT appears whole or not at all: PNG files and labels.csv, which `modicum fit OUT --have tags --want boxes` reads.
    A sheet of some of the images lies beside it, as OUT-sheet.png.
    """
    from modicum.cli._ends import Stopped
    from modicum.cli._progress import telling
    from modicum.cli._tables import free_to_write, settings
    from modicum.engine.imagine import imagine as run

    free_to_write(Path(out).parent)
    given: dict[str, Any] = {"number": number, "describe": describe, "paint": paint, "cutouts": cutouts, "side": side}
    given |= {"filter": filter, "keep": keep, **settings(set_)}
    try:
        with telling(out) as teller:
            tick = lambda done, total: teller.tick("images", done, total, {})  # noqa: E731
            made = run(names, out, seed=seed, progress=tick, **given)
    except KeyboardInterrupt:
        raise Stopped(f"nothing was written to {out}") from None
    say(f"{made.said}: {out}")
    say(f"A sheet of some: {Path(out).parent / (Path(out).name + '-sheet.png')}")
    say()
    say("Next")
    say(f"  modicum fit {out} --have tags --want boxes   # a detector that has seen no real image")
