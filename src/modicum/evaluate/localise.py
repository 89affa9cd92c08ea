"""How well maps show where things are, against boxes and masks that people drew.

Letters: N images, M boxes, C classes, T thresholds, H W pixels.  A map is float (H,W), finite, at the size of its boxes
or mask; images may differ in size.  Boxes are float xyxy, pixel edges, half open.  A map is scaled to [0, 1] by its own
least and largest value; a constant map becomes 0 and shows nothing.  Scores are shares, 0 to 1, higher is better.

A threshold tuned on the images it is measured on flatters.  So each sweep gives two numbers: `best` is that of the
published protocols, tuned on the measured images; `chosen` is measured on the same images with the threshold that was
best on other, held-out ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modicum.core.errors import DataError
from modicum.core.kinds import UNKNOWN

TAUS = np.arange(0, 1, 0.01)
PX_BINS = 1000


class Sweep(NamedTuple):
    """taus: (T,).  curve: (T,), on the measured images.  best, tau_best: its peak.  chosen, tau_chosen: the value
    where the held-out images peak; NaN where none was held out.  Among equals the least tau counts."""

    taus: np.ndarray
    curve: np.ndarray
    best: float
    tau_best: float
    chosen: float
    tau_chosen: float


def sweep(taus: np.ndarray, curve: np.ndarray, held: np.ndarray | None = None) -> Sweep:
    """A curve (T,) of the measured images, with a threshold from the curve (T,) of held-out ones."""
    at = int(np.argmax(curve))
    if held is None:
        return Sweep(taus, curve, float(curve[at]), float(taus[at]), np.nan, np.nan)
    other = int(np.argmax(held))
    return Sweep(taus, curve, float(curve[at]), float(taus[at]), float(curve[other]), float(taus[other]))


def scaled(heat: np.ndarray) -> np.ndarray:
    """(m - min) / (max - min) of each map (..., H, W), float64; 0 where a map is constant.

    Constant: what differs lies within the rounding of the numbers, 8 units in the last place of the largest.
    """
    heat = np.asarray(heat)
    unit = np.finfo(heat.dtype if heat.dtype.kind == "f" else np.float64).eps
    heat = heat.astype(np.float64)
    low, high = heat.min((-2, -1), keepdims=True), heat.max((-2, -1), keepdims=True)
    height = high - low
    says = height > 8 * unit * np.maximum(np.abs(low), np.abs(high))
    return np.divide(heat - low, height, out=np.zeros_like(heat), where=says)


def _check(maps: Sequence[np.ndarray], others: int, what: str) -> None:
    if not len(maps) or len(maps) != others:
        raise DataError(f"{len(maps)} maps, {others} {what}", where="localise", fix="Give as many, at least one.")
    for i, heat in enumerate(maps):
        if not np.isfinite(heat).all():
            fix = "Leave the map out, or see why the network's numbers overflow."
            raise DataError("a map with values that are not finite", where=f"localise, image {i}", fix=fix)


# -- boxes -----------------------------------------------------------------------------------------------------------


def iou(a: np.ndarray, b: np.ndarray, extra: float = 0.0) -> np.ndarray:
    """Intersection over union of boxes (P,4) and (Q,4), float64 (P,Q); 0 where both are empty.

    extra: added to every width and height, 1 for the convention in which a corner names the last pixel inside.
    """
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + extra
    both = np.maximum(sides, 0).prod(-1)
    union = (a[..., 2:] - a[..., :2] + extra).prod(-1) + (b[..., 2:] - b[..., :2] + extra).prod(-1) - both
    return np.divide(both, union, out=np.zeros(both.shape), where=union > 0)


def box_overlaps(
    maps: Sequence[np.ndarray], boxes: np.ndarray, image: np.ndarray, taus: np.ndarray = TAUS, *, every: bool = True,
    extra: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """The best IoU of a box cut from each map with a box that a person drew, float64 (N,T); 0 where nothing is cut.

    maps: N of (H,W), each of its image's class.  boxes: (M,4); image: (M,), whose.  taus: shares of the map's height,
    ascending.  every: boxes of all regions (MaxBoxAccV2); else of the one of most pixels (MaxBoxAcc, GT-known Loc).
    As in the published protocol the scaled map becomes 0 to 255 and a pixel counts if it is above floor(255 tau).
    Unlike it, regions are 8-connected sets of pixels measured in pixels: an outline's holes make no box of their own.
    extra: see `iou`; the published code adds 1, which lets small boxes overlap more.
    """
    _check(maps, len(maps), "images")
    image = np.asarray(image, np.int64)
    without = np.setdiff1d(np.arange(len(maps)), image)
    if len(without):
        raise DataError("no box to compare with", where=f"localise, image {without[0]}", fix="Leave the image out.")
    levels, back = np.unique(np.floor(np.asarray(taus) * 255 + 1e-9).astype(np.int64), return_inverse=True)
    out = np.zeros((len(maps), len(levels)))
    for i, heat in enumerate(maps):
        cut, level = _cuts((scaled(heat) * 255 + 1e-9).astype(np.uint8), levels, every)
        if len(cut):
            np.maximum.at(out[i], level, iou(cut, boxes[image == i], extra).max(1))
    return out[:, back]


def _cuts(grey: np.ndarray, levels: np.ndarray, every: bool) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of the regions above each level, (K,4), and the place of the level, (K,).

    Levels ascend, so each cut lies inside the last: only its frame is looked at again, and only if a pixel went.
    """
    from scipy.ndimage import find_objects, label  # type: ignore[import-untyped]

    left = np.bincount(grey.ravel(), minlength=256)[::-1].cumsum()[::-1]
    left = np.append(left, 0)[levels + 1]  # pixels above each level
    found: list[np.ndarray] = []
    frame, last = np.array([0, 0, grey.shape[1], grey.shape[0]]), np.empty((0, 4))
    for n, level in enumerate(levels[: np.count_nonzero(left)]):
        if not n or left[n] < left[n - 1]:
            x0, y0, x1, y1 = frame
            numbers, _ = label(grey[y0:y1, x0:x1] > level, np.ones((3, 3), bool))
            last = np.array([(x.start, y.start, x.stop, y.stop) for y, x in find_objects(numbers)])
            last += np.array([x0, y0, x0, y0])
            frame = np.r_[last[:, :2].min(0), last[:, 2:].max(0)]
            last = last if every else last[[np.bincount(numbers.ravel())[1:].argmax()]]
        found.append(last)
    return np.concatenate([np.empty((0, 4)), *found]), np.repeat(np.arange(len(found)), [len(f) for f in found])


