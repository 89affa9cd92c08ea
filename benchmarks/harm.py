"""`python -m benchmarks.harm`: does semi-supervised learning do harm where it is misled, and is that noticed?

Twelve settings on Fashion-MNIST: unlabelled images of foreign classes, 60 % of the labels wrong, a class prior that is
not the labels', three classes missing among the unlabelled; each at three numbers of labels.  In each, FixMatch and its
two labels-only twins are trained, and again in five folds at half the steps.  Nothing but the folds and the unlabelled
images is shown to the rule of `fit` that keeps an arm; what it cost is the kept arm's loss to the best arm on the test.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arena import RESULTS, Arena

LABELS = {"foreign": (4, 10, 25), "noise": (10, 25, 50), "prior": (4, 10, 25), "absent": (4, 10, 25)}
ARMS = {"fixmatch": ("fixmatch", "weak"), "twin-weak": ("supervised", "weak"), "twin-strong": ("supervised", "strong")}
STEPS, FOLDS, POOL, ASKED = 500, 5, 3000, 1500


def world(arena: Arena, kind: str, labels: int, seed: int) -> dict[str, Any]:
    """-> rows and classes of the labelled, rows of the unlabelled and of the test, its classes, and their names."""
    rng = np.random.default_rng([seed, labels, sum(map(ord, kind))])
    known = list(range(6 if kind == "foreign" else 10))
    of = [rng.permutation(arena.train[arena.cls[arena.train] == c]) for c in range(10)]
    rows = np.concatenate([of[c][:labels] for c in known])
    cls, rest = np.repeat(np.arange(len(known)), labels), [r[labels:] for r in of]
    size = np.full(10, POOL // 10)
    if kind == "foreign":
        size = np.array([POOL // 12] * 6 + [POOL // 8] * 4)
    elif kind == "prior":
        share = 0.02 ** (rng.permutation(10) / 9)
        size = (POOL * share / share.sum()).astype(int)
    elif kind == "absent":
        size = np.full(10, POOL // 7)
        size[rng.permutation(10)[:3]] = 0
    else:
        moved = (cls + rng.integers(1, 10, len(cls))) % 10
        cls = np.where(rng.random(len(cls)) < 0.6, moved, cls)
    test = np.concatenate([rng.permutation(arena.test[arena.cls[arena.test] == c])[:200] for c in known])
    return {
        "rows": rows, "cls": cls, "unlabelled": np.concatenate([r[:n] for r, n in zip(rest, size, strict=True)]),
        "test": test, "truth": arena.cls[test], "names": [arena.data.names[c] for c in known],
    }  # fmt: skip


def answers(arena: Arena, kind: str, labels: int, seed: int) -> dict[str, np.ndarray]:
    """Logits of every arm: of the test, of unlabelled images, and of the labelled ones out of fold."""
    from modicum.core import registry
    from modicum.engine import choose
    from modicum.engine.folds import assign

    at = world(arena, kind, labels, seed)
    bench = arena.bench(at["rows"], at["cls"], at["unlabelled"], at["names"], seed)
    base = registry.load("fixmatch").recipes["small"].flipped(True)
    fold = assign(at["cls"], arena.data.ids[at["rows"]], FOLDS, seed)

    def net(arm: str, steps: int, here: Any) -> Any:
        name, view = ARMS[arm]
        recipe = base.but(steps=steps, views={**base.views, "weak": base.views[view]})
        method = choose.compose(name, {"mu": 2} if name == "fixmatch" else {}, recipe)
        loop = here.loop(method, recipe)
        loop.run()
        return method.deliver(loop.nets).eval()

    found = {k: at[k] for k in ("cls", "truth")} | {"fold": fold}
    for arm in ARMS:
        whole = net(arm, STEPS, bench)
        found[f"test {arm}"] = arena.logits(whole, bench, at["test"])
        found[f"unlabelled {arm}"] = arena.logits(whole, bench, at["unlabelled"][:: POOL // ASKED][:ASKED])
        found[f"unseen {arm}"] = np.zeros((len(at["rows"]), len(at["names"])), np.float32)
        for k in range(FOLDS):
            part = replace(bench, data=bench.data.without("class", at["rows"][fold == k]))
            held = at["rows"][fold == k]
            found[f"unseen {arm}"][fold == k] = arena.logits(net(arm, STEPS // 2, part), part, held)
    return found


def judged(raw: Path, seeds: list[int]) -> list[dict[str, Any]]:
    """What the rule keeps in each cell, and what every arm is worth on the test: one row a cell."""
    from modicum.evaluate.keep import keep

    rows = []
    for kind, counts in LABELS.items():
        for labels, seed in ((n, s) for n in counts for s in seeds):
            found = np.load(raw / f"{kind}-{labels}-{seed}.npz", allow_pickle=False)
            worth = {arm: float((found[f"test {arm}"].argmax(1) == found["truth"]).mean()) for arm in ARMS}
            said = keep(found["cls"], {arm: found[f"unseen {arm}"] for arm in ARMS}, "fixmatch", "")
            pair = keep(found["cls"], {arm: found[f"unseen {arm}"] for arm in list(ARMS)[:2]}, "fixmatch", "")
            rows.append({
                "setting": kind, "labels": labels, "seed": seed, **{arm: f"{v:.4f}" for arm, v in worth.items()},
                "kept": said["kept"], "word": said["word"], "kept_of_two": pair["kept"],
            })  # fmt: skip
    return rows


def table() -> str:
    """Regret by setting, against the best arm in hindsight and against the arm that is best on the whole."""
    from scipy.stats import ttest_1samp

    lines = [
        "| misled by | labels a class | fixmatch | twin-weak | twin-strong | kept | regret to the best of three "
        "| worst | regret to the better of two | worst | kept minus the arm best on average (p, Holm) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    of: dict[tuple[str, str], list[dict[str, str]]] = {}
    for r in csv.DictReader((RESULTS / "harm.csv").open()):
        of.setdefault((r["setting"], r["labels"]), []).append(r)
    tests, cells = [], []
    for key, here in of.items():
        worth = {a: np.array([100 * float(r[a]) for r in here]) for a in ARMS}
        kept = np.array([100 * float(r[r["kept"]]) for r in here])
        two = np.array([100 * float(r[r["kept_of_two"]]) for r in here])
        best = max(worth, key=lambda a: worth[a].mean())
        gap = kept - worth[best]
        tests.append(float(ttest_1samp(gap, 0, alternative="less").pvalue) if gap.any() else 1.0)
        three = np.max(list(worth.values()), 0) - kept
        cells.append((key, worth, here, three, np.maximum(worth["fixmatch"], worth["twin-weak"]) - two, gap.mean()))
    for (key, worth, here, three, pair, gap), p in zip(cells, holm(tests), strict=True):
        many = {a: sum(r["kept"] == a for r in here) for a in ARMS}
        values = " | ".join(f"{worth[a].mean():.1f}" for a in ARMS)
        lines.append(
            f"| {key[0]} | {key[1]} | {values} | {', '.join(f'{a} {n}' for a, n in many.items() if n)} "
            f"| {three.mean():.1f} | {three.max():.1f} | {pair.mean():.1f} | {pair.max():.1f} | {gap:+.1f} ({p:.2f}) |"
        )
    three, pair = np.concatenate([c[3] for c in cells]), np.concatenate([c[4] for c in cells])
    lines.append(f"| all | | | | | | {three.mean():.2f} | {three.max():.1f} | {pair.mean():.2f} | {pair.max():.1f} | |")
    return "\n".join(lines)


def holm(p: list[float]) -> list[float]:
    """P-values adjusted for many tests (Holm, 1979)."""
    order, out, most = np.argsort(p), np.empty(len(p)), 0.0
    for k, i in enumerate(order):
        most = max(most, min(1.0, (len(p) - k) * p[i]))
        out[i] = most
    return out.tolist()


def main() -> None:
    """Train what is missing; judge; write the results and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harm", description=__doc__)
    parser.add_argument("--raw", type=Path, required=True, help="folder of the arms' answers, one file a cell")
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[3, 4, 5, 6, 7], help="1 and 2 were for choosing the rule"
    )
    asked = parser.parse_args()
    asked.raw.mkdir(parents=True, exist_ok=True)
    arena = Arena.open("fashion-mnist", 14, "tiny-conv:width=8")
    for seed in asked.seeds:
        for kind, counts in LABELS.items():
            for labels in counts:
                path = asked.raw / f"{kind}-{labels}-{seed}.npz"
                if not path.exists():
                    begun = time.process_time()
                    np.savez(path, **answers(arena, kind, labels, seed))
                    print(path.name, f"{time.process_time() - begun:.0f} CPU s", flush=True)
    rows = judged(asked.raw, asked.seeds)
    with (RESULTS / "harm.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(table())


if __name__ == "__main__":
    main()
