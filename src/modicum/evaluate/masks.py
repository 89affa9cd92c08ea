"""How well a network says of each pixel what it is.

A class map is an integer array (H,W): 0 background, c + 1 class c; in a true one 255 is unknown and left out.  Images
may differ in size.  They are read one after the other, and of each only 3 (C + 1) sums are kept.  Pixels are pooled
over images, then IoU is taken, then its mean over background and the classes in the true maps (as in PASCAL VOC).

N images, C classes, L = C + 1, R resamples, K sizes of a box.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modicum.core.errors import DataError
from modicum.core.kinds import UNKNOWN
from modicum.evaluate.intervals import LEVEL, Interval, percentile, weights
from modicum.evaluate.sheet import About, sheet

GROUND = "background"
METRICS = {
    "miou": About("Mean IoU", True, "intersection over union of pixels, a mean over background and the classes shown"),
    "accuracy": About("Pixel accuracy", True, "share of known pixels that are named rightly"),
    "precision": About("Foreground precision", True, "of pixels that are given a class, the share that has it"),
    "recall": About("Foreground recall", True, "of pixels that have a class, the share that is given it"),
}
BASELINES = ("all background", "a box in the middle")
BOXES = np.arange(1, 11) / 10


@dataclass(frozen=True)
class Tally:
    """Pixels counted.  sums: int64 (N,3,L): named rightly, true, named, of each image and class.  confusion: int64
    (L,L), true by named, of all.  middle: int64 (K,3,L), the same sums of the boxes in the middle.  unknown: pixels."""

    sums: np.ndarray
    confusion: np.ndarray
    middle: np.ndarray
    unknown: int


def tally(pred: Iterable[np.ndarray], truth: Iterable[np.ndarray], classes: int) -> Tally:
    """Count pixels of class maps, image by image.

    DataError for maps that do not go together, or images of which no pixel is known.
    """
    many, sums, unknown = classes + 1, [], 0
    confusion, middle = np.zeros((many, many), np.int64), np.zeros((len(BOXES), 3, many), np.int64)
    said, there = iter(pred), iter(truth)
    for i, true in enumerate(there):
        found = next(said, None)
        true, found = _checked(true, found, classes, i)
        known = true != UNKNOWN
        mine = np.bincount(true[known] * many + found[known], minlength=many**2).reshape(many, many)
        sums.append(np.stack([np.diag(mine), mine.sum(1), mine.sum(0)]))
        confusion += mine
        middle += _middle(true, known, many)
        unknown += int((~known).sum())
    if next(said, None) is not None:
        raise DataError("more maps than true ones", where="masks", fix="Give one for each.")
    if sums and not confusion.sum():
        fix = "Give masks, and say of some images that they were looked through."
        raise DataError("no pixel of the true maps is known", where="masks", fix=fix)
    return Tally(np.array(sums, np.int64).reshape(-1, 3, many), confusion, middle, unknown)


def _checked(true: np.ndarray, found: np.ndarray | None, classes: int, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as int64 (H,W)."""
    where = f"masks, image {i}"
    if found is None:
        raise DataError("no map for a true one", where=where, fix="Give one for each.")
    true, found = (np.asarray(m).astype(np.int64) for m in (true, found))
    if true.shape != found.shape or true.ndim != 2:
        fix = "Bring the map to the size of the stored image."
        raise DataError(f"a map of shape {found.shape} and a true one of {true.shape}", where=where, fix=fix)
    for name, values in (("map", found), ("true map", np.where(true == UNKNOWN, 0, true))):
        if values.size and not 0 <= values.min() <= values.max() <= classes:
            odd = int(values.max() if values.max() > classes else values.min())
            fix = "0 is background, c + 1 class c."
            raise DataError(f"{odd} in a {name} of {classes} classes", where=where, fix=fix)
    return true, found


def _middle(true: np.ndarray, known: np.ndarray, many: int) -> np.ndarray:
    """Sums (K,3,L) of boxes in the middle that all are of the image's largest class; nothing where it shows none."""
    height, width = true.shape
    y, x = (np.abs(2 * (np.arange(n) + 0.5) / n - 1) for n in (height, width))
    ring = np.searchsorted(BOXES, np.maximum(y[:, None], x), side="left")[known]  # the first box with the pixel
    counts = np.bincount(ring * many + true[known], minlength=len(BOXES) * many).reshape(-1, many)
    inside, total = counts.cumsum(0), counts.sum(0)
    out = np.zeros((len(BOXES), 3, many), np.int64)
    cls = 1 + int(total[1:].argmax()) if total[1:].any() else 0
    within = inside.sum(1) if cls else np.zeros(len(BOXES), np.int64)
    out[:, 1] = total
    out[:, 2, cls] += within
    out[:, 2, 0] += total.sum() - within
    out[:, 0, cls] += inside[:, cls] * bool(cls)
    out[:, 0, 0] += total[0] - inside[:, 0] * bool(cls)
    return out


