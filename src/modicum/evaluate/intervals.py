"""How sure we are: 95 % intervals of metrics, of differences between two arms, and over seeds.

The bootstrap (Efron, 1979) resamples images; it knows nothing of other seeds, other labels or other cameras.
Letters: N images, C classes, R resamples, K sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from modicum.core.errors import DataError
from modicum.evaluate import metrics
from modicum.evaluate.metrics import BINS, METRICS, Sums

LEVEL = 0.95
_CHUNK = 500_000


class Interval(NamedTuple):
    """A value between its bounds, in the unit of the value; bounds are NaN where nothing can be said."""

    value: float
    low: float
    high: float

    def json(self) -> list[float | None]:
        """[value, low, high], with null for NaN and infinities."""
        return [float(x) if math.isfinite(x) else None for x in self]


class Bootstrap(NamedTuple):
    """metrics: name -> interval.  draws: name -> (R,), aligned between arms that share `cls`, resamples and seed.
    per_class: precision, recall, f1 -> one interval a class."""

    metrics: dict[str, Interval]
    draws: dict[str, np.ndarray]
    per_class: dict[str, list[Interval]]


def _z(level: float) -> float:
    from scipy.stats import norm  # type: ignore[import-untyped]

    return float(norm.ppf(0.5 + level / 2))


def wilson(right: float, count: float, level: float = LEVEL) -> Interval:
    """One proportion (Wilson, 1927): `right` of `count`; (NaN, 0, 1) where count is 0."""
    if count <= 0:
        return Interval(math.nan, 0.0, 1.0)
    z, p = _z(level), right / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    # At 0 and 1 a bound equals the value exactly; rounding must not push it past.
    return Interval(p, max(0.0, min(middle - half, p)), min(1.0, max(middle + half, p)))


def tossed(value: float, draws: np.ndarray, tosses: float, groups: float, level: float = LEVEL) -> Interval:
    """A value from 0 to 1 that images drawn again raise, as they do average precision, from its draws (R,).

    A resample holds images twice.  An object then stands beside its copy, and precision at both is higher: draws lie
    above the value, by about as much as the value of few images lies above that of all there could be (`bias`).  Their
    quantiles are off by twice that.  So only the bias and the variance are taken from them:

        m = min(value (1 - value) / variance, tosses) (groups - 1) / groups

    is how often a coin would be tossed for a share that wavers as much.  The interval is Wilson's of m tosses about
    value - bias, widened to hold the value (as Korn and Graubard, 1998, find a share in a survey).  By
    benchmarks/coverage.py, of 8 to 200 images of seven kinds, 200 test sets each, the AP of all images lies in 90 to
    100 % of these intervals, and in 27 to 96 % of those of quantiles.

    tosses: objects, which m does not exceed: a mistake too rare to be among the images does not waver.  groups: of how
    many images a mean is, 1 or more; means of resampled images waver (groups - 1) / groups as much as they should.
    """
    known = draws[~np.isnan(draws)]
    if math.isnan(value) or not len(known):
        return Interval(value, math.nan, math.nan)
    spread, bias = float(known.var()), max(float(known.mean()) - value, 0.0)
    most = value * (1 - value) / spread if spread else math.inf
    count = min(most, tosses) * (groups - 1) / groups
    found = wilson(max(value - bias, 0.0) * count, count, level)
    return Interval(value, min(found.low, value), max(found.high, value))


def paired(a_correct: np.ndarray, b_correct: np.ndarray, level: float = LEVEL) -> Interval:
    """Difference of accuracy of arm a minus arm b on the same images, bool (N,) each, as a share.

    Agresti and Min (2005): half an image is added to each cell of the 2 x 2 table.  A percentile bootstrap is too sure
    of itself where few images tell the arms apart, which with good arms is the usual case.
    """
    a, b = np.asarray(a_correct, bool), np.asarray(b_correct, bool)
    if a.shape != b.shape or not len(a):
        raise DataError(
            f"{len(a)} and {len(b)} images",
            where="paired interval",
            fix="Compare two arms on the same, non-empty images.",
        )
    return parted(float((a & ~b).sum()), float((b & ~a).sum()), len(a), level)


def parted(only_a: float, only_b: float, count: float, level: float = LEVEL) -> Interval:
    """`paired` from counts: images that one arm alone gets right, of `count` in all."""
    n, first, second = count + 2.0, only_a + 0.5, only_b + 0.5
    middle = (first - second) / n
    half = _z(level) * math.sqrt(first + second - (first - second) ** 2 / n) / n
    return Interval((only_a - only_b) / count, max(-1.0, middle - half), min(1.0, middle + half))


def paired_t(differences: np.ndarray, level: float = LEVEL) -> Interval:
    """Mean of paired differences over seeds with Student's t interval; bounds are NaN for a single seed."""
    d = np.asarray(differences, np.float64)
    if not len(d):
        raise DataError("no differences", where="paired t interval", fix="Give two values at least.")
    if len(d) < 2:
        return Interval(float(d.mean()), math.nan, math.nan)
    from scipy.stats import t

    half = float(t.ppf(0.5 + level / 2, len(d) - 1)) * d.std(ddof=1) / math.sqrt(len(d))
    return Interval(float(d.mean()), float(d.mean() - half), float(d.mean() + half))


