"""`python -m benchmarks.coverage`: how often the interval of a detector's measure holds the measure of all images.

A population is a rule that makes images: how many objects of a class one shows, which of them are found, with what
scores, beside how many wrong boxes; images differ in how hard they are.  Its true measure is that of 40,000 images.
Test sets of 8 to 200 are drawn, each is measured, and its interval holds the truth or not: `tossed`, as evaluation.json
has it, beside the 2.5 and 97.5 % quantiles of the same draws, stretched to the value where it lies outside.  Per cent
of test sets; 95 are promised.  Those that show no object say nothing and are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from modicum.evaluate.boxes import METRICS, Matches, interval, measures, resampled
from modicum.evaluate.intervals import LEVEL, percentile

SHOWN = ("ap50", "recall", "corloc")
HALF = np.array([0.5])
ALL, SIZES = 20_000, (8, 20, 50, 200)
POPULATIONS: dict[str, dict[str, float]] = {
    # share: of images that show a class.  found: log-odds that an object is.  above: by how much its score is above
    # that of a wrong box.  wrong: boxes an image and class.
    "one class, AP 0.57": {"classes": 1, "share": 0.5, "found": 1.5, "above": 1, "wrong": 1},
    "one class, AP 0.03": {"classes": 1, "share": 0.5, "found": -1, "above": -0.5, "wrong": 3},
    "one class, AP 0.97": {"classes": 1, "share": 0.5, "found": 4, "above": 3, "wrong": 0.2},
    "three classes, AP 0.57": {"classes": 3, "share": 0.5, "found": 1.5, "above": 1, "wrong": 1},
    "ten rare classes, AP 0.42": {"classes": 10, "share": 0.2, "found": 1.5, "above": 1, "wrong": 1},
    "ten rare classes, AP 0.01": {"classes": 10, "share": 0.2, "found": -1, "above": -0.5, "wrong": 3},
    "ten rare classes, AP 0.97": {"classes": 10, "share": 0.3, "found": 4, "above": 3, "wrong": 0.2},
}
HARD = 0.5  # standard deviation of how hard an image is, in log-odds and in scores


def drawn(
    n: int, luck: np.random.Generator, *, classes: float, share: float, found: float, above: float, wrong: float
) -> list[Matches]:
    """What was found in n images."""
    easy = luck.normal(0, HARD, n)
    return [_of_class(easy, luck, share, found, above, wrong) for _ in range(int(classes))]


def _of_class(
    easy: np.ndarray, luck: np.random.Generator, share: float, found: float, above: float, wrong: float
) -> Matches:
    n = len(easy)
    objects = np.where(luck.random(n) < share, 1 + luck.poisson(1, n), 0)
    image = np.repeat(np.arange(n), objects)
    image = image[luck.random(len(image)) < 1 / (1 + np.exp(-found - easy[image]))]
    other = np.repeat(np.arange(n), luck.poisson(wrong * np.exp(-easy)))
    score = np.concatenate([luck.normal(above, 1, len(image)) + easy[image], luck.normal(0, 1, len(other))])
    order = np.argsort(-score, kind="stable")
    right = (order < len(image))[None]
    where = np.concatenate([image, other])[order]
    best = np.where(objects > 0, 0.0, np.nan)
    first, at = np.unique(where, return_index=True)
    best[first] = np.where(objects[first] > 0, right[0, at] * 1.0, np.nan)
    return Matches(score[order], where, right, ~right, objects, best)


def covered(n: int, draws: int, resamples: int, **population: float) -> Iterator[tuple[str, float, float, np.ndarray]]:
    """Measure, its truth, its mean over test sets, and the shares of them whose `tossed` interval, and whose quantiles,
    hold the truth, and the mean widths, (4,)."""
    ones = np.ones((1, ALL))
    sets = [measures(drawn(ALL, np.random.default_rng([n, k]), **population), ones, HALF)[0] for k in (0, 1)]
    truth = {k: float(np.mean([s[k] for s in sets])) for k in SHOWN}
    values: dict[str, list[float]] = {k: [] for k in SHOWN}
    good: dict[str, list[list[float]]] = {k: [] for k in SHOWN}
    for seed in range(draws):
        each = drawn(n, np.random.default_rng([7, n, seed]), **population)
        shown, objects = np.stack([m.objects > 0 for m in each]), sum(int(m.objects.sum()) for m in each)
        if not objects:
            continue
        point = measures(each, np.ones((1, n)), HALF)[0]
        again = resampled(each, np.arange(n), n, resamples, seed, HALF)[0]
        for k in SHOWN:
            value = float(point[k][0])
            both = interval(value, again[k], shown, objects, k == "recall"), percentile(value, again[k], LEVEL)
            values[k].append(value)
            good[k].append([*(i.low <= truth[k] <= i.high for i in both), *(i.high - i.low for i in both)])
    for k in SHOWN:
        yield k, truth[k], float(np.mean(values[k])), np.mean(good[k], 0)


def main() -> None:
    """Print a line a population, size and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--draws", type=int, default=300, help="Test sets of each size.")
    parser.add_argument("--resamples", type=int, default=200)
    asked = parser.parse_args()
    print("| population | images | measure | truth | mean value | holds it, % (width) | quantiles, % (width) |")
    print("|---|---|---|---|---|---|---|")
    for name, population in POPULATIONS.items():
        for n in SIZES:
            for k, truth, value, (ours, theirs, wide, width) in covered(n, asked.draws, asked.resamples, **population):
                shown = f"{100 * ours:.0f} ({wide:.3f}) | {100 * theirs:.0f} ({width:.3f})"
                print(f"| {name} | {n} | {METRICS[k].title} | {truth:.3f} | {value:.3f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
