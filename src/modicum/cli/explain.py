"""Draw where a trained network looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modicum.cli._screen import say
from modicum.cli._tables import free_to_write
from modicum.core.errors import SettingsError

if TYPE_CHECKING:
    from modicum.engine.explain import Asked, Look

LINES, FAULTS = 20, 20  # that are printed at most; the table has all


def explain(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    images: Annotated[list[str], typer.Argument(help="Image files, folders, tables or Parquet sets.")],
    out: Annotated[str, typer.Option(help="Folder for the pictures and maps.csv.")] = "modicum-maps",
    method: Annotated[str, typer.Option(help="Explain methods, e.g. cam,grad-cam (default: the usual one).")] = "",
    target: Annotated[str, typer.Option(help="Classes to explain, e.g. cat,dog (default: the most probable).")] = "",
    top: Annotated[int, typer.Option(help="Explain so many of the most probable classes.", min=1)] = 1,
    layer: Annotated[str, typer.Option(help="Layers by dotted names (default: the last maps).")] = "",
    contour: Annotated[bool, typer.Option(help="A line around what is above half of a map's peak.")] = True,
    grade: Annotated[bool, typer.Option("--grade", help="Grade the maps instead, beside maps of no network.")] = False,
    most: Annotated[int, typer.Option(help="With --grade: how many images at most.", min=2)] = 50,
) -> None:
    """Draw where a trained network looks.

    One picture an image, sheets of many small ones, and maps.csv with numbers and a sentence for each map. With
    --grade: does the network rely on what the maps mark?
    """
    free_to_write(Path(out))
    from modicum.engine.explain import Asked

    methods = calls(method)
    layers = tuple(word.strip() for word in layer.split(",") if word.strip())
    if top > 1 and (target or grade):
        found = f"--top {top} beside --{'target' if target else 'grade'}"
        raise SettingsError(found, where="explain", fix="Give one of the two.")
    if grade:
        _grade(run, images, Path(out), methods, layers, most)
        return
    _draw(run, images, out, Asked(target, top, methods, layers), contour)


def calls(text: str) -> tuple[str, ...]:
    """Methods between commas: `cam,score-cam:top=8,score=logit` are two, the second with two settings."""
    out: list[str] = []
    for word in filter(None, (w.strip() for w in text.split(","))):
        if "=" in word and ":" not in word and out:
            out[-1] += f",{word}"
        else:
            out.append(word)
    return tuple(out)


def _draw(run: str, images: list[str], out: str, asked: Asked, contour: bool) -> None:
    from modicum.cli._ends import Stopped
    from modicum.cli._progress import telling
    from modicum.engine.draw import TABLE, draw

    lines: list[tuple[str, str]] = []

    try:
        with telling(out) as teller:

            def told(done: int, total: int, picture: str, seen: Sequence[Look]) -> None:
                lines.extend((picture, s.sentence) for s in seen[: max(0, LINES - len(lines))])
                teller.tick("images", done, total, {})

            drawn = draw(run, images, out, asked, contour=contour, told=told)
    except KeyboardInterrupt:
        raise Stopped("no picture was drawn yet") from None
    for line in lines:
        say(*line)
    count = f"{drawn.count:,} {'picture' if drawn.count == 1 else 'pictures'}"
    say(f"{count}, sheets of small ones, and {TABLE} with a line for each map: {out}")
    for text in drawn.warnings:
        say(f"careful: {text}", err=True)
    for where, reason in drawn.faults[:FAULTS]:
        say(f"skipped {where}: {reason}", err=True)
    if len(drawn.faults) > FAULTS:
        say(f"... and {len(drawn.faults) - FAULTS:,} more that were skipped", err=True)
    if drawn.stopped:
        raise Stopped(f"{count} and {TABLE} are in {out}; the same command starts again")


def _grade(
    run: str, images: list[str], out: Path, methods: tuple[str, ...], layers: tuple[str, ...], most: int
) -> None:
    from modicum.cli._ends import Stopped
    from modicum.cli._progress import telling
    from modicum.cli._screen import fill, grid, screen
    from modicum.engine.grade import SCORES, grade, save

    try:
        with telling(str(out)) as teller:
            found = grade(run, images, methods, layers, most, lambda n, total: teller.tick("maps", n, total, {}))
    except KeyboardInterrupt:
        raise Stopped("nothing was written") from None
    file = save(found, out)
    names = list(next(iter(found.scores.values())))
    table = grid("", *(f"{name} {'+' if SCORES[name][0] else '-'}" for name in names))
    for maps, scores in found.scores.items():
        fill(table, maps, *(f"{v.value:.3f} [{v.low:.3f}, {v.high:.3f}]" for v in (scores[n] for n in names)))
    screen().print(table)
    boxed = f"; {found.drawn:,} drawn classes in them" if found.drawn else ""
    say(f"Means over {found.images:,} images{boxed}, 95 % intervals; + more is better, - less. {file}")
    for where, reason in found.faults[:FAULTS]:
        say(f"skipped {where}: {reason}", err=True)
