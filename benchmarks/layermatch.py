"""`python -m benchmarks.layermatch`: what each part of LayerMatch adds, with and without wrong guesses put in.

Fashion-MNIST, few labels a class, every arm from the same start.  With noise, 30 % of the unlabelled images (drawn
beforehand) teach another class than the one guessed (drawn beforehand too) whenever their guess is believed.  Beside
the accuracy stands what tells whether the idea is at work: how much a classifier fitted anew to the labels on frozen
features gains; how many guesses are believed and how many of those are right, over time; and the spread of features
within classes as a share of that between classes, over time.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.arena import Arena, done, keep

ARMS = {
    "base": "grad_relu=off clustering=off",
    "+ Grad-ReLU": "grad_relu=blocking clustering=off",
    "+ Grad-ReLU, selective": "grad_relu=selective clustering=off",
    "+ Avg-Clustering C1": "grad_relu=off clustering=head",
    "Grad-ReLU + C1": "grad_relu=blocking clustering=head",
    "Grad-ReLU + C2": "grad_relu=blocking clustering=outputs average=0.9",
    "Grad-ReLU + C3": "grad_relu=blocking clustering=features",
}
NOISY = ("base", "+ Grad-ReLU", "+ Grad-ReLU, selective", "Grad-ReLU + C1")
LOOKS, STEPS, FIXED = 10, 600, 20_260_101


def spread(features: np.ndarray, cls: np.ndarray) -> float:
    """Variance of features (N,D) within classes over that of the classes' means."""
    means = np.stack([features[cls == c].mean(0) for c in range(10)])
    return float(np.square(features - means[cls]).sum(1).mean() / np.square(means - means.mean(0)).sum(1).mean())


def features(net: Any, bench: Any, rows: np.ndarray) -> np.ndarray:
    """What the head is given, (R,D)."""
    import torch

    with torch.no_grad():
        parts = [net(p["plain"]).features.float().numpy() for p in bench.feed({}).sweep(rows, 64)]
    return np.concatenate(parts)


def watched(trust: Any, truth: np.ndarray, wrong: np.ndarray, shift: np.ndarray) -> Any:
    """The trust rule, counting what it believes, (guesses, believed, right), step by step.

    truth (N,): the classes.  wrong: bool (N,), images whose believed guess is moved by `shift` (N,) classes.
    """
    import torch
    from torch import nn

    from modicum.nn.trust import Pseudo

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rule, self.seen = trust, []

        def judge(self, probs: Any, rows: Any) -> Any:
            target, weight = self.rule.judge(probs, rows)
            at, believed = rows.numpy(), weight.numpy() > 0
            right = believed & (target.numpy() == truth[at])
            self.seen.append((len(at), int(believed.sum()), int(right.sum())))
            moved = torch.where(torch.from_numpy(wrong[at]), (target + torch.from_numpy(shift[at])) % 10, target)
            return Pseudo(moved, weight)

    return Watched()


