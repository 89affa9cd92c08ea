"""`python -m benchmarks.imwa`: IMWA beside training once, EMA, SWA and averaging once, at equal steps, on a long tail.

Fashion-MNIST with 1,000 images of the commonest class and 10 of the rarest (imbalance 100), every arm from the same
start, without augmentation: so T steps suffice, which the gain of 2T shows.  T steps are one training; two copies of T
steps are compared with one training of 2T.  Measured on the balanced test set: accuracy, which there is the balanced
accuracy, and the recall of the three rarest classes.
"""

from __future__ import annotations

import argparse
import csv
import time
from typing import Any

import numpy as np

from benchmarks.arena import RESULTS, Arena, done, keep

MOST, FACTOR, T = 1000, 100, 3000
COPIES = "imwa:models=2,episodes="
ARMS = {  # arm -> method, steps, wrappers
    "one, T": ("supervised", T, ()),
    "one, 2T": ("supervised", 2 * T, ()),
    "EMA, 2T": ("supervised", 2 * T, ("ema:decay=0.999",)),
    "SWA, 2T": ("supervised", 2 * T, ("swa",)),
    "two averaged once": ("supervised", T, (f"{COPIES}1",)),
    "IMWA, E = 5": ("supervised", T, (f"{COPIES}5",)),
    "IMWA, E = 20": ("supervised", T, (f"{COPIES}20",)),
    "IMWA, E = 20, with EMA": ("supervised", T, ("ema:decay=0.999", f"{COPIES}20")),
    "balanced softmax, one, 2T": ("balanced-softmax", 2 * T, ()),
    "balanced softmax, two averaged once": ("balanced-softmax", T, (f"{COPIES}1",)),
    "balanced softmax, IMWA, E = 20": ("balanced-softmax", T, (f"{COPIES}20",)),
}
FIRST = ("one, T", "one, 2T", "two averaged once", "IMWA, E = 20", "balanced softmax, one, 2T", "IMWA, E = 5")
PAIRS = (
    ("one, 2T", "one, T"), ("EMA, 2T", "one, 2T"), ("SWA, 2T", "one, 2T"), ("two averaged once", "one, 2T"),
    ("IMWA, E = 5", "one, T"), ("IMWA, E = 5", "one, 2T"), ("IMWA, E = 5", "two averaged once"),
    ("IMWA, E = 20", "one, T"), ("IMWA, E = 20", "one, 2T"), ("IMWA, E = 20", "two averaged once"),
    ("IMWA, E = 20, with EMA", "IMWA, E = 20"), ("IMWA, E = 20, with EMA", "EMA, 2T"),
    ("balanced softmax, one, 2T", "one, 2T"),
    ("balanced softmax, IMWA, E = 20", "balanced softmax, one, 2T"),
    ("balanced softmax, IMWA, E = 20", "balanced softmax, two averaged once"),
)  # fmt: skip


def cell(arena: Arena, arm: str, seed: int, shrink: int = 1) -> dict[str, Any]:
    """Train one arm; -> its row.  shrink: divides the steps, to try the script."""
    from modicum.core.recipe import PLAIN, Recipe
    from modicum.engine import choose

    name, steps, wraps = ARMS[arm]
    rng = np.random.default_rng([2026, seed])
    order, counts = rng.permutation(10), (MOST * FACTOR ** (-np.arange(10) / 9)).astype(int)
    rows = np.concatenate(
        [rng.permutation(arena.train[arena.cls[arena.train] == c])[:n] for c, n in zip(order, counts, strict=True)]
    )
    bench = arena.bench(rows, arena.cls[rows], rows, arena.data.names, seed)
    recipe = Recipe(steps=steps // shrink, batch=64, wraps=wraps, views={"weak": PLAIN, "plain": PLAIN})
    method = choose.compose(name, {}, recipe, "paper")
    begun = time.process_time()
    loop = bench.loop(method, recipe)
    loop.run()
    took = time.process_time() - begun
    right = arena.logits(method.deliver(loop.nets).eval(), bench, arena.test).argmax(1) == arena.cls[arena.test]
    recall = np.array([right[arena.cls[arena.test] == c].mean() for c in order])
    return {
        "arm": arm, "seed": seed, "accuracy": f"{right.mean():.4f}", "rare": f"{recall[-3:].mean():.4f}",
        "middle": f"{recall[3:7].mean():.4f}", "common": f"{recall[:3].mean():.4f}", "cpu_seconds": f"{took:.0f}",
    }  # fmt: skip


def table() -> str:
    """Every arm's means, and the paired differences, in Markdown."""
    from modicum.evaluate.intervals import paired_t

    value: dict[tuple[str, str], dict[str, float]] = {}
    for r in csv.DictReader((RESULTS / "imwa.csv").open()):
        value[r["arm"], r["seed"]] = {k: 100 * float(r[k]) for k in ("accuracy", "rare", "middle", "common")}
    lines = [
        "| arm | seeds | accuracy, % (sd) | three rarest classes | middle | three commonest |",
        "|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        mine = [v for (a, _), v in value.items() if a == arm]
        if mine:
            mean = {k: np.mean([v[k] for v in mine]) for k in mine[0]}
            sd = f" ({np.std([v['accuracy'] for v in mine], ddof=1):.1f})" if len(mine) > 1 else ""
            parts = " | ".join(f"{mean[k]:.1f}" for k in ("rare", "middle", "common"))
            lines.append(f"| {arm} | {len(mine)} | {mean['accuracy']:.1f}{sd} | {parts} |")
    lines += ["", "| difference | accuracy, points (95 % paired t) | three rarest classes |", "|---|---|---|"]
    for a, b in PAIRS:
        seeds = sorted({s for x, s in value if x == a} & {s for x, s in value if x == b})
        if len(seeds) > 1:
            gaps = (paired_t(np.array([value[a, s][k] - value[b, s][k] for s in seeds])) for k in ("accuracy", "rare"))
            lines.append(
                f"| {a}, minus {b} | "
                + " | ".join(f"{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})" for i in gaps)
                + " |"
            )
    return "\n".join(lines)


def main() -> None:
    """Fill the cells that are missing, the main arms first; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imwa", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    asked = parser.parse_args()
    arena = Arena.open("fashion-mnist", 28, "tiny-conv:width=8")
    for first in (True, False):
        for seed, arm in ((s, a) for s in asked.seeds for a in ARMS if (a in FIRST) == first):
            if (arm, str(seed)) not in done("imwa", "arm", "seed"):
                keep("imwa", cell(arena, arm, seed))
    print(table())


if __name__ == "__main__":
    main()