class BoxScore(NamedTuple):
    """best, chosen: means over deltas.  sweeps: one for each delta."""

    best: float
    chosen: float
    sweeps: tuple[Sweep, ...]


def max_box_acc(
    overlaps: np.ndarray, taus: np.ndarray = TAUS, deltas: Sequence[float] = (0.3, 0.5, 0.7),
    held: np.ndarray | None = None,
) -> BoxScore:  # fmt: skip
    """MaxBoxAccV2 (Choe et al., 2020): for each delta the share of images whose overlap reaches it, at the best tau;
    the mean over deltas.  MaxBoxAcc is deltas=(0.5,) on overlaps of the largest region.

    overlaps: (N,T), of `box_overlaps`.  held: bool (N,), images that only choose tau and are not measured.
    """
    rest = np.ones(len(overlaps), bool) if held is None else ~np.asarray(held, bool)
    if not rest.any() or (held is not None and rest.all()):
        fix = "Hold out some images, not all."
        raise DataError(f"{int(rest.sum())} of {len(rest)} images are measured", where="localise", fix=fix)
    sweeps = tuple(
        sweep(taus, (overlaps[rest] >= d).mean(0), None if held is None else (overlaps[~rest] >= d).mean(0))
        for d in deltas
    )
    return BoxScore(float(np.mean([s.best for s in sweeps])), float(np.mean([s.chosen for s in sweeps])), sweeps)


