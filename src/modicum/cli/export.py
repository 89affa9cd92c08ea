"""Write a run's network as one ONNX file, compared with the original on real images."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import Json, put_json, say
from modicum.cli._tables import place


def export(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    out: Annotated[str, typer.Option(help="Where to (default: model.onnx in the run).")] = "",
    json: Json = False,
) -> None:
    """Write a run's network as one ONNX file, compared with the original on real images."""
    from pathlib import Path

    if out:
        place(out, ".onnx")
    from modicum.engine.verbs import export as write

    found = write(run, out or None)
    if json:
        put_json(found)
        return
    say(f"{out or Path(run) / 'model.onnx'}: {found['bytes'] / 1e3:,.0f} kB, {found['parameters']:,} parameters")
    said, same = "logits", f"to {found['largest_difference']:.1e}"
    if "largest_shift" in found:
        said, same = "logits and scores", f"{same} and boxes to {found['largest_shift']:.1e} pixels"
    say(f"{said} agree with the network {same} on {found['images']} images")
    say(f"{found['latency_ms']['median']:.2f} ms an image on one thread")
