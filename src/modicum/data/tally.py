"""How many objects are drawn in a set: of which classes, in which images, of what size, and which cannot be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modicum.core.dataset import Dataset
from modicum.core.tags import DRAWN

_SHOWN = 20


def tally(data: Dataset) -> dict[str, dict[str, Any]]:
    """kind -> what is drawn of it, for the kinds of which anything is drawn or looked for.

    objects, ignored: how many.  images: with one or more.  looked, part, empty: images that were looked through, only
    in part, and looked through without finding any.  classes: name -> objects.  sizes: width and height in pixels,
    least, median and largest ({} for points).  wrong: frames without area or beyond their image, if its size is known.
    """
    kinds = {k for t in (data.annotations, data.looked) for k in t["kind"].cast(pa.string()).unique().to_pylist()}
    return {kind: _of_kind(data, kind) for kind in DRAWN if kind in kinds}


def _of_kind(data: Dataset, kind: str) -> dict[str, Any]:
    said, seen = data.of_kind(kind), data.looked.filter(pc.equal(data.looked["kind"].cast(pa.string()), kind))
    row, cls = said["row"].to_numpy(), said["class"].fill_null(-1).to_numpy()
    ignored = said["value"].fill_null(1).to_numpy() <= 0.5
    every = seen["class"].fill_null(-1).to_numpy() < 0
    whole = every & (seen["complete"].fill_null(0).to_numpy() == 1)
    looked = np.unique(seen["row"].to_numpy()[whole])
    part = np.setdiff1d(seen["row"].to_numpy(), looked)
    counts = np.bincount(cls[(cls >= 0) & ~ignored], minlength=len(data.names))
    frames = np.stack([said[c].to_numpy().astype(np.float64) for c in ("x0", "y0", "x1", "y1")], 1)
    return {
        "objects": int((~ignored).sum()), "ignored": int(ignored.sum()), "images": len(np.unique(row)),
        "looked": len(looked), "part": len(part), "empty": len(np.setdiff1d(looked, row)),
        "classes": dict(zip(data.names, counts.tolist())), "sizes": {} if kind == "points" else _sizes(frames),
        "wrong": 0 if kind == "points" else _wrong(data, row, frames),
    }  # fmt: skip


def _sizes(frames: np.ndarray) -> dict[str, float]:
    """Least, median and largest width and height in pixels."""
    sides = {"width": frames[:, 2] - frames[:, 0], "height": frames[:, 3] - frames[:, 1]}
    words = {"min": 0.0, "median": 0.5, "max": 1.0}
    some = np.isfinite(frames).all(1)
    if not some.any():
        return {}
    return {f"{s}_{w}": round(float(np.quantile(v[some], q)), 1) for s, v in sides.items() for w, q in words.items()}


def _wrong(data: Dataset, row: np.ndarray, frames: np.ndarray) -> int:
    """Frames without area, or that leave their image by a pixel or more."""
    x0, y0, x1, y1 = frames.T
    height, width = (data.field(f).astype(np.float64)[row] for f in ("height", "width"))
    beyond = (x0 <= -1) | (y0 <= -1) | (x1 >= width + 1) | (y1 >= height + 1)
    return int(((x1 <= x0) | (y1 <= y0) | beyond).sum())


def lines_of(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A tally as sentences, two a kind at most."""
    out = []
    for kind, of in found.items():
        most = [f"{name} {n:,}" for name, n in of["classes"].items() if n]
        classes = ", ".join(most[:_SHOWN]) + (", ..." if len(most) > _SHOWN else "")
        size = of["sizes"]
        sized = (
            f"; {size['width_median']:g} x {size['height_median']:g} px, from {size['width_min']:g} x "
            f"{size['height_min']:g} to {size['width_max']:g} x {size['height_max']:g}" if size else ""
        )  # fmt: skip
        told = f": {classes}" if classes else ""
        out.append(f"{kind.capitalize()}: {of['objects']:,} in {of['images']:,} images{told}{sized}")
        more = {
            "looked": "images looked through", "empty": "of them without any", "part": "only in part",
            "ignored": "to be ignored", "wrong": "without area or beyond their image",
        }  # fmt: skip
        counted = [f"{of[key]:,} {words}" for key, words in more.items() if of[key]]
        if counted:
            out.append(f"  {', '.join(counted)}")
    return out