def localised(overlaps: np.ndarray, right: np.ndarray | None = None, delta: float = 0.5) -> float:
    """GT-known Loc: share of overlaps (N,) at one tau that reach delta, maps being those of the true class.

    With right (N,), whether the network names the image rightly, it is Top-1 Loc.
    """
    hit = np.asarray(overlaps) >= delta
    return float(np.mean(hit if right is None else hit & np.asarray(right, bool)))


# -- pixels ----------------------------------------------------------------------------------------------------------


def pxap(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], bins: int = PX_BINS) -> float:
    """Pixel average precision, sum_l P_l (R_l - R_(l-1)), over all pixels of all images (Choe et al., 2020).

    masks: N of (H,W): 1 object, 0 background, 255 left out.  bins: equal steps of the scaled map, from the top down.
    NaN where no pixel is an object.
    """
    _check(maps, len(masks), "masks")
    counts = [pixel_counts(heat, mask, bins) for heat, mask in zip(maps, masks, strict=True)]
    return float(average_precision(np.sum(counts, 0)))


def pixel_counts(heat: np.ndarray, mask: np.ndarray, bins: int = PX_BINS) -> np.ndarray:
    """Pixels of the background and of the object at each step of a scaled map, from the top down, int64 (2,bins)."""
    step = np.minimum((scaled(heat) * bins).astype(np.int64), bins - 1)
    return np.stack([np.bincount(step[np.asarray(mask) == v], minlength=bins)[::-1] for v in (0, 1)])


def average_precision(counts: np.ndarray) -> np.ndarray:
    """Of summed, or averaged, `pixel_counts` (...,2,bins): float64 (...); NaN where no pixel is an object."""
    background, objects = np.moveaxis(np.cumsum(counts, -1, dtype=np.float64), -2, 0)
    total = objects[..., -1]
    precision = np.divide(objects, objects + background, out=np.zeros(objects.shape), where=objects + background > 0)
    area = (precision * np.diff(objects, prepend=0)).sum(-1)
    return np.divide(area, total, out=np.full(total.shape, np.nan), where=total > 0)


class Seeds(NamedTuple):
    """miou: a Sweep.  iou: (C+1,) at tau_chosen (tau_best where none was held out), background first, NaN where the
    class is not there.  precision, recall: at the same tau, of pixels that are given a class."""

    miou: Sweep
    iou: np.ndarray
    precision: float
    recall: float


def seeds(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray], present: np.ndarray, taus: np.ndarray = TAUS,
    held: np.ndarray | None = None,
) -> Seeds:  # fmt: skip
    """Seed mIoU: each pixel gets the present class of the highest scaled map if that is above tau, else background.

    maps: N of (C,H,W).  masks: N of (H,W): 0 background, c + 1 a class, 255 left out.  present: bool (N,C), the image's
    tags.  held: bool (N,), images that only choose tau.  The mean is over background and the classes in the measured
    masks, sums pooled over images.
    """
    _check(maps, len(masks), "masks")
    other = np.zeros(len(maps), bool) if held is None else np.asarray(held, bool)
    if other.all() or (held is not None and not other.any()):
        fix = "Hold out some images, not all."
        raise DataError(f"{int((~other).sum())} of {len(maps)} images are measured", where="localise", fix=fix)
    c = len(maps[0])
    sums = np.zeros((2, len(taus), c + 1, c + 1), np.int64)
    for i, (heat, mask) in enumerate(zip(maps, masks, strict=True)):
        sums[int(other[i])] += confusions(heat, mask, np.asarray(present)[i], taus)
    curves = [_miou(s) for s in sums]
    found = sweep(taus, curves[0], curves[1] if held is not None else None)
    at = int(np.argmax(curves[0] if held is None else curves[1]))
    named = sums[0, at]
    right = int(np.diag(named)[1:].sum())
    said, there = int(named[:, 1:].sum()), int(named[1:].sum())
    return Seeds(found, _iou(named), right / said if said else np.nan, right / there if there else np.nan)


