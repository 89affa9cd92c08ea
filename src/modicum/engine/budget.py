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
from modicum.engine.chain import learners
from modicum.engine.request import Request


def budget(
    bench: Bench, method: Learn, recipe: Recipe, config: dict[str, Any], asked: Request, fabric: Callable[[str], Any]
) -> tuple[Recipe, dict[str, float]]:
    """Time a few steps and fill in config's choices, arms and reasons.

    -> the recipe with its steps, and the seconds that each arm is expected to take.

    fabric: makes a launched Fabric of a precision.  The bench gets the chosen one, and the layout.  A method of passes
    and changes alone takes no step: the recipe's steps, or the minutes, are then those of its labels-only twins.
    """
    choices = config["choices"]

    def loop(one: Learn, precision: str) -> Callable[[], Any]:
        here = replace(bench, fabric=fabric(precision))
        return lambda: here.loop(one, recipe)

    first = bench.loop(method, recipe)
    stepping = first.total > 0
    bench.layout = choices["layout"] = choose.layout_of(first.nets, choices["device"])
    choices["precision"], said = "32-true", "32-bit: the method takes no gradient steps, which bf16 might speed up."
    if stepping or asked.precision != "auto":
        choices["precision"], said = choose.faster_precision(
            asked,
            lambda: choose.slower_bf16(_net(bench), bench.channels, bench.side),
            lambda: pace.race([loop(method, "32-true"), loop(method, "bf16-mixed")], clear=2.0).ratios[1],
        )
    bench.fabric = fabric(choices["precision"])
    twins = asked.twins != "none" and config["want"] == "class" and config["method"] != choose.baseline()
    twin = choose.baseline() if twins else ""
    against = [choose.compose(twin, {}, recipe, asked.preset)] if twin else []
    racing = [loop(one, choices["precision"]) for one in ([method] if stepping else []) + against]
    found = pace.race(racing) if racing else pace.Pace((), (), 0.0, 0)
    if asked.minutes and not asked.steps and racing:
        share = asked.minutes / (len(learners(config["before"])) + 1)
        recipe = recipe.but(steps=choose.budget(share, found.seconds[0]))
    config["recipe"], config["why"] = recipe.to_dict(), [*config["why"], said, *bench.notes]
    taken = choices["steps"] = recipe.steps if stepping else 0
    config["arms"] = [{"name": config["method"], "method": config["method"], "view": "weak", "steps": taken}]
    if twin:
        _twins(config, twin, found, recipe.steps, asked.twins)
    often = {config["method"]: first.total / recipe.steps * found.seconds[0] if stepping else 0.0}
    rest = found.seconds[-1] if racing else 0.0
    return recipe, {a["name"]: a["steps"] * often.get(a["name"], rest) for a in config["arms"]}


def _net(bench: Bench) -> Any:
    """A network to try out, where and as the run's will be."""
    net = bench.make("net").to(bench.fabric.device)
    return net.to(memory_format=torch.channels_last) if bench.layout else net


def _twins(config: dict[str, Any], twin: str, found: pace.Pace, steps: int, how: str) -> None:
    """Two labels-only arms, one with each view.  how: they take "time" as long as the method, or as many "steps".

    found: the pace of the method and of a twin, or of a twin alone where the method takes no steps.
    """
    alone = len(found.ratios) == 1
    many = steps if how == "steps" or alone else max(steps, round(steps / found.ratios[1]))
    for view in ("weak", "strong"):
        config["arms"].append({"name": f"twin-{view}", "method": twin, "view": view, "steps": many})
    if alone:
        config["why"].append(
            f"Labels-only twins train {many:,} steps of {1e3 * found.seconds[0]:.1f} ms; the method itself takes none."
        )
        return
    as_much = "as long as" if how == "time" else "as many steps as"
    quick, slow = 1e3 * found.seconds[1], 1e3 * found.seconds[0]
    config["why"].append(
        f"Labels-only twins train {many:,} steps ({as_much} the method): a step takes {quick:.1f} ms, the method's "
        f"{slow:.1f} ms; half of {found.rounds} timings in turn agree within {100 * found.spread:.0f} %."
    )
