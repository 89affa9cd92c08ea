"""Write a run's network as one ONNX file, compared with the original on real images."""

from __future__ import annotations

from typing import Annotated

import typer


def export(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    out: Annotated[str, typer.Option(help="Where to (default: model.onnx in the run).")] = "",
) -> None:
    """Write a run's network as one ONNX file, compared with the original on real images."""
    import json

    from modicum.engine.verbs import export as write

    typer.echo(json.dumps(write(run, out or None), indent=1))
