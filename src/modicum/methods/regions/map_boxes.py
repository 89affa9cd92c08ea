"""Maps to boxes: a box around each region of a class's map that stands out, for the classes that are in the image.

    m = (M - min M) / (max M - min M) at the image's size;   a box a region of  { m > tau }  (8-connected)

The thresholding of Zhou et al. (2016); every region or the largest.  A box's confidence is the mean of m over it.
Choose tau on images with boxes (evaluate/localise.py), not on those that are graded.  Images in which a person drew a
box stay as they are; of the others a row of `looked` says that the drafts are all there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from modicum.core.card import Card
from modicum.core.dataset import MODEL, Dataset, Table
from modicum.core.method import Label
from modicum.core.settings import knob
from modicum.core.tables import LOOKED
from modicum.core.tables import table as arrow
from modicum.functional.drafts import drafts
from modicum.functional.regions import boxes

CARD = Card(
    title="Boxes from maps",
    role="label",
    idea="Where a class's map stands out there is an object: its region's frame is a draft of a box.",
    needs=("image", "maps:some", "tags:some~"),
    makes=("boxes:some~",),
    year=2016,
    cites=("arXiv:1512.04150",),
    changed="8-connected regions of the map at the image's size; small ones can be left out.",
    cost=0.01,
)


@dataclass(frozen=True)
class MapBoxes(Label):
    """Reads the column `maps`, tags and classes.  Boxes are half open, in pixels of the stored image."""

    tau: float = knob(0.2, 0, 0.99, doc="share of the map's height above which a pixel belongs to an object")
    every: bool = knob(True, doc="a box around every region; else around the largest alone")
    least: float = knob(0.01, 0, 1, doc="share of the image below which a region is left out")
    side: int = knob(512, 8, 8192, doc="longer side at which maps of larger images are cut")

    def label(self, table: Table) -> Dataset:
        found, seen = [np.empty((0, 7))], list[int]()
        for row, maps, present, size in zip(*drafts(table, "boxes"), strict=True):
            classes = np.flatnonzero(present)
            height, width = np.maximum(1, np.rint(size * min(1, self.side / size.max()))).astype(int).tolist()
            drawn = boxes(
                torch.from_numpy(maps[None, classes]), (height, width), self.tau, every=self.every,
                least=math.ceil(self.least * height * width),
            )  # fmt: skip
            seen += [int(row)] if len(drawn.xyxy) else []
            xyxy = drawn.xyxy * np.tile(size[::-1] / (width, height), 2)
            found.append(np.column_stack([np.full(len(xyxy), row), classes[drawn.target], xyxy, drawn.confidence]))
        names = ("row", "class", "x0", "y0", "x1", "y1", "confidence")
        columns: dict[str, Any] = dict(zip(names, np.concatenate(found).T, strict=True))
        columns |= {name: columns[name].astype(np.int64) for name in ("row", "class")}
        delta = table.data.delta(source="map-boxes", who=MODEL, kind="boxes", **columns)
        return replace(delta, looked=arrow(LOOKED, row=seen, kind="boxes", complete=1, source=0))
