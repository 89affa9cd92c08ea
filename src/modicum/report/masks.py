"""The section that shows predicted masks beside what people drew."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from modicum.core.kinds import UNKNOWN
from modicum.report import pictures
from modicum.report.looks import Pixels, fetch
from modicum.report.read import Run
from modicum.report.sections import missing
from modicum.report.text import plain

SHOWN, LEGEND = 12, 12
PALETTE = np.array(
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167]],
    np.uint8,
)
"""Seven colours that people with any common colour blindness tell apart (Okabe and Ito, 2008); an eighth class begins
again, darker.  Names stand beside each picture, so nothing rests on colour alone."""


def colour(cls: int) -> np.ndarray:
    """The colour of a class, uint8 (3,)."""
    again, place = divmod(cls, len(PALETTE))
    return np.asarray(PALETTE[place] * 0.75 ** min(again, 4)).astype(np.uint8)


def painted(pixels: np.ndarray, labels: np.ndarray, side: int = pictures.SIDE) -> np.ndarray:
    """The picture in grey under a class map, uint8 (H,W,3): classes in their colours with a dark rim, what is unknown
    in white.  labels: uint8 (h,w) over the whole picture, 0 background, c+1 class c, 255 unknown."""
    small = pictures.shrink(pictures.rgb(pixels), side)
    small = pictures.enlarged(small, -(-96 // max(small.shape[:2]))) if max(small.shape[:2]) < 96 else small
    size = (small.shape[1], small.shape[0])
    wide = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
    grey = small.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    out = np.repeat(grey[..., None], 3, 2)
    for value in np.unique(wide[wide > 0]):
        own = np.full(3, 255) if value == UNKNOWN else colour(int(value) - 1)
        out[wide == value] = 0.4 * out[wide == value] + 0.6 * own
    rim = np.zeros(wide.shape, bool)
    rim[:-1] |= wide[:-1] != wide[1:]
    rim[:, :-1] |= wide[:, :-1] != wide[:, 1:]
    out[rim] = 20
    return np.round(out).astype(np.uint8)


def masks(run: Run, pixels: Pixels | None, side: int) -> dict[str, Any]:
    """Pictures, what the model says of their pixels, and what people drew where that is known."""
    if not run.masks:
        return missing(run, "No predicted mask is in this run (masks.npz is not there).", "fit")
    shown: list[dict[str, str]] = []
    there: set[int] = set()
    for row, said, true in zip(*(run.masks[k] for k in ("rows", "said", "true")), strict=True):
        picture = fetch(pixels, int(row)) if len(shown) < SHOWN else None
        if picture is None:
            continue
        drawn = bool((true != UNKNOWN).any())
        there |= {*np.unique(said).tolist(), *np.unique(true).tolist()}
        shown.append(
            {
                "id": str(run.data.ids[row]) if run.data is not None else "",
                "src": pictures.thumbnail(picture, side), "px": "px" if max(picture.shape[:2]) < 56 else "",
                "said": pictures.uri(painted(picture, said, side)), "names": _names(run, said),
                "true": pictures.uri(painted(picture, true, side)) if drawn else "",
                "drawn": _names(run, true) if drawn else "",
            }
        )  # fmt: skip
    classes = sorted(c - 1 for c in there if 0 < c < UNKNOWN)
    legend = [(run.classes[c], "#" + bytes(colour(c).tolist()).hex()) for c in classes[:LEGEND] if c < len(run.classes)]
    return {"shown": shown, "count": plain(len(run.masks["rows"])), "legend": legend}


def _names(run: Run, labels: np.ndarray) -> str:
    """The classes of a class map with their share of it, the largest first."""
    counts = np.bincount(labels[(labels > 0) & (labels < UNKNOWN)].ravel(), minlength=1)
    order = [int(v) for v in np.argsort(-counts, kind="stable") if counts[v]][:3]
    said = (f"{run.classes[v - 1]} {100 * counts[v] / labels.size:.0f} %" for v in order if v <= len(run.classes))
    return ", ".join(said) or "background alone"
