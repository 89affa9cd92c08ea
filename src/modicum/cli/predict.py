"""Classify images with a trained model, without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from modicum.cli._screen import say
from modicum.cli._tables import place


def predict(
    model: Annotated[str, typer.Argument(help="model.onnx, or a run's folder.")],
    images: Annotated[list[str], typer.Argument(help="Image files or folders.")],
    out: Annotated[str, typer.Option(help="Write a .csv or .parquet file instead of printing.")] = "",
    masks: Annotated[str, typer.Option(help="Write a PNG of class numbers an image into this folder.")] = "",
    batch: Annotated[int, typer.Option(help="Images at a time.", min=1)] = 64,
    cluster: Annotated[str, typer.Option(help="Spread the work by Ray: local, auto or HOST:PORT.")] = "",
) -> None:
    """Classify images with a trained model, without PyTorch."""
    from modicum.core.errors import DataError
    from modicum.deploy.predict import Prediction
    from modicum.deploy.predict import predict as alone

    if masks:
        _masks(model, images, Path(masks))
        return
    if out:
        place(out, ".csv", ".parquet")
    if cluster:
        from modicum.engine.cluster import predict as spread

        answers = spread(model, images, batch, cluster)
    else:
        answers = alone(model, images, batch)
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
            say(p.id, p.name, f"{p.confidence:.3f}")


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
