"""`python -m benchmarks.cost`: what a step of each method costs beside supervised learning and beside FixMatch.

CIFAR-10 with 25 labels a class, the `small` preset, the same labelled batch and the default network.  All methods take
turns, block by block; a wrapper stands around supervised learning.  Ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "cost.csv"
BATCH, SIDE = 32, 32
FIRST, SECOND = "supervised", "fixmatch"


def jobs(precision: str) -> tuple[dict[str, Any], list[str]]:
    """What makes each method's loop, supervised first; and the names of those that need other labels."""
    import lightning_fabric as lightning

    from benchmarks.step import cifar
    from modicum.core import registry
    from modicum.core.recipe import Recipe
    from modicum.engine import choose
    from modicum.engine.arms import Bench
    from modicum.models.doors import default_name

    data, pixels, pool = cifar()
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=precision)
    fabric.launch()
    bench = Bench(data, pixels, pool, default_name(SIDE, 3, False), SIDE, 3, 0, fabric, "batch", "channels_last")
    plain = Recipe(batch=BATCH, wraps=())

    def job(name: str, recipe: Recipe) -> Any:
        method = choose.compose(name, {}, recipe)
        return lambda: bench.loop(method, recipe)

    found, left = {FIRST: job(FIRST, plain)}, []
    have = {f.kind for f in data.facts()}
    for name, card in registry.cards("learn").items():
        kinds = [{f.kind for f in (n if isinstance(n, tuple) else (n,))} for n in card.needed]
        if not all(k & have for k in kinds):
            left.append(name)
        elif name != FIRST:
            recipe = registry.load(name).recipes.get("small", Recipe())
            found[name] = job(name, recipe.but(batch=BATCH, wraps=()))
    for name in registry.cards("wrap"):
        found[name] = job(FIRST, plain.but(wraps=(name,)))
    return found, left


def measure(precision: str, threads: int, rounds: int) -> list[dict[str, Any]]:
    """One row a method."""
    import torch

    import modicum
    from modicum.core import registry
    from modicum.engine.memory import kept
    from modicum.engine.pace import race
    from modicum.runs.run import processor

    torch.set_num_threads(threads)
    with kept():
        found, left = jobs(precision)
        pace = race(list(found.values()), least=rounds, most=2 * rounds, seconds=3600)
    if left:
        print(f"left out, as they need other labels: {', '.join(left)}")
    beside = dict(zip(found, pace.ratios, strict=True))
    return [
        {
            "method": name, "role": registry.card(name).role, "milliseconds": f"{1e3 * seconds:.2f}",
            "times_supervised": f"{beside[name]:.3f}", "times_fixmatch": f"{beside[name] / beside[SECOND]:.3f}",
            "spread": f"{pace.spread:.3f}", "rounds": pace.rounds, "threads": threads, "precision": precision,
            "processor": processor(), "torch": torch.__version__.split("+")[0], "modicum": modicum.__version__,
        }
        for name, seconds in zip(found, pace.seconds, strict=True)
    ]  # fmt: skip


def table(rows: list[dict[str, str]]) -> str:
    """The methods in order of cost, in Markdown."""
    lines = [
        "| method | role | a step, ms | times supervised learning | times FixMatch |",
        "|---|---|---|---|---|",
    ]
    for r in sorted(rows, key=lambda r: float(r["times_supervised"])):
        name = f"[{r['method']}](../methods/{r['method']}.md)"
        lines.append(
            f"| {name} | {r['role']} | {float(r['milliseconds']):.1f} | {float(r['times_supervised']):.2f} "
            f"| {float(r['times_fixmatch']):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, write and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--keep", action="store_true", help=f"write {RESULTS.name}, from which the docs are made")
    asked = parser.parse_args()
    rows = measure(asked.precision, asked.threads, asked.rounds)
    if asked.keep:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(table(rows))


if __name__ == "__main__":
    main()
