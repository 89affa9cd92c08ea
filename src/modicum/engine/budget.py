"""What is measured before training and written into config: layout, precision, and how many steps each arm takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from modicum.core.method import Learn
from modicum.core.recipe import Recipe
from modicum.engine import choose, pace
from modicum.engine.arms import Bench
from modicum.engine.request import Request


def budget(
    bench: Bench, method: Learn, recipe: Recipe, config: dict[str, Any], asked: Request, fabric: Callable[[str], Any]
) -> Recipe:
    """Time a few steps and fill in config's choices, arms and reasons; -> the recipe with its steps.

    fabric: makes a launched Fabric of a precision.  The bench gets the chosen one, and the layout.
    """
    choices = config["choices"]

    def loop(one: Learn, precision: str) -> Callable[[], Any]:
        here = replace(bench, fabric=fabric(precision))
        return lambda: here.loop(one, recipe)

    bench.layout = choices["layout"] = choose.layout_of(bench.loop(method, recipe).nets, choices["device"])
    choices["precision"], said = choose.faster_precision(
        asked,
        lambda: choose.slower_bf16(_net(bench), bench.channels, bench.side),
        lambda: pace.race([loop(method, "32-true"), loop(method, "bf16-mixed")], clear=2.0).ratios[1],
    )
    bench.fabric = fabric(choices["precision"])
    twin = choose.baseline() if asked.twins != "none" and config["method"] != choose.baseline() else ""
    against = [choose.compose(twin, {}, recipe, asked.preset)] if twin else []
    found = pace.race([loop(one, choices["precision"]) for one in (method, *against)])
    if asked.minutes and not asked.steps:
        recipe = recipe.but(steps=choose.budget(asked.minutes, found.seconds[0]))
    config["recipe"], config["why"] = recipe.to_dict(), [*config["why"], said, *bench.notes]
    config["arms"] = [{"name": config["method"], "method": config["method"], "view": "weak", "steps": recipe.steps}]
    if twin:
        _twins(config, twin, found, recipe.steps, asked.twins)
    choices["steps"] = recipe.steps
    return recipe


def _net(bench: Bench) -> Any:
    """A network to try out, where and as the run's will be."""
    net = bench.make("net").to(bench.fabric.device)
    return net.to(memory_format=torch.channels_last) if bench.layout else net


def _twins(config: dict[str, Any], twin: str, found: pace.Pace, steps: int, how: str) -> None:
    """Two labels-only arms, one with each view.  how: they take "time" as long as the method, or as many "steps"."""
    many = steps if how == "steps" else max(steps, round(steps / found.ratios[1]))
    for view in ("weak", "strong"):
        config["arms"].append({"name": f"twin-{view}", "method": twin, "view": view, "steps": many})
    as_much = "as long as" if how == "time" else "as many steps as"
    quick, slow = 1e3 * found.seconds[1], 1e3 * found.seconds[0]
    config["why"].append(
        f"Labels-only twins train {many:,} steps ({as_much} the method): a step takes {quick:.1f} ms, the method's "
        f"{slow:.1f} ms; half of {found.rounds} timings in turn agree within {100 * found.spread:.0f} %."
    )
