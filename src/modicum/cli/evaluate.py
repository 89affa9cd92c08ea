"""Print a run's measures, or measure it on other labelled images."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import Json, put_json, say


def evaluate(
    run: Annotated[str, typer.Argument(help="A run's folder.")],
    data: Annotated[str, typer.Option(help="Other labelled images (default: the run's test split).")] = "",
    json: Json = False,
) -> None:
    """Print a run's measures, or measure it on other labelled images."""
    from modicum.cli._summary import percent, points
    from modicum.engine.verbs import evaluate as measure

    found = measure(run, data or None)
    if json:
        put_json(found)
        return
    for name, arm in found["arms"].items():
        say(name)
        for metric, about in found["metrics"].items():
            value = arm.get(metric)
            if value and value[0] is not None:
                shown = f"{value[0]:.3f}" + ("" if value[1] is None else f" ({value[1]:.3f} to {value[2]:.3f})")
                say(f"  {about['title']:<24} " + (shown if metric in ("nll", "brier") else percent(value)))
    if found.get("gain"):
        say(f"gain over {found['gain']['over']}: {points(found['gain']['accuracy'])}")
    say(found["verdict"]["sentence"])
