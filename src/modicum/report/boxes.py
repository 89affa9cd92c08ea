"""The section that shows found boxes beside those that people drew."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from modicum.report import pictures
from modicum.report.looks import Pixels, fetch
from modicum.report.masks import LEGEND, SHOWN, colour
from modicum.report.read import Run
from modicum.report.sections import missing
from modicum.report.text import plain

SURE = 0.5  # score from which on a found box is drawn
DASH = 4  # pixels


def framed(
    pixels: np.ndarray, xyxy: np.ndarray, cls: np.ndarray, side: int = pictures.SIDE, dashed: np.ndarray | None = None
) -> np.ndarray:
    """The picture in grey with boxes in the colours of their classes, uint8 (H,W,3).

    xyxy: (M,4), in pixels of the picture as given.  dashed: bool (M,), boxes whose lines are broken; None: none.
    """
    small = pictures.shrink(pictures.rgb(pixels), side)
    small = pictures.enlarged(small, -(-96 // max(small.shape[:2]))) if max(small.shape[:2]) < 96 else small
    scale = np.array([small.shape[1] / pixels.shape[1], small.shape[0] / pixels.shape[0]] * 2)
    grey = (small.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
    out = Image.fromarray(np.repeat(grey[..., None], 3, 2))
    draw = ImageDraw.Draw(out)
    broken = np.zeros(len(cls), bool) if dashed is None else dashed
    limit = np.tile([small.shape[1], small.shape[0]], 2)
    ends = np.clip(xyxy * scale, 0, limit).round().astype(int).tolist()
    for box, c, dash in zip(ends, cls.tolist(), broken.tolist(), strict=True):
        corners = (box[0], box[1], max(box[0], box[2] - 1), max(box[1], box[3] - 1))
        for part in _dashes(*corners) if dash else [corners]:
            draw.rectangle(part, outline=tuple(colour(max(c, 0)).tolist()), width=2)
    return np.asarray(out)


def _dashes(x0: int, y0: int, x1: int, y1: int) -> list[tuple[int, int, int, int]]:
    """Dashes along the inside of a frame, as rectangles two pixels thick."""
    across = [(x, y, min(x + DASH - 1, x1), y + 1) for x in range(x0, x1, 2 * DASH) for y in (y0, max(y0, y1 - 1))]
    down = [(x, y, x + 1, min(y + DASH - 1, y1)) for y in range(y0, y1, 2 * DASH) for x in (x0, max(x0, x1 - 1))]
    return across + down


def boxes(run: Run, pixels: Pixels | None, side: int) -> dict[str, Any]:
    """Pictures, what the model finds in them, and what people drew where that is known."""
    if not run.drawn or not run.found or run.data is None:
        return missing(run, "No found box is in this run (boxes.parquet is not there).", "fit")
    shown: list[dict[str, str]] = []
    there: set[int] = set()
    corners = np.stack([run.found[c] for c in ("x0", "y0", "x1", "y1")], 1)
    height, width = (run.data.field(f).astype(float) for f in ("height", "width"))
    for place, row in enumerate(run.drawn["rows"].tolist()):
        picture = fetch(pixels, row) if len(shown) < SHOWN else None
        if picture is None:
            continue
        scale = np.array([picture.shape[1] / width[row], picture.shape[0] / height[row]] * 2)
        mine = (run.found["row"] == row) & (run.found["score"] >= SURE)
        true = (run.drawn["image"] == place) & (run.drawn["state"] > 0)
        there |= {*run.found["class"][mine].tolist(), *run.drawn["cls"][true].tolist()}
        said = framed(picture, corners[mine] * scale, run.found["class"][mine], side)
        drawn = framed(picture, run.drawn["xyxy"][true] * scale, run.drawn["cls"][true], side)
        shown.append(
            {
                "id": str(run.data.ids[row]), "src": pictures.thumbnail(picture, side),
                "px": "px" if max(picture.shape[:2]) < 56 else "", "said": pictures.uri(said),
                "names": named(run, run.found["class"][mine], run.found["score"][mine]),
                "true": pictures.uri(drawn) if true.any() else "", "drawn": named(run, run.drawn["cls"][true]),
            }
        )  # fmt: skip
    legend = [
        (run.classes[c], "#" + bytes(colour(c).tolist()).hex()) for c in sorted(there) if 0 <= c < len(run.classes)
    ]
    best = run.found["score"][np.isin(run.found["row"], run.drawn["rows"])].max(initial=0)
    faint = f"{best:.2f}" if best < SURE else ""
    return {"shown": shown, "count": plain(len(shown)), "legend": legend[:LEGEND], "sure": f"{SURE:g}", "faint": faint}


def named(run: Run, cls: np.ndarray, score: np.ndarray | None = None) -> str:
    """Classes of boxes, with their scores where there are any."""
    names = [run.classes[c] if 0 <= c < len(run.classes) else "unknown" for c in cls.tolist()[:6]]
    if score is not None:
        names = [f"{name} {s:.2f}" for name, s in zip(names, score.tolist())]
    return ", ".join(names) + (", ..." if len(cls) > 6 else "") or "nothing"