def measures(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Sums (...,3,L) -> each metric (...); NaN where it says nothing."""
    right, true, named = np.moveaxis(sums, -2, 0)
    each = iou(sums)
    return {
        "miou": _ratio(np.nansum(each, -1), (true > 0).sum(-1)), "accuracy": _ratio(right.sum(-1), true.sum(-1)),
        "precision": _ratio(right[..., 1:].sum(-1), named[..., 1:].sum(-1)),
        "recall": _ratio(right[..., 1:].sum(-1), true[..., 1:].sum(-1)),
    }  # fmt: skip


def iou(sums: np.ndarray) -> np.ndarray:
    """Sums (...,3,L) -> intersection over union (...,L), background first; NaN where no true pixel has the class."""
    right, true, named = np.moveaxis(sums, -2, 0)
    return np.where(true > 0, _ratio(right, true + named - right), np.nan)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0)


def evaluate_masks(
    pred: Iterable[np.ndarray], truth: Iterable[np.ndarray], names: Sequence[str], *, main: str = "main",
    unlabelled: int = 0, labels_from: str = "", resamples: int = 1000, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Measure one network's class maps as evaluation.json holds it (evaluate.py), `lead` being mean IoU.

    pred, truth: class maps (H,W), an image each.  names: of the C classes.  Intervals are over resampled images; there
    is none of one image.  Baselines: background everywhere; and, knowing which class is largest in each image, a box of
    it in the middle, of the one size for all images that does best on these.  `per_class` begins with background,
    support counting images; `pixels` holds known, unknown and the confusion (true by named), background first.  Of no
    image nothing is said.
    """
    counted = tally(pred, truth, len(names))
    n, shown = len(counted.sums), (counted.sums[:, 1] > 0).sum(0).tolist()
    out = sheet(
        main, names, "miou", METRICS, shown[1:], images=n, unlabelled=unlabelled, labels_from=labels_from,
        resamples=resamples, seed=seed,
    )  # fmt: skip
    if not n:
        return out
    drawn = resampled(counted.sums, resamples, seed)
    nothing = _nothing(counted.sums)
    best = int(np.nanargmax(measures(counted.middle)["miou"]))
    out["arms"] = {
        main: {"role": "main", **_intervals(counted.sums.sum(0), drawn, n)},
        BASELINES[0]: {"role": "baseline", **_intervals(nothing.sum(0), resampled(nothing, resamples, seed), n)},
        BASELINES[1]: {"role": "baseline", **_intervals(counted.middle[best], counted.middle[:0], 1)},
    }
    each, parts = iou(counted.sums.sum(0)), iou(drawn)
    out["per_class"] = [
        {"class": name, "support": shown[i], "iou": _interval(each[i], parts[:, i], n).json()}
        for i, name in enumerate([GROUND, *names])
    ]
    known = int(counted.confusion.sum())
    out["pixels"] = {"known": known, "unknown": counted.unknown, "confusion": counted.confusion.tolist()}
    sentence = f"{main} was not compared: masks have no twin trained otherwise."
    return {**out, "verdict": {"word": "not compared", "sentence": sentence}}


def _nothing(sums: np.ndarray) -> np.ndarray:
    """Sums (N,3,L) of who says background everywhere."""
    out = np.zeros_like(sums)
    out[:, 1], out[:, 2, 0], out[:, 0, 0] = sums[:, 1], sums[:, 1].sum(1), sums[:, 1, 0]
    return out


def _intervals(point: np.ndarray, sample: np.ndarray, images: int) -> dict[str, Any]:
    """Sums (3,L), and (R,3,L) resampled -> metric -> [value, low, high]."""
    draws = measures(sample)
    return {name: _interval(float(value), draws[name], images).json() for name, value in measures(point).items()}


def resampled(sums: np.ndarray, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Sums (N,3,L) of images -> sums (R,3,L) over images drawn with replacement; arms of one seed draw the same."""
    flat = sums.reshape(len(sums), -1).astype(np.float64)
    drawn = np.concatenate([often @ flat for often in weights(np.zeros(len(sums)), resamples, seed)])
    return drawn.reshape(-1, *sums.shape[1:])


def _interval(value: float, draws: np.ndarray, images: int) -> Interval:
    return percentile(float(value), draws, LEVEL) if images > 1 else Interval(float(value), np.nan, np.nan)
