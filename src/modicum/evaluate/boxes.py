"""How well a network finds objects: boxes with a class and a score, against boxes that people drew.

In each image and class, found boxes take true ones from the best score down: each the one it overlaps most of those
that are left, if by the threshold, as in COCO.  What takes none is wrong, unless it lies, by a share of its own area
that reaches the threshold, in a box that is ignored.  A class is graded only in images in which all its objects are
marked (`looked`).  Boxes of equal score are one step of the curve.

N images, M boxes, G true boxes of an image, C classes, T thresholds, R resamples, K steps of a curve.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from modicum.core.errors import DataError
from modicum.evaluate.intervals import Interval, averaged, tossed, weights, wilson
from modicum.evaluate.localise import iou
from modicum.evaluate.sheet import About, sheet

THRESHOLDS = np.arange(50, 100, 5) / 100
MOST = 100
SHARES = np.arange(1, 11) / 10
BASELINE = "a box in the middle"
METRICS = {
    "ap50": About("AP at 0.5", True, "average precision, a box being right where its IoU is 0.5; a mean over classes"),
    "ap": About("AP", True, "the same, a mean over IoU 0.5 to 0.95 in steps of 0.05"),
    "ap75": About("AP at 0.75", True, "the same at IoU 0.75"),
    "recall": About("Recall at 0.5", True, "share of objects that a box of their class finds, whatever its score"),
    "corloc": About("CorLoc", True, "share of images with a class whose best box of it is right; a mean over classes"),
}


class Found(NamedTuple):
    """What a network says.  xyxy: float (M,4), pixel edges.  cls, image: int (M,).  score: float (M,)."""

    xyxy: np.ndarray
    cls: np.ndarray
    score: np.ndarray
    image: np.ndarray


class Truth(NamedTuple):
    """What people drew.  xyxy: float (M,4).  cls: int (M,), -1 unknown: ignored for every class.  state: int (M,),
    1 object, 0 ignore.  image: int (M,).  looked: bool (N,C), where boxes of a class are complete.  size: int (N,2),
    height and width of the images."""

    xyxy: np.ndarray
    cls: np.ndarray
    state: np.ndarray
    image: np.ndarray
    looked: np.ndarray
    size: np.ndarray


@dataclass(frozen=True)
class Matches:
    """One class.  Its found boxes by falling score: score (M,), image (M,), right: bool (T,M), wrong: bool (T,M);
    neither where they are ignored.  objects: int (N,), to be found.  best: float (N,), the largest IoU of the best box
    of an image with an object; NaN where the image shows no object of the class."""

    score: np.ndarray
    image: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    objects: np.ndarray
    best: np.ndarray


# -- matching, once an image -----------------------------------------------------------------------------------------


def matched(found: Found, truth: Truth, cls: int, thresholds: np.ndarray = THRESHOLDS, most: int = MOST) -> Matches:
    """Which found boxes of a class are right.  most: boxes of an image that count, the best ones."""
    graded, real, hidden = parts(truth, cls)
    mine = np.flatnonzero((found.cls == cls) & graded[found.image])
    mine = mine[np.lexsort((-found.score[mine], found.image[mine]))]  # by image, then by falling score
    n, place = len(graded), np.arange(len(mine))
    mine = mine[place - np.searchsorted(found.image[mine], found.image[mine]) < most]
    objects = np.bincount(truth.image[real], minlength=n)
    best = np.where(objects > 0, 0.0, np.nan)
    right = np.zeros((len(thresholds), len(mine)), bool)
    forgiven = np.zeros_like(right)
    columns = found.image[mine], truth.image[real], truth.image[hidden]
    for i, (here, there, spare) in enumerate(zip(*(ends_of(image, n) for image in columns), strict=True)):
        if here.start < here.stop:
            boxes = found.xyxy[mine[here]]
            overlap = iou(boxes, truth.xyxy[real[there]])
            right[:, here] = taken(overlap, thresholds) >= 0
            forgiven[:, here] = inside(boxes, truth.xyxy[hidden[spare]]) >= thresholds[:, None]
            best[i] = overlap[0].max() if objects[i] else np.nan
    order = np.argsort(-found.score[mine], kind="stable")
    rows, right, wrong = mine[order], right[:, order], (~right & ~forgiven)[:, order]
    return Matches(found.score[rows], found.image[rows], right, wrong, objects, best)


def parts(truth: Truth, cls: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images in which a class is graded, bool (N,); its objects there and its ignored boxes, by image, int (M,)."""
    graded = truth.looked[:, cls]
    real = (truth.cls == cls) & (truth.state == 1) & graded[truth.image]
    hidden = (truth.cls < 0) | ((truth.cls == cls) & (truth.state == 0))
    order = np.argsort(truth.image, kind="stable")
    return graded, order[real[order]], order[hidden[order]]