def weights(cls: np.ndarray, resamples: int, seed: int, stratified: bool = False) -> Iterator[np.ndarray]:
    """How often each image is drawn, float64 (r,N) in chunks of r resamples, R in all.

    stratified: as many images of each class as there are, so that class counts do not vary.
    """
    rng, n = np.random.default_rng(seed), len(cls)
    strata = [np.flatnonzero(cls == c) for c in np.unique(cls)] if stratified else [np.arange(n)]
    step = max(1, min(resamples, _CHUNK // max(n, 1)))
    for start in range(0, resamples, step):
        out = np.zeros((min(step, resamples - start), n))
        for row in out:
            for members in strata:
                drawn = rng.integers(0, len(members), len(members), dtype=np.int32)
                row[members] = np.bincount(drawn, minlength=len(members))
        yield out


def _columns(probs: np.ndarray, cls: np.ndarray) -> object:
    """Sparse (K,N): the contribution of each image to each of K = 3C + BINS + 2 sums, six numbers an image."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    p, c, n = metrics.pieces(probs, cls), probs.shape[1], np.arange(len(cls))
    hit = n[p["right"]]
    rows = [
        cls[hit],
        c + cls,
        2 * c + p["pred"],
        3 * c + p["bin"],
        np.full(len(n), 3 * c + BINS),
        np.full(len(n), 3 * c + BINS + 1),
    ]
    values = [np.ones(len(hit)), np.ones(len(n)), np.ones(len(n)), p["gap"], p["nll"], p["brier"]]
    where = (np.concatenate(rows), np.concatenate([hit, n, n, n, n, n]))
    return csr_matrix((np.concatenate(values), where), shape=(3 * c + BINS + 2, len(n)))


def _as_sums(total: np.ndarray, c: int, n: int) -> Sums:
    """(R,K) -> Sums with a leading axis of resamples."""
    return Sums(
        np.full(len(total), float(n)),
        total[:, -2],
        total[:, -1],
        total[:, :c],
        total[:, c : 2 * c],
        total[:, 2 * c : 3 * c],
        total[:, 3 * c : 3 * c + BINS],
    )


def percentile(value: float, draws: np.ndarray, level: float) -> Interval:
    """Quantiles of the draws; resampling can only add to the calibration error, so the value itself is always
    included."""
    known = draws[~np.isnan(draws)]
    if math.isnan(value) or not len(known):
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(known, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(value, min(float(low), value), max(float(high), value))


def bootstrap(
    probs: np.ndarray,
    cls: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
    stratified: bool = False,
) -> Bootstrap:
    """Percentile intervals of every metric over resampled images.

    Where nothing varies because every image (or none) is right, resampling is blind: accuracy, balanced accuracy and
    macro F1 then take Wilson's interval of the accuracy.  Recall and precision of a class are proportions of few images
    and always take Wilson's; F1 of a class takes the bootstrap, or Wilson's of its recall where it does not vary.
    """
    probs, cls = metrics.check(probs, cls)
    n, c = probs.shape
    columns = _columns(probs, cls)
    drawn = np.concatenate([(columns @ w.T).T for w in weights(cls, resamples, seed, stratified)])  # type: ignore[operator]
    point, sample = metrics.sums(probs, cls), _as_sums(drawn, c, n)
    draws = {name: metric.of(sample) for name, metric in METRICS.items()}
    found = {name: percentile(float(METRICS[name].of(point)), d, level) for name, d in draws.items()}
    share = wilson(float(point.right.sum()), n, level)
    if share.value in (0.0, 1.0):
        found.update({k: share._replace(value=found[k].value) for k in ("accuracy", "balanced_accuracy", "macro_f1")})
    return Bootstrap(found, draws, _per_class(point, sample, level))


def _per_class(point: Sums, sample: Sums, level: float) -> dict[str, list[Interval]]:
    recall = [wilson(r, t, level) for r, t in zip(point.right, point.true)]
    precision = [wilson(r, t, level) for r, t in zip(point.right, point.named)]
    drawn, f1 = metrics.class_f1(sample), []
    for c, value in enumerate(metrics.class_f1(point)):
        own = percentile(float(value), drawn[:, c], level)
        f1.append(recall[c]._replace(value=own.value) if own.low == own.high == own.value else own)
    return {"precision": precision, "recall": recall, "f1": f1}


def difference(a: Bootstrap, b: Bootstrap, metric: str, level: float = LEVEL) -> Interval:
    """a minus b in one metric over the same resamples: both from the same `cls`, resamples, seed and strata."""
    return percentile(a.metrics[metric].value - b.metrics[metric].value, a.draws[metric] - b.draws[metric], level)


def averaged(
    values: np.ndarray, group: np.ndarray | None = None, of: Callable[[np.ndarray], np.ndarray] | None = None, *,
    resamples: int = 1000, seed: int = 0, level: float = LEVEL,
) -> Interval:  # fmt: skip
    """A mean of numbers (N,), or `of` means of columns (N,K), over resampled groups.

    group: whose each row is, e.g. its image; None: each its own.  of: means (R,K) -> (R,).  Where all numbers are 0 or
    1 and each is its own group it is Wilson's interval: resampling is blind where none, or all, are 1.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        raise DataError("no numbers", where="interval", fix="Give one at least.")
    if of is None and group is None and np.isin(values, (0, 1)).all():
        return wilson(float(values.sum()), len(values), level)
    table = values.reshape(len(values), -1)
    known, whose = np.unique(np.arange(len(values)) if group is None else group, return_inverse=True)
    take = of or (lambda means: means[:, 0])
    drawn = []
    for often in weights(np.zeros(len(known), np.int64), resamples, seed):
        rows = often[:, whose]
        drawn.append(take(rows @ table / rows.sum(1, keepdims=True)))
    return percentile(float(take(table.mean(0, keepdims=True))[0]), np.concatenate(drawn), level)
