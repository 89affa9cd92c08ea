"""Programs of methods whose images are labelled with one class or with tags."""

from __future__ import annotations

from modicum.core.program import Info, Program, Stream, Train, Turn

ROWS = {"class": "class", "tags": "tagged"}  # which images a stream draws


def training(labels: str, info: Info, named: float = 0.0) -> Program:
    """All steps on images with `labels`; for the first share `named` of them by the method's loss `named` alone."""
    streams, steps = {"l": Stream(ROWS[labels], info.recipe.batch, ("weak",))}, info.recipe.steps
    first = round(named * steps)
    phases = [Train(streams, first, (Turn("named"),), "classifier"), Train(streams, steps - first)]
    return [p for p in phases if p.steps]
