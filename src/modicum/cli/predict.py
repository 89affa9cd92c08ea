"""Say what is in images with a trained model, without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modicum.cli._screen import say
from modicum.cli._tables import place

if TYPE_CHECKING:
    from modicum.deploy.predict import Prediction


LINES = 20  # images with boxes that are printed at most; the files have all


def predict(
    model: Annotated[str, typer.Argument(help="model.onnx, or a run's folder.")],
    images: Annotated[list[str], typer.Argument(help="Image files or folders; masks and drawn boxes are passed over.")],
    out: Annotated[str, typer.Option(help="Write a .csv or .parquet file instead of printing.")] = "",
    masks: Annotated[str, typer.Option(help="Write a PNG of class numbers an image into this folder.")] = "",
    boxes: Annotated[str, typer.Option(help="Write boxes as COCO JSON, and drawn, into this folder.")] = "",
    sure: Annotated[float, typer.Option(help="Score from which a box is a label, and drawn.", min=0.05, max=1)] = 0.5,
    batch: Annotated[int, typer.Option(help="Images at a time.", min=1)] = 64,
    cluster: Annotated[str, typer.Option(help="Spread the work by Ray: local, auto or HOST:PORT.")] = "",
) -> None:
    """Say what is in images with a trained model, without PyTorch."""
    _one_of(out=out, masks=masks, boxes=boxes)
    _one_of(cluster=cluster, masks=masks, boxes=boxes)
    if masks:
        _masks(model, images, Path(masks))
    elif boxes:
        _boxes(model, images, Path(boxes), sure)
    else:
        _classes(model, images, out, batch, cluster)


def _classes(model: str, images: list[str], out: str, batch: int, cluster: str) -> None:
    """Print or write the classes of each image."""
    from modicum.core.errors import DataError
    from modicum.deploy.predict import files_of, model_of

    if out:
        place(out, ".csv", ".parquet")
    net = model_of(model)
    if cluster:
        from modicum.engine.cluster import predict as spread

        answers = spread(model, images, batch, cluster)
    else:
        answers = net.predict(files_of(images), batch)
    good = 0

    def told() -> Iterator[Prediction]:
        nonlocal good
        for p in answers:
            good += not p.fault
            if p.fault and not out:
                say(f"skipped {p.id}: {p.fault}", err=True)
            yield p
        if not good:
            fix = "Give image files, or folders of them."
            raise DataError("no image could be classified", where=", ".join(images), fix=fix)

    if out:
        from modicum.deploy.predictions import write

        count = write(told(), Path(out))
        say(f"{good:,} images classified, {count - good} could not be read: {out}")
        return
    for p in told():
        if not p.fault:
            say(p.id, *_told(p))
    if net.finds or net.segments:
        say(f"This network also says where: --{net.tells} FOLDER", err=True)


def _one_of(**options: str) -> None:
    """SettingsError where two options are given that do not go together."""
    from modicum.core.errors import SettingsError

    given = [f"--{name}" for name, value in options.items() if value]
    if len(given) > 1:
        raise SettingsError(f"{given[0]} beside {given[1]}", where="predict", fix="Give one of the two.")


def _told(p: Prediction) -> tuple[str, ...]:
    """A class and its probability; or all that are there, with theirs."""
    if not p.many:
        return p.name, f"{p.confidence:.3f}"
    return (", ".join(f"{name} {p.probs[p.classes.index(name)]:.3f}" for name in p.told) or "nothing",)


def _boxes(model: str, images: list[str], folder: Path, sure: float) -> None:
    """Write boxes, and say how many were found."""
    from modicum.cli._ends import Stopped
    from modicum.cli._progress import telling
    from modicum.cli._tables import free_to_write
    from modicum.deploy.boxes import Boxes, write_boxes
    from modicum.deploy.made import LABELS, PICTURES, RESULTS

    free_to_write(folder)
    lines: list[tuple[str, str]] = []
    best = 0.0
    try:
        with telling(str(folder)) as teller:

            def told(done: int, total: int, found: Boxes) -> None:
                nonlocal best
                best = max(best, float(found.found.score.max(initial=0)))
                teller.tick("images", done, total, {})
                if found.fault:
                    say(f"skipped {found.id}: {found.fault}", err=True)
                elif len(lines) < LINES:
                    lines.append((found.id, ", ".join(f"{name} ({n})" for name, n in found.counts(sure).items())))

            good = write_boxes(model, images, folder, sure=sure, told=told)
    except KeyboardInterrupt:
        raise Stopped(f"{folder} has some pictures and no table yet; the same command starts again") from None
    for name, text in lines:
        say(name, text or "nothing")
    if good > len(lines):
        say(f"... and {good - len(lines):,} more images")
    if best < sure:
        what = f"the best has {best:.2f}: --sure {max(0.05, best - 0.1):.2f} draws more" if best else "nor any of 0.05"
        say(f"No box has a score of {sure:g} or more, {what}.", err=True)
    say(f"{good:,} images: {LABELS} (labels), {RESULTS} (all boxes with scores) and {PICTURES}: {folder}")


def _masks(model: str, images: list[str], folder: Path) -> None:
    """Write masks, and say what is in each."""
    from modicum.core.errors import DataError
    from modicum.deploy.masks import write_masks

    count = 0
    for mask in write_masks(model, images, folder):
        if mask.fault:
            say(f"skipped {mask.id}: {mask.fault}", err=True)
            continue
        count += 1
        say(mask.file, ", ".join(f"{name} {100 * share:.1f} %" for name, share in mask.shares.items()) or "background")
    if not count:
        raise DataError("no image could be read", where=", ".join(images), fix="Give image files, or folders of them.")
    say(f"{count:,} masks and classes.txt: {folder}")