def ends_of(image: np.ndarray, n: int) -> list[slice]:
    """Where each of n images lies in an ascending column."""
    at = np.searchsorted(image, np.arange(n + 1)).tolist()
    return [slice(*pair) for pair in itertools.pairwise(at)]


def taken(overlap: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Overlaps (M,G) of boxes by falling score -> which true one each takes at each threshold, int (T,M), -1 none."""
    out = np.full((len(thresholds), len(overlap)), -1)
    if not overlap.size:
        return out
    free, every = np.ones((len(thresholds), overlap.shape[1]), bool), np.arange(len(thresholds))
    for d in np.flatnonzero(overlap.max(1) >= thresholds.min()):
        left = np.where(free, overlap[d], -1.0)
        chosen = left.argmax(1)
        took = left[every, chosen] >= thresholds
        out[took, d] = chosen[took]
        free[every[took], chosen[took]] = False
    return out


def inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The largest share of each box (M,4) that lies in one of the others (P,4), (M,)."""
    return _ratio(_shared(boxes[:, None], others[None]), _area(boxes)[:, None], 0).max(1, initial=0)


def _area(xyxy: np.ndarray) -> np.ndarray:
    return np.asarray((xyxy[..., 2:] - xyxy[..., :2]).prod(-1))


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Square pixels in both of two boxes (...,4), which broadcast."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.asarray(np.maximum(sides, 0).prod(-1))


def _middle(truth: Truth, cls: int, share: float) -> Matches:
    """Boxes in the middle of every image that are `share` of its sides, all of one score."""
    graded, real, hidden = parts(truth, cls)
    whole, n = truth.size[:, ::-1], len(graded)
    boxes = np.concatenate([whole * (1 - share), whole * (1 + share)], 1) / 2
    best, spare = np.zeros(n), np.zeros(n)
    for rows, out in ((real, best), (hidden, spare)):
        mine, theirs = boxes[truth.image[rows]], truth.xyxy[rows]
        both, own = _shared(mine, theirs), _area(mine)
        np.maximum.at(out, truth.image[rows], _ratio(both, own + _area(theirs) - both if rows is real else own, 0))
    level = THRESHOLDS[:, None]
    right = (best >= level)[:, graded]
    wrong = ((best < level) & (spare < level))[:, graded]
    objects = np.bincount(truth.image[real], minlength=n)
    best = np.where(objects > 0, best, np.nan)
    return Matches(np.zeros(int(graded.sum())), np.flatnonzero(graded), right, wrong, objects, best)


# -- curves, for any weight of the images ------------------------------------------------------------------------------


def average_precision(
    score: np.ndarray, image: np.ndarray, right: np.ndarray, wrong: np.ndarray, objects: np.ndarray,
    weight: np.ndarray, points: int | None = 101,
) -> np.ndarray:  # fmt: skip
    """Area under precision and recall, (R,), precision at a recall being the largest at that or any larger one.

    score, image, right, wrong: (M,), by falling score.  objects: (N,).  weight: (R,N), how often each image counts.
    points: recalls 0 to 1 at which precision is averaged (COCO), or None for the area (VOC from 2010 on).  0 where
    nothing is found, NaN where there is nothing to find.
    """
    there = (weight @ objects).astype(np.float64)
    step = np.cumsum(np.diff(score, prepend=np.inf) != 0)  # equal scores, one step
    turns = np.unique(step[right])  # precision peaks at steps with a right box alone
    if not len(turns):
        return np.where(there > 0, 0.0, np.nan)
    good, bad = (_summed(weight, image[x], np.searchsorted(turns, step[x]), len(turns)) for x in (right, wrong))
    precision = _ratio(good, good + bad, 0)
    highest = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    recall = _ratio(good, there[:, None], 0)
    passed = recall if points is None else (np.floor(recall * (points - 1) + 1e-9) + 1) / points
    area = (highest * np.diff(passed, axis=1, prepend=0)).sum(1)
    return np.where(there > 0, area, np.nan)


def _summed(weight: np.ndarray, image: np.ndarray, turn: np.ndarray, turns: int) -> np.ndarray:
    """Boxes counted up to each turn of the curve, float64 (R,turns)."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    some = turn < turns
    where = turn[some], image[some]
    counts = csr_matrix((np.ones(int(some.sum())), where), shape=(turns, weight.shape[1]))
    return np.cumsum((counts @ weight.T).T, 1)


def measures(
    each: Sequence[Matches], weight: np.ndarray, thresholds: np.ndarray = THRESHOLDS
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Metric -> (R,), and AP at 0.5 of each class (R,C).  NaN where nothing is to be found."""
    w = np.asarray(weight, np.float64)
    steps = range(len(thresholds))
    parts = np.stack([
        np.stack([average_precision(m.score, m.image, m.right[t], m.wrong[t], m.objects, w) for t in steps])
        for m in each
    ])  # fmt: skip
    half, high = (int(np.argmin(np.abs(thresholds - t))) for t in (0.5, 0.75))
    objects = w @ np.sum([m.objects for m in each], 0)
    hits = w @ np.sum([np.bincount(m.image[m.right[half]], minlength=w.shape[1]) for m in each], 0)
    shown = np.stack([w @ (m.objects > 0) for m in each])
    placed = np.stack([w @ (np.nan_to_num(m.best) >= thresholds[half]) for m in each])
    return {
        "ap50": _mean(parts[:, half]), "ap": _mean(parts.mean(1)), "ap75": _mean(parts[:, high]),
        "recall": _ratio(hits, objects), "corloc": _mean(_ratio(placed, shown)),
    }, parts[:, half].T  # fmt: skip


def _ratio(a: np.ndarray, b: np.ndarray, nothing: float = np.nan) -> np.ndarray:
    out = np.full(np.broadcast_shapes(a.shape, b.shape), nothing, np.float64)
    return np.divide(a, b, out=out, where=b > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over classes (C,R) that are there."""
    there = np.isfinite(values)
    return _ratio(np.where(there, values, 0).sum(0), there.sum(0))


def evaluate_boxes(
    found: Found, truth: Truth, names: Sequence[str], *, main: str = "main", labels_from: str = "",
    resamples: int = 1000, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Measure one network's boxes as evaluation.json holds it (evaluate.py), `lead` being AP at 0.5.

    names: of the C classes.  Images in which no class is complete are not measured.  Of each image and class the 100
    best boxes count.  Intervals are about all images of this kind, from resampled ones (`tossed`); there is none of one
    image, and where all resamples say 0, or all 1, it is Wilson's of as many images as show an object (of the class).
    Baseline: in each image a box of each class in the middle, of the one share of the sides that does best on these
    images.  `per_class` counts objects as support.  Where there is no object nothing can be said.
    """
    found, truth = checked(found, truth, len(names))
    some = np.asarray(truth.looked.any(1))
    each = [matched(found, truth, c) for c in range(len(names))]
    counts, n = [int(m.objects.sum()) for m in each], int(some.sum())
    out = sheet(
        main, names, "ap50", METRICS, counts, images=n, unlabelled=int((~some).sum()), labels_from=labels_from,
        resamples=resamples, seed=seed,
    )  # fmt: skip
    if not any(counts):
        return out
    rows = np.flatnonzero(some)
    point, own = measures(each, some[None])
    draws, drawn = resampled(each, rows, len(some), resamples if n > 1 else 0, seed)
    shown = np.stack([m.objects > 0 for m in each])
    of = {k: interval(float(v[0]), draws[k], shown, sum(counts), k == "recall").json() for k, v in point.items()}
    middle = max(
        (measures([_middle(truth, c, share) for c in range(len(names))], some[None])[0] for share in SHARES),
        key=lambda metrics: (float(metrics["ap50"][0]), float(metrics["ap"][0])),
    )
    plain = {k: Interval(float(v[0]), np.nan, np.nan).json() for k, v in middle.items()}
    out["arms"] = {main: {"role": "main", **of}, BASELINE: {"role": "baseline", **plain}}
    out["per_class"] = [
        {"class": name, "support": count, "ap50": interval(float(value), part, there[None], count).json()}
        for name, count, value, part, there in zip(names, counts, own[0], drawn.T, shown, strict=True)
    ]
    sentence = f"{main} was not compared: boxes have no twin trained otherwise."
    return {**out, "verdict": {"word": "not compared", "sentence": sentence}}


def interval(value: float, draws: np.ndarray, shown: np.ndarray, objects: int, pooled: bool = False) -> Interval:
    """From draws (R,), or Wilson's of images where all are 0, or all 1: resampling is blind there.

    shown: bool (K,N), images with an object of each of K classes.  pooled: objects of all classes are counted together;
    else it is a mean over classes, each of the images that show it.
    """
    images = float(shown.any(0).sum())
    if len(draws) and value in (0, 1) and (draws[~np.isnan(draws)] == value).all():
        return wilson(value * images, images)
    return tossed(value, draws, objects, images if pooled else shown.sum() / max(int(shown.any(1).sum()), 1))


def resampled(
    each: Sequence[Matches], rows: np.ndarray, images: int, resamples: int, seed: int,
    thresholds: np.ndarray = THRESHOLDS,
) -> tuple[dict[str, np.ndarray], np.ndarray]:  # fmt: skip
    """`measures` of `rows` of images drawn again, (R,) and (R,C); of none where resamples is 0."""
    parts: list[dict[str, np.ndarray]] = []
    classes = [np.empty((0, len(each)))]
    for often in weights(np.zeros(len(rows)), resamples, seed):
        for start in range(0, len(often), 100):  # a hundred at a time: curves are long
            weight = np.zeros((len(often[start : start + 100]), images))
            weight[:, rows] = often[start : start + 100]
            metrics, own = measures(each, weight, thresholds)
            parts.append(metrics)
            classes.append(own)
    return {k: np.concatenate([np.empty(0), *(p[k] for p in parts)]) for k in METRICS}, np.concatenate(classes)


def checked(found: Found, truth: Truth, classes: int) -> tuple[Found, Truth]:
    """The same as plain arrays.  DataError for lengths that do not go together, numbers that are not finite, boxes
    turned inside out, and classes or images that there are not."""
    found, truth = Found(*map(np.asarray, found)), Truth(*map(np.asarray, truth))
    n = len(truth.looked)
    if truth.looked.shape != (n, classes) or truth.size.shape != (n, 2):
        said = f"`looked` of shape {truth.looked.shape} and `size` of {truth.size.shape}, for {classes} classes"
        raise DataError(said, where="boxes", fix="Give a row an image; a column a class, and height and width.")
    _sound("found", found, found.score, (0, classes), n)
    _sound("true", truth, truth.state, (-1, classes), n)
    return found, truth


def _sound(name: str, rows: Found | Truth, number: np.ndarray, classes: tuple[int, int], n: int) -> None:
    """DataError for the first thing that is wrong with boxes."""
    m, (low, high) = len(rows.xyxy), classes
    xyxy, cls, image = rows.xyxy, rows.cls, rows.image
    if xyxy.shape != (m, 4) or not len(cls) == len(number) == len(image) == m:
        said, fix = f"{xyxy.shape}, {len(cls)}, {len(number)} and {len(image)} values", "Give as many of each."
    elif not (np.isfinite(xyxy).all() and np.isfinite(number).all()):
        said, fix = "numbers that are not finite", "See why the network's numbers overflow, or leave the boxes out."
    elif (xyxy[:, 2:] < xyxy[:, :2]).any():
        said, fix = "boxes turned inside out", "Give x0, y0, x1, y1, with x0 <= x1 and y0 <= y1."
    elif m and (cls.min() < low or cls.max() >= high):
        said, fix = f"classes {cls.min()} to {cls.max()} of {high}", "Number them from 0."
    elif m and (image.min() < 0 or image.max() >= n):
        said, fix = f"images {image.min()} to {image.max()} of {n}", "Number them from 0."
    else:
        return
    raise DataError(f"{name} boxes: {said}", where="boxes", fix=fix)


# -- proposals ---------------------------------------------------------------------------------------------------------


class Reach(NamedTuple):
    """Recall of an image's first boxes.  counts: how many, int (K,).  half, high: share of objects that one of them
    overlaps by 0.5 and by 0.7, an interval each.  average: the area under recall over IoU 0.5 to 1, doubled (Hosang et
    al., 2016).  mean: boxes an image, float (K,)."""

    counts: tuple[int, ...]
    half: tuple[Interval, ...]
    high: tuple[Interval, ...]
    average: tuple[Interval, ...]
    mean: tuple[float, ...]


def reach(
    column: np.ndarray, truth: Truth, counts: Sequence[int] = (10, 100, 1000), resamples: int = 1000, seed: int = 0
) -> Reach:
    """How many objects proposals reach, whatever their class.

    column: float (N,R,4), padded with NaN, the better boxes first.  Objects of all images count, looked through or not:
    a proposal is never wrong.  Intervals are over resampled images, or Wilson's where all objects are reached, or none.
    DataError where there is no object.
    """
    real = truth.state == 1
    if not real.any():
        raise DataError("no object to be found", where="proposals", fix="Give images with boxes.")
    boxes, image = truth.xyxy[real], truth.image[real]
    best = np.zeros((len(counts), len(boxes)))
    for i in np.unique(image):
        mine = image == i
        given = column[i][~np.isnan(column[i]).any(1)]
        overlap = np.maximum.accumulate(np.c_[np.zeros(mine.sum()), iou(boxes[mine], given)], 1)
        best[:, mine] = overlap[:, np.minimum(counts, len(given))].T
    many = (~np.isnan(column).any(2)).sum(1)
    half, high, average = (
        tuple(averaged(v, image if np.ptp(v) else None, resamples=resamples, seed=seed) for v in values)
        for values in ((best >= 0.5) * 1.0, (best >= 0.7) * 1.0, 2 * np.maximum(best - 0.5, 0))
    )
    return Reach(tuple(counts), half, high, average, tuple(float(np.minimum(many, k).mean()) for k in counts))
