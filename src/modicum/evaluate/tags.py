"""How well a network tells which classes are in an image.

Average precision of a class is the area under its precision and recall as steps: sum over thresholds of the recall
gained times the precision there; equal scores are one threshold.  N images, C classes, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modicum.core.errors import DataError, did_you_mean
from modicum.evaluate.intervals import Interval, percentile, tossed, weights
from modicum.evaluate.sheet import About, sheet

METRICS = {
    "map": About("Mean average precision", True, "average precision, a mean over the classes that are in some images"),
    "f1": About("F1 at 0.5", True, "F1 of all tags together, present where the probability is above one half"),
    "exact": About("All tags right", True, "share of images of which every tag is right"),
}


def evaluate_tags(
    arms: Mapping[str, np.ndarray], tags: np.ndarray, classes: Sequence[str], *, main: str, labels_from: str = "",
    resamples: int = 1000, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Measure arms on the same test images, as evaluation.json holds it (evaluate.py), `lead` being mean average
    precision.

    arms: name -> probabilities (N,C).  tags: int8 (N,C), 1 present, 0 absent, -1 unknown and left out.  An arm that is
    not `main` is a baseline.  Intervals are over resampled images.  Where no tag is present nothing can be said.
    """
    if main not in arms:
        raise DataError(f"no arm {main!r}", where="evaluate(main=...)", fix=did_you_mean(main, arms))
    known = (tags >= 0).any(1)
    counts = (tags == 1).sum(0).tolist()
    given = {"unlabelled": int((~known).sum()), "labels_from": labels_from, "resamples": resamples, "seed": seed}
    out = sheet(main, classes, "map", METRICS, counts, images=int(known.sum()), **given)
    if not any(counts):
        return out
    drawn = np.concatenate(list(weights(np.zeros(int(known.sum())), resamples, seed)))
    every = np.concatenate([np.ones((1, drawn.shape[1])), drawn])
    for name, probs in arms.items():
        found, parts = _measures(np.asarray(probs, np.float64)[known], tags[known], every)
        of = {k: _interval(k, v, counts).json() for k, v in found.items()}
        out["arms"][name] = {"role": "main" if name == main else "baseline", **of}
        if name == main:
            out["per_class"] = [
                {"class": c, "support": n, "average_precision": tossed(float(v[0]), v[1:], n, max(n, 1)).json()}
                for c, n, v in zip(classes, counts, parts.T, strict=True)
            ]
    sentence = f"{main} was not compared: tags have no twin trained otherwise."
    return {**out, "verdict": {"word": "not compared", "sentence": sentence}}


def _interval(name: str, values: np.ndarray, counts: Sequence[int]) -> Interval:
    """Of a metric, by its value and those of resamples, (1+R,)."""
    if name != "map":
        return percentile(float(values[0]), values[1:], 0.95)
    return tossed(float(values[0]), values[1:], sum(counts), float(np.mean([n for n in counts if n])))


def average_precision(scores: np.ndarray, present: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """scores: (N,).  present: bool (N,).  weight: (R,N), how often each image counts.  -> (R,), NaN where none is."""
    order = np.argsort(-scores, kind="stable")
    w, hit = weight[:, order], weight[:, order] * present[order]
    last = np.searchsorted(-scores[order], -scores[order], side="right") - 1  # of the images with the same score
    total = w.cumsum(1)[:, last]
    precision = np.divide(hit.cumsum(1)[:, last], total, out=np.zeros_like(w), where=total > 0)
    found = hit.sum(1)
    return np.divide((hit * precision).sum(1), found, out=np.full(len(w), np.nan), where=found > 0)


def _measures(probs: np.ndarray, tags: np.ndarray, weight: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """-> metric -> (R,), and average precision of each class (R,C)."""
    said, true, known = probs > 0.5, tags == 1, tags >= 0
    columns = zip(probs.T, true.T, known.T, strict=True)
    parts = np.stack([average_precision(p[k], t[k], weight[:, k]) for p, t, k in columns], 1)
    hit, named, there = (weight @ x.sum(1) for x in (said & true, said & known, true))
    many = weight.sum(1)
    there_is = np.isfinite(parts)
    mean = np.divide(np.where(there_is, parts, 0).sum(1), there_is.sum(1), out=np.full(len(parts), np.nan),
                     where=there_is.any(1))  # fmt: skip
    f1 = 2 * hit / np.maximum(named + there, 1e-12)
    return {"map": mean, "f1": f1, "exact": weight @ ((said == true) | ~known).all(1) / many}, parts
