"""Room on the disk, checked before training: a run that cannot end for want of space should not begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modicum.core.method import Learn
from modicum.core.recipe import Recipe
from modicum.core.space import check
from modicum.engine.arms import Bench
from modicum.engine.state import thawed
from modicum.runs.checkpoint import size_of
from modicum.runs.run import Run

PAGE = 5 * 10**6  # bytes that report.html has at most


def room(run: Run, bench: Bench, method: Learn, recipe: Recipe, config: dict[str, Any]) -> None:
    """RunError, with both numbers, where the disk has not the room that the rest of the run needs."""
    nets = len(config["arms"]) * (1 + config["choices"]["folds"]) + 1 + config["request"]["export"]
    needed = needs(bench, method, recipe, nets) - held(run.folder)
    fix = "Free some space, then repeat the command: it goes on; or choose another --out on a larger disk."
    check(run.folder, needed, "the run", fix)


def needs(bench: Bench, method: Learn, recipe: Recipe, nets: int) -> int:
    """Bytes of a run: three checkpoints (two are kept while the next is written), `nets` networks, a line an image."""
    made = bench.loop(method, recipe).nets
    moments = {"sgd": 1, "adamw": 2}
    slots = max(moments[o.name] for o in (recipe.optim, *recipe.groups.values()))
    trained = sum(p.numel() * p.element_size() for p in made.parameters() if p.requires_grad)
    checkpoint = size_of(thawed(made)) + slots * trained
    line = 8 * len(bench.data.names) + 64  # logits, probabilities and the rest
    return 3 * checkpoint + nets * size_of(method.deliver(made).state_dict()) + line * len(bench.data) + PAGE


def held(folder: Path) -> int:
    """Bytes that a folder holds already."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