def confusions(heat: np.ndarray, mask: np.ndarray, present: np.ndarray, taus: np.ndarray = TAUS) -> np.ndarray:
    """Pixels of true class (row) that were named so (column) at each tau, int64 (T,C+1,C+1), background first.

    heat: (C,H,W).  mask: (H,W).  present: bool (C,).  taus ascend.  One pass: a pixel is named from the first tau up to
    the last below its height.
    """
    c, t, mask = len(heat), len(taus), np.asarray(mask)
    shown = np.where(np.asarray(present, bool)[:, None, None], scaled(heat), -1)
    known = mask != UNKNOWN
    best, true = shown.argmax(0)[known], mask[known].astype(np.int64)
    if true.size and int(true.max()) > c:
        raise DataError(f"a mask with class {true.max() - 1} of {c}", where="localise", fix="255 is what is left out.")
    below = np.searchsorted(taus, shown.max(0)[known], side="left")  # taus strictly below the pixel's height
    flat = np.bincount((true * c + best) * (t + 1) + below, minlength=(c + 1) * c * (t + 1))
    above = flat.reshape(c + 1, c, t + 1)[..., :0:-1].cumsum(2)[..., ::-1]  # (true, named, tau): height above tau
    ground = np.bincount(true, minlength=c + 1)[:, None, None] - above.sum(1, keepdims=True)
    return np.concatenate([ground, above], 1).transpose(2, 0, 1)


def _iou(sums: np.ndarray) -> np.ndarray:
    """(..., C+1); NaN where the class is in no mask."""
    right, true, named = np.diagonal(sums, axis1=-2, axis2=-1), sums.sum(-1), sums.sum(-2)
    return np.divide(right, true + named - right, out=np.full(right.shape, np.nan), where=true > 0)


def _miou(sums: np.ndarray) -> np.ndarray:
    each = _iou(sums)
    there = ~np.isnan(each)
    return np.where(there, each, 0).sum(-1) / np.maximum(there.sum(-1), 1)


# -- points ----------------------------------------------------------------------------------------------------------


def pointing(maps: Sequence[np.ndarray], boxes: np.ndarray, image: np.ndarray, near: float = 15) -> np.ndarray:
    """The pointing game (Zhang et al., 2016): whether a map's highest pixel lies in a box, or at most `near` pixels
    from one, float64 (N,).

    boxes: (M,4) of the map's class; image: (M,).  Where several pixels are highest, the share of them that hit: a
    constant map scores what chance does.
    """
    _check(maps, len(maps), "images")
    out = np.zeros(len(maps))
    for i, heat in enumerate(maps):
        y, x = (a[:, None] + 0.5 for a in np.nonzero(heat == np.max(heat)))
        x0, y0, x1, y1 = np.asarray(boxes, np.float64)[np.asarray(image) == i].T
        away = np.hypot(np.maximum(0, np.maximum(x0 - x, x - x1)), np.maximum(0, np.maximum(y0 - y, y - y1)))
        out[i] = (away <= near).any(1).mean()
    return out


def energy(maps: Sequence[np.ndarray], boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The energy-based pointing game (Wang et al., 2020): the share of a map's positive part that lies in boxes,
    float64 (N,).

    A pixel lies in a box if its centre does.  A map without a positive value counts as evenly spread.
    """
    _check(maps, len(maps), "images")
    out = np.zeros(len(maps))
    for i, heat in enumerate(maps):
        y, x = np.arange(heat.shape[0])[:, None, None] + 0.5, np.arange(heat.shape[1])[None, :, None] + 0.5
        x0, y0, x1, y1 = np.asarray(boxes, np.float64)[np.asarray(image) == i].T
        inside = ((x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)).any(2)
        mass = np.maximum(heat, 0) if np.max(heat) > 0 else np.ones(heat.shape)
        out[i] = mass[inside].sum() / mass.sum()
    return out


def over_classes(values: np.ndarray, cls: np.ndarray) -> float:
    """Mean over classes of the mean over their images: rare classes count as common ones."""
    return float(np.mean([np.mean(np.asarray(values)[cls == c]) for c in np.unique(cls)]))
