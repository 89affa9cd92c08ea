"""Where a network that finds boxes goes wrong: curves, kinds of mistakes, the objects it misses, what proposals allow.

Kinds are told for as many of the surest boxes of a class as there are objects of it, all images together, so no score
need be chosen (Hoiem, Chodpathumwan and Dai, 2012).  A box is, by the first of these that holds:

- found: it takes an object of its class, IoU 0.5 or more;
- passed over, and not counted: by half it lies in a box that is ignored;
- doubled: it overlaps an object of its class by 0.5, which a surer box has taken;
- another class: it overlaps an object of another class by 0.5;
- misplaced: it overlaps an object of its class by 0.1;
- another class: it overlaps an object of another class by 0.1;
- ground: none of these.

An object that no box takes is missed, so found and missed are all objects.  Letters as in boxes.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from modicum.evaluate import boxes as ev
from modicum.evaluate.boxes import THRESHOLDS, Found, Matches, Truth
from modicum.evaluate.localise import iou

KINDS = ("found", "doubled", "another class", "misplaced", "ground")
LEVELS = 101  # recalls of a curve
WORST = 12  # images
HALF, TENTH = 0.5, 0.1


def faults(
    found: Found, truth: Truth, names: Sequence[str], rows: np.ndarray, proposals: np.ndarray | None = None
) -> dict[str, Any]:
    """What evaluation.json holds under `boxes`; {} where there is no object.

    rows: int (N,), of the images in the set.  proposals: float (n,R,4) padded with NaN, of the first n images, for a
    network that only answers about proposals.
    {
      "precision": [[precision at recall 0, 0.01, ..., 1 and IoU 0.5] or null where the class has no object] by class,
      "recall": [share of all objects found, whatever the score, at IoU 0.5, 0.55, ..., 0.95],
      "kinds": [{"class", "boxes": [count of each of KINDS], "missed", "objects"}],
      "worst": [{"row", "true": [[x0, y0, x1, y1, class, 1 if it is found]], "said": [as `true`]}], at most 12 images,
          those with most missed objects first,
      "surest": [{"row", "box": [x0, y0, x1, y1, class], "score", "kind": number of KINDS, "true": [[x0, y0, x1, y1,
          class]]}], the surest wrong box of an image, at most 12, by falling score; true: the objects there,
      "ceiling": null or {"images", "boxes" (an image), "half", "high": [v, low, high] of objects that a proposal
          overlaps by 0.5 and 0.7}
    }
    """
    found, truth = ev.checked(found, truth, len(names))
    each = [ev.matched(found, truth, c) for c in range(len(names))]
    objects = sum(int(m.objects.sum()) for m in each)
    if not objects:
        return {}
    told = [_told(found, truth, c) for c in range(len(names))]
    recall = np.sum([m.right.sum(1) for m in each], 0) / objects
    return {
        "precision": [staircase(m).tolist() if m.objects.any() else None for m in each],
        "recall": recall.tolist(),
        "kinds": [
            {"class": name, "boxes": np.bincount(t.kind, minlength=len(KINDS)).tolist(),
             "missed": len(t.missed), "objects": int(m.objects.sum())}
            for name, t, m in zip(names, told, each, strict=True)
        ],
        "worst": _worst(found, truth, told, np.asarray(rows)),
        "surest": _surest(found, truth, told, np.asarray(rows)),
        "ceiling": None if proposals is None else _ceiling(proposals, truth),
    }  # fmt: skip


def staircase(m: Matches) -> np.ndarray:
    """The best precision at a recall or any larger one, (LEVELS,) for recalls 0 to 1; its mean is AP at 0.5."""
    half = int(np.argmin(np.abs(THRESHOLDS - HALF)))
    last = np.flatnonzero(np.diff(m.score, append=-np.inf) != 0)  # equal scores, one step
    right, wrong = (np.cumsum(x[half])[last] for x in (m.right, m.wrong))
    some = right > 0
    right, wrong = right[some], wrong[some]
    highest = np.maximum.accumulate((right / (right + wrong))[::-1])[::-1]
    at = np.searchsorted(right / max(m.objects.sum(), 1), np.linspace(0, 1, LEVELS) - 1e-9)
    return np.append(highest, 0.0)[at]


class _Told(NamedTuple):
    """Of one class.  rows: int (K,) into the found boxes, the surest, by image.  kind: int (K,) into KINDS.  found,
    missed: int, into the true boxes."""

    rows: np.ndarray
    kind: np.ndarray
    found: np.ndarray
    missed: np.ndarray


def _told(found: Found, truth: Truth, cls: int) -> _Told:
    """What each of the surest boxes of a class is, and which objects they miss."""
    graded, real, hidden = ev.parts(truth, cls)
    mine = np.flatnonzero((found.cls == cls) & graded[found.image])
    mine = mine[np.lexsort((-found.score[mine], found.image[mine]))]  # by image, then by falling score
    others = np.flatnonzero((truth.state == 1) & (truth.cls >= 0) & (truth.cls != cls))
    others = others[np.argsort(truth.image[others], kind="stable")]
    kind, took = np.empty(len(mine), np.int64), np.full(len(mine), -1)
    columns = found.image[mine], truth.image[real], truth.image[others], truth.image[hidden]
    for here, own, other, spare in zip(*(ev.ends_of(image, len(graded)) for image in columns), strict=True):
        boxes = found.xyxy[mine[here]]
        overlap = iou(boxes, truth.xyxy[real[own]])
        chosen = ev.taken(overlap, np.array([HALF]))[0]
        near, far = overlap.max(1, initial=0), iou(boxes, truth.xyxy[others[other]]).max(1, initial=0)
        rules = [chosen >= 0, ev.inside(boxes, truth.xyxy[hidden[spare]]) >= HALF, near >= HALF, far >= HALF]
        kind[here] = np.select([*rules, near >= TENTH, far >= TENTH], [0, -1, 1, 2, 3, 2], 4)
        took[here] = np.where(chosen < 0, -1, chosen + own.start)
    some = np.flatnonzero(kind >= 0)
    some = np.sort(some[np.argsort(-found.score[mine[some]], kind="stable")][: len(real)])
    hit = np.isin(np.arange(len(real)), took[some])
    return _Told(mine[some], kind[some], real[hit], real[~hit])


def _worst(found: Found, truth: Truth, told: Sequence[_Told], rows: np.ndarray) -> list[dict[str, Any]]:
    """The images with most missed objects."""
    count = np.bincount(np.concatenate([truth.image[t.missed] for t in told]), minlength=len(rows))
    order = np.argsort(-count, kind="stable")[:WORST]
    true = [(truth.xyxy[k], truth.cls[k], ok, truth.image[k])
            for t in told for some, ok in ((t.found, 1), (t.missed, 0)) for k in some]  # fmt: skip
    said = [(found.xyxy[k], found.cls[k], int(kind == 0), found.image[k])
            for t in told for k, kind in zip(t.rows, t.kind, strict=True)]  # fmt: skip

    def of(boxes: list[Any], i: int) -> list[list[float]]:
        return [[*np.round(xyxy, 1).tolist(), int(c), ok] for xyxy, c, ok, image in boxes if image == i]

    return [{"row": int(rows[i]), "true": of(true, i), "said": of(said, i)} for i in order.tolist() if count[i]]


def _surest(found: Found, truth: Truth, told: Sequence[_Told], rows: np.ndarray) -> list[dict[str, Any]]:
    """The wrong boxes of the highest scores, one an image: also where an object may lie that nobody drew."""
    which, kind = (np.concatenate([getattr(t, name) for t in told]) for name in ("rows", "kind"))
    order = np.flatnonzero(kind > 0)
    order = order[np.argsort(-found.score[which[order]], kind="stable")]
    order = order[np.sort(np.unique(found.image[which[order]], return_index=True)[1])][:WORST]
    out, there = [], (truth.state == 1) & (truth.cls >= 0)
    for k, said in zip(which[order], kind[order].tolist(), strict=True):
        i = found.image[k]
        box, *true = (
            [*np.round(xyxy, 1).tolist(), int(cls)]
            for xyxy, cls in [(found.xyxy[k], found.cls[k])]
            + [(truth.xyxy[t], truth.cls[t]) for t in np.flatnonzero(there & (truth.image == i))]
        )
        score = round(float(found.score[k]), 4)
        out.append({"row": int(rows[i]), "box": box, "score": score, "kind": said, "true": true})
    return out


def _ceiling(proposals: np.ndarray, truth: Truth) -> dict[str, Any] | None:
    """How many objects proposals reach in the images that have them."""
    mine = (truth.image < len(proposals)) & (truth.state == 1) & (truth.cls >= 0)
    if not mine.any():
        return None
    columns = {name: getattr(truth, name)[mine] for name in ("xyxy", "cls", "state", "image")}
    some = truth._replace(**columns)
    found = ev.reach(proposals, some, (max(proposals.shape[1], 1),))
    half, high = found.half[0].json(), found.high[0].json()
    return {"images": len(proposals), "boxes": found.mean[0], "half": half, "high": high}
