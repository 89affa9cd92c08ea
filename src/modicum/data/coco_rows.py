"""Boxes and instances of a Dataset as COCO's annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modicum.core.dataset import MODEL, Dataset
from modicum.data.outlines import packed, rolled, unstamp


def annotations_of(data: Dataset, sizes: Mapping[int, tuple[int, int]]) -> dict[int, list[dict[str, Any]]]:
    """What people drew in each row, as entries of `annotations`, numbered from 1; sizes: height and width of a row.

    An instance takes the box of its class that stands at the same place among those of its image; one without such a
    box has its own frame.
    """
    who = data.sources["who"].to_pylist()
    boxes: dict[tuple[int, int], list[dict[str, Any]]] = {}
    out: dict[int, list[dict[str, Any]]] = {}

    def entry(one: Mapping[str, Any]) -> dict[str, Any]:
        x0, y0, x1, y1 = (float(one[k]) for k in ("x0", "y0", "x1", "y1"))
        ignored = one["value"] is not None and one["value"] <= 0.5
        made = {"image_id": one["row"] + 1, "category_id": one["class"] + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        made |= {"area": (x1 - x0) * (y1 - y0), "iscrowd": int(ignored)}
        out.setdefault(one["row"], []).append(made)
        return made

    for one in data.of_kind("boxes").to_pylist():
        if who[one["source"]] != MODEL and one["row"] in sizes and (one["class"] or 0) >= 0:
            boxes.setdefault((one["row"], one["class"]), []).append(entry(one))
    for waiting in boxes.values():
        waiting.reverse()
    for one in data.of_kind("instances").to_pylist():
        if who[one["source"]] != MODEL and one["row"] in sizes and (one["class"] or 0) >= 0:
            mine = boxes.get((one["row"], one["class"]))
            made = mine.pop() if mine else entry(one)
            mask = unstamp(one["data"], data.ids[one["row"]])
            made["segmentation"] = {"size": list(mask.shape), "counts": packed(rolled(mask))}
            made["area"] = int(mask.sum())
    for number, made in enumerate((a for row in sorted(out) for a in out[row]), 1):
        made["id"] = number
    return out
