"""Sections with pictures: examples, the surest mistakes, and where the model looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modicum.core.errors import ModicumError
from modicum.evaluate.marks import border_share, evidence, half_area
from modicum.report import pictures
from modicum.report.read import Run, part, surest
from modicum.report.sections import missing
from modicum.report.text import percent, plain

Pixels = Callable[[int], np.ndarray]
EXAMPLES, MISTAKES, MAPS = 20, 18, 8
COPIES, EACH = 8, 4  # groups of one picture, pictures of a group


def fetch(pixels: Pixels | None, row: int) -> np.ndarray | None:
    """Pixels of a row as (H,W,3) uint8, or None where they cannot be had."""
    if pixels is None:
        return None
    try:
        return pictures.rgb(pixels(int(row)))
    except (ModicumError, OSError, ValueError, IndexError, KeyError):
        return None


def _name(run: Run, cls: int) -> str:
    return run.classes[cls] if 0 <= cls < len(run.classes) else f"class {cls}"


def _picture(pixels: np.ndarray | None, side: int) -> dict[str, str]:
    """src, and px where the picture is so small that its pixels should stay sharp."""
    if pixels is None:
        return {"src": "", "px": ""}
    return {"src": pictures.thumbnail(pixels, side), "px": "px" if max(pixels.shape[:2]) < 56 else ""}


def examples(run: Run, pixels: Pixels | None, side: int) -> list[dict[str, str]]:
    """Labelled pictures, the first of each class in turn."""
    if run.data is None or pixels is None:
        return []
    rows = np.flatnonzero(run.data.cls >= 0)
    cls = run.data.cls[rows]
    turn = np.zeros(len(rows), np.int64)
    for c in np.unique(cls):
        turn[cls == c] = np.arange((cls == c).sum())
    chosen = rows[np.lexsort((cls, turn))][:EXAMPLES]
    shown = [(row, fetch(pixels, row)) for row in chosen[np.argsort(run.data.cls[chosen], kind="stable")]]
    return [
        {**_picture(p, side), "name": _name(run, int(run.data.cls[row])), "id": str(run.data.ids[row])}
        for row, p in shown
        if p is not None
    ]


def mistakes(run: Run, pixels: Pixels | None, side: int) -> dict[str, Any]:
    """Images that were named wrongly, the surest first."""
    found = surest(run)
    if found is None:
        return missing(run, "No image with a label was measured one by one, so no mistake is known.", "evaluate")
    ids = run.data.ids if run.data is not None else ()
    shown = [
        {
            **_picture(fetch(pixels, m["row"]), side),
            "id": str(ids[m["row"]]) if 0 <= m["row"] < len(ids) else "",
            "said": _name(run, m["said"]),
            "was": _name(run, m["true"]),
            "sure": percent(m["confidence"], 0),
        }
        for m in found["first"][:MISTAKES]
    ]
    named = {"wrong": plain(found["wrong"]), "asked": plain(found["asked"]), "of": found["of"], "sure": found["sure"]}
    return {**named, "shown": shown, "pictures": any(s["src"] for s in shown)}


def copies(run: Run, pixels: Pixels | None, side: int) -> dict[str, Any]:
    """Groups of one picture in several splits ("leaks") or with unlike classes ("doubts"), the first few of each.

    {"leaks", "doubts": [{"pictures": [{"src", "px", "id", "split", "name"}], "more"}], "drawn": sentences about the
    splits that were made here}.
    """
    kinds = {"leaks": part(run.scan, "crossing"), "doubts": part(run.scan, "contradicting")}
    asked = {i for kind in kinds.values() for ids in kind.get("first") or () for i in ids}
    place = {i: row for row, i in enumerate(run.data.ids) if i in asked} if run.data is not None else {}
    out: dict[str, Any] = {"drawn": [str(s) for s in run.scan.get("drawn") or ()]}
    for name, kind in kinds.items():
        out[name] = []
        for ids, splits in zip(kind.get("first") or (), kind.get("splits") or ()):
            known = [(place[i], i, s) for i, s in zip(ids, splits) if i in place][:EACH]
            if known and len(out[name]) < COPIES:
                shown = [_copy(run, pixels, side, *image) for image in known]
                out[name].append({"pictures": shown, "more": plain(len(ids) - EACH) if len(ids) > EACH else ""})
    return out


def _copy(run: Run, pixels: Pixels | None, side: int, row: int, name: str, split: str) -> dict[str, str]:
    cls = int(run.data.cls[row]) if run.data is not None else -1
    said = _name(run, cls) if cls >= 0 else ""
    return {**_picture(fetch(pixels, row), side), "id": name, "split": split, "name": said}


def maps(run: Run, pixels: Pixels | None, side: int) -> dict[str, Any]:
    """Pictures beside their maps, and in numbers how narrow the maps are and how much lies at the border."""
    if not run.maps:
        return missing(run, "Where the model looks was not computed (maps.npz is not there).", "explain")
    rows, targets, heat = (run.maps[k] for k in ("rows", "targets", "maps"))
    shown: list[dict[str, str]] = []
    said = run.looked.get("sentences") or ()
    for k in range(len(rows)):
        picture = fetch(pixels, int(rows[k])) if len(shown) < MAPS else None
        if picture is not None:
            ids = run.data.ids if run.data is not None else ()
            shown.append(
                {
                    **_picture(picture, side),
                    "over": pictures.overlay(picture, heat[k], side),
                    "name": _name(run, int(targets[k])),
                    "id": str(ids[rows[k]]) if 0 <= rows[k] < len(ids) else "",
                    "border": percent(border_share(heat[k]), 0),
                    "said": said[k].replace(" %", "\u00a0%") if len(said) == len(rows) else "",
                }
            )
    border = np.array([border_share(m) for m in heat])
    half = np.array([half_area(m) for m in heat])
    some = ~np.isnan(border)
    mean = float(border[some].mean()) if some.any() else float("nan")
    return {
        "shown": shown,
        "count": len(rows),
        "empty": int((~some).sum()),
        "border": percent(mean, 0),
        "alarm": mean > 0.45,
        "half": percent(float(half[some].mean()), 0) if some.any() else "",
        "scale": pictures.scale(),
        "method": str(run.looked.get("method", "")),
        "sanity": part(run.looked, "sanity"),
        "inside": _inside(run),
    }


def _inside(run: Run) -> str:
    """Share of the maps' evidence inside the boxes people drew, where there are any; '' otherwise."""
    if run.data is None:
        return ""
    boxes = run.data.of_kind("boxes")
    row, height, width = boxes["row"].to_numpy(), run.data.field("height"), run.data.field("width")
    shares = []
    for r, heat in zip(run.maps["rows"], run.maps["maps"]):
        mine, values = np.flatnonzero(row == r), evidence(heat)
        if not len(mine) or not values.sum():
            continue
        y, x = ((np.arange(n) + 0.5) / n for n in values.shape)
        inside = np.zeros(values.shape, bool)
        for k in mine:
            x0, y0, x1, y1 = (float(boxes[c][int(k)].as_py()) for c in ("x0", "y0", "x1", "y1"))
            inside |= ((y * height[r] >= y0) & (y * height[r] < y1))[:, None] & (
                (x * width[r] >= x0) & (x * width[r] < x1)
            )
        shares.append(float(values[inside].sum() / values.sum()))
    return percent(float(np.mean(shares)), 0) if shares else ""
