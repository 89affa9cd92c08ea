"""The sections about what a network that finds boxes gets wrong; all numbers come from evaluation.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modicum.evaluate.box_faults import KINDS, LEVELS, WORST
from modicum.evaluate.boxes import THRESHOLDS
from modicum.report import charts, pictures
from modicum.report.boxes import framed, named
from modicum.report.looks import Pixels, fetch
from modicum.report.read import Run, part
from modicum.report.sections import missing
from modicum.report.text import between, percent, plain

MOST = 20
NOTHING = "Curves and mistakes of boxes were not measured: there is no object in a test image."


def curves(run: Run) -> dict[str, Any]:
    """Precision over recall of each class, the weakest first where they are too many, and recall over IoU."""
    said = part(run.evaluation, "boxes")
    if not said:
        return missing(run, NOTHING, "evaluate")
    there = [(k, np.array(line, float)) for k, line in enumerate(said["precision"]) if line]
    if any(line.shape != (LEVELS,) for _, line in there):
        raise ValueError(f"a curve is not of {LEVELS} numbers")
    weakest = sorted(there, key=lambda pair: pair[1].mean())[:MOST]
    level = np.linspace(0, 1, LEVELS)
    small = [
        {"name": run.classes[k], "value": percent(y.mean()),
         "svg": charts.shares([(0, level, y)], f"{run.classes[k]}: precision over recall", small=True)}
        for k, y in sorted(weakest, key=lambda pair: pair[0])
    ]  # fmt: skip
    recall = np.array(said["recall"], float)
    ceiling = part(said, "ceiling")
    return {
        "classes": small, "more": len(there) - len(small),
        "recall": charts.shares([(0, THRESHOLDS, recall)], "objects found over the overlap asked for", start=0.5),
        "half": percent(recall[0]), "strict": percent(recall[-1]),
        "ceiling": ceiling and {
            "images": plain(ceiling["images"]), "boxes": f"{ceiling['boxes']:.0f}",
            "half": percent(ceiling["half"][0]), "half_range": between(ceiling["half"]),
            "high": percent(ceiling["high"][0]), "high_range": between(ceiling["high"]),
        },
    }  # fmt: skip


def kinds(run: Run, pixels: Pixels | None, side: int) -> dict[str, Any]:
    """What became of the surest boxes and of the objects, by class; the surest wrong ones, and the images with most
    missed objects."""
    said = part(run.evaluation, "boxes")
    if not said:
        return missing(run, NOTHING, "evaluate")
    rows = [(r["class"], *r["boxes"], r["missed"], r["objects"]) for r in said["kinds"] if r["objects"]]
    counts = np.array([r[1:] for r in rows], np.int64)
    total = counts.sum(0)
    weakest = np.argsort(-counts[:, -2] / counts[:, -1], kind="stable")[:MOST]
    shown = [("all classes", total), *((rows[k][0], counts[k]) for k in sorted(weakest.tolist()))]
    boxes = max(int(total[: len(KINDS)].sum()), 1)
    return {
        "columns": [*KINDS, "missed"],
        "rows": [(name, [_cell(k, v, own) for k, v in enumerate(own[:-1].tolist())]) for name, own in shown],
        "objects": plain(int(total[-1])), "boxes": plain(int(total[: len(KINDS)].sum())),
        "found": percent(total[0] / total[-1]), "more": len(rows) - len(weakest),
        "shares": [(name, percent(n / boxes)) for name, n in zip(KINDS[1:], total[1:].tolist()) if n],
        "worst": _worst(run, said["worst"], pixels, side), "surest": _surest(run, said.get("surest", ()), pixels, side),
    }  # fmt: skip


def _cell(column: int, count: int, own: np.ndarray) -> tuple[int, float, bool]:
    """A count, its share of the boxes or, of what is missed, of the objects, and whether it is good."""
    whole = own[-1] if column == len(KINDS) else own[: len(KINDS)].sum()
    return count, count / max(int(whole), 1), column == 0


def _worst(run: Run, listed: Sequence[Any], pixels: Pixels | None, side: int) -> list[dict[str, Any]]:
    """Pictures, objects that are found and missed, boxes that are right and wrong."""
    out = []
    for one in listed[:WORST]:
        picture = fetch(pixels, one["row"])
        if picture is None or run.data is None:
            continue
        scale = np.array([picture.shape[1], picture.shape[0]] * 2) / _size(run, one["row"])
        true, said = (np.array(one[k], float).reshape(-1, 6) for k in ("true", "said"))
        drawn, boxes = (
            framed(picture, b[:, :4] * scale, b[:, 4].astype(int), side, b[:, 5] == 0) for b in (true, said)
        )
        lost = true[true[:, 5] == 0][:, 4].astype(int)
        out.append({
            "id": str(run.data.ids[one["row"]]), "src": pictures.thumbnail(picture, side),
            "px": "px" if max(picture.shape[:2]) < 56 else "", "true": pictures.uri(drawn), "said": pictures.uri(boxes),
            "missed": len(lost), "objects": len(true), "names": named(run, lost),
        })  # fmt: skip
    return out


def _surest(run: Run, listed: Sequence[Any], pixels: Pixels | None, side: int) -> list[dict[str, str]]:
    """Pictures, and what people drew with the wrong box in it."""
    out = []
    for one in listed[:WORST]:
        picture = fetch(pixels, one["row"])
        if picture is None or run.data is None:
            continue
        scale = np.array([picture.shape[1], picture.shape[0]] * 2) / _size(run, one["row"])
        both = np.array([*one["true"], one["box"]], float).reshape(-1, 5)
        wrong = np.arange(len(both)) == len(both) - 1
        drawn = framed(picture, both[:, :4] * scale, both[:, 4].astype(int), side, wrong)
        out.append({
            "id": str(run.data.ids[one["row"]]), "src": pictures.thumbnail(picture, side),
            "px": "px" if max(picture.shape[:2]) < 56 else "", "drawn": pictures.uri(drawn),
            "said": named(run, both[-1:, 4].astype(int), np.array([one["score"]])), "kind": KINDS[one["kind"]],
        })  # fmt: skip
    return out


def _size(run: Run, row: int) -> np.ndarray:
    """Width, height, width, height of the stored image."""
    assert run.data is not None
    height, width = (float(run.data.field(f)[row]) for f in ("height", "width"))
    return np.array([width, height] * 2)