def cell(arena: Arena, labels: int, arm: str, noise: float, seed: int) -> dict[str, Any]:
    """Train one arm; -> its row."""
    from sklearn.linear_model import LogisticRegression

    from benchmarks.__main__ import variant
    from modicum.core import registry
    from modicum.engine import choose

    rng = np.random.default_rng([FIXED, seed])
    rows = np.concatenate([rng.permutation(arena.train[arena.cls[arena.train] == c])[:labels] for c in range(10)])
    wrong = np.random.default_rng(FIXED).random(len(arena.cls)) < noise
    shift = np.random.default_rng(FIXED + 1).integers(1, 10, len(arena.cls))
    bench = arena.bench(rows, arena.cls[rows], arena.train, arena.data.names, seed)
    recipe = registry.load("layermatch").recipes["small"].flipped(True).but(steps=STEPS)
    method = choose.compose("layermatch", variant(f"layermatch {ARMS[arm]}")["settings"], recipe)
    some = arena.test[:: len(arena.test) // 2000]
    ratios: list[float] = []

    def tick(_: str, step: int, total: int, __: Any) -> None:
        if step % (total // LOOKS) == 0:
            ratios.append(spread(features(method.deliver(loop.nets).eval(), bench, some), arena.cls[some]))

    loop = bench.loop(method, recipe, tick=tick)
    trust = loop.nets["inner"]["trust"] = watched(loop.nets["inner"]["trust"], arena.cls, wrong, shift)
    loop.run()
    net = method.deliver(loop.nets).eval()
    accuracy = float((arena.logits(net, bench, arena.test).argmax(1) == arena.cls[arena.test]).mean())
    again = LogisticRegression(max_iter=2000).fit(features(net, bench, rows), arena.cls[rows])
    refit = float((again.predict(features(net, bench, arena.test)) == arena.cls[arena.test]).mean())
    parts = np.array(trust.seen).reshape(LOOKS, -1, 3).sum(1)
    return {
        "labels": labels, "noise": noise, "arm": arm, "seed": seed, "accuracy": f"{accuracy:.4f}",
        "refitted": f"{refit:.4f}", "believed": told(parts[:, 1] / parts[:, 0]),
        "right": told(parts[:, 2] / np.maximum(1, parts[:, 1])), "spread": told(ratios),
    }  # fmt: skip


def told(values: Any) -> str:
    """Numbers over time in one field."""
    return " ".join(f"{v:.3f}" for v in values)


def table() -> str:
    """Each arm's mean accuracy and its difference to the base, in Markdown."""
    import csv

    from benchmarks.arena import RESULTS
    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "layermatch.csv").open()))
    lines = [
        "| labels a class | wrong guesses put in | arm | seeds | accuracy, % (sd) | minus base, points (95 % paired t) "
        "| refitted classifier minus own, points | believed at the end, % | of those right, % | spread at the end |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for labels, noise in dict.fromkeys((r["labels"], r["noise"]) for r in rows):
        here = {(r["arm"], r["seed"]): r for r in rows if (r["labels"], r["noise"]) == (labels, noise)}
        for arm in ARMS:
            mine = {s: r for (a, s), r in here.items() if a == arm}
            if not mine:
                continue
            value = np.array([100 * float(r["accuracy"]) for r in mine.values()])
            both = [s for s in mine if ("base", s) in here]
            gain = [100 * (float(mine[s]["accuracy"]) - float(here["base", s]["accuracy"])) for s in both]
            i = paired_t(np.array(gain)) if len(gain) > 1 and arm != "base" else None
            refit = np.mean([100 * (float(r["refitted"]) - float(r["accuracy"])) for r in mine.values()])
            last = [np.mean([float(r[k].split()[-1]) for r in mine.values()]) for k in ("believed", "right", "spread")]
            sd = f" ({value.std(ddof=1):.1f})" if len(value) > 1 else ""
            lines.append(
                f"| {labels} | {100 * float(noise):.0f} % | {arm} | {len(value)} | {value.mean():.1f}{sd} | "
                + (f"{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})" if i else "")
                + f" | {refit:+.1f} | {100 * last[0]:.0f} | {100 * last[1]:.0f} | {last[2]:.2f} |"
            )
    names = zip(SHOWN, ("blue, solid", "orange, dashes", "green, dots", "purple, dash and dot", "grey, fine dots"))
    lines += ["", "Over the steps, without wrong guesses: " + "; ".join(f"{a} ({c})" for a, c in names) + "."]
    lines += [f"\n{words}:\n\n![{words}](../assets/{name})" for name, (words, _) in plots().items()]
    return "\n".join(lines)


SHOWN = ("base", "+ Grad-ReLU", "+ Grad-ReLU, selective", "Grad-ReLU + C1", "Grad-ReLU + C3")
COLOURS = ("#0072b2", "#c65102", "#00845d", "#a8528a", "#6b747c")
DASHES = ("", "6 4", "2 4", "9 3 2 3", "1 3")
PLOTS = {
    "believed": "Share of guesses that are believed", "right": "Share of those that are right",
    "spread": "Spread of features within classes over that between",
}  # fmt: skip


def plots() -> dict[str, tuple[str, str]]:
    """File name -> (what it shows, SVG): means over seeds, over the steps; no wrong guesses put in."""
    import csv

    from benchmarks.arena import RESULTS
    from modicum.report.charts import curves

    rows = [r for r in csv.DictReader((RESULTS / "layermatch.csv").open()) if float(r["noise"]) == 0]
    lines = zip(COLOURS, DASHES, strict=True)
    style = "".join(f".s{i}{{stroke:{c};stroke-dasharray:{d or 'none'}}}" for i, (c, d) in enumerate(lines))
    style += ".curve{fill:none;stroke-width:2}.grid{stroke:#ccc}text{font:11px sans-serif;fill:#666}"
    out, steps = {}, np.arange(1, LOOKS + 1) * STEPS / LOOKS
    for labels in dict.fromkeys(r["labels"] for r in rows):
        for key, title in PLOTS.items():
            series = []
            for i, arm in enumerate(SHOWN):
                mine = [r[key].split() for r in rows if (r["labels"], r["arm"]) == (labels, arm)]
                series.append((i, steps, np.array(mine, float).mean(0)))
            svg = str(curves(series, title)).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
            words = f"{title}, {labels} labels a class"
            out[f"layermatch-{labels}-{key}.svg"] = words, svg.replace(">", f"><style>{style}</style>", 1) + "\n"
    return out


def main() -> None:
    """Fill the cells that are missing, seeds first; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layermatch", description=__doc__)
    parser.add_argument("--labels", type=int, nargs="*", default=[25, 4])
    parser.add_argument("--noise", type=float, nargs="*", default=[0.3, 0.0])
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    arena = Arena.open("fashion-mnist", 28, "tiny-conv:width=12")
    for labels in asked.labels:
        for seed in range(asked.seeds):
            for noise in asked.noise:
                for arm in NOISY if noise else ARMS:
                    if (str(labels), str(noise), arm, str(seed)) not in done(
                        "layermatch", "labels", "noise", "arm", "seed"
                    ):
                        keep("layermatch", cell(arena, labels, arm, noise, seed))
    print(table())


if __name__ == "__main__":
    main()
