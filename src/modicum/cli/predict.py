"""Classify images with a trained model, without PyTorch."""

from __future__ import annotations

from typing import Annotated

import typer


def predict(
    model: Annotated[str, typer.Argument(help="model.onnx, or a run's folder.")],
    images: Annotated[list[str], typer.Argument(help="Image files or folders.")],
    out: Annotated[str, typer.Option(help="Write a .csv or .parquet file instead of printing.")] = "",
    batch: Annotated[int, typer.Option(help="Images at a time.", min=1)] = 64,
) -> None:
    """Classify images with a trained model, without PyTorch."""
    from pathlib import Path

    from modicum.core.errors import DataError
    from modicum.deploy.predict import predict as run

    kept, good, bad = [], 0, 0
    for p in run(model, images, batch):
        good, bad = good + (not p.fault), bad + bool(p.fault)
        if out:
            kept.append(p)
        elif p.fault:
            typer.echo(f"skipped {p.id}: {p.fault}", err=True)
        else:
            typer.echo(f"{p.id}\t{p.name}\t{p.confidence:.3f}")
    if not good:
        fix = "Give image files, or folders of them."
        raise DataError("no image could be classified", where=", ".join(images), fix=fix)
    if out:
        from modicum.deploy.predictions import write

        write(kept, Path(out))
        typer.echo(f"{good:,} images classified, {bad} could not be read: {out}")
