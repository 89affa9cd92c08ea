"""Maps to masks: each pixel gets the class in the image whose map is highest there, or background.

    m_c = (M_c - min M_c) / (max M_c - min M_c) at the image's size;   argmax over  { bg, m_c : c in the image }
    bg = tau,   or  (1 - max_c m_c)^alpha                                       (Ahn and Kwak, 2018)

A row a class and image: `data` is a PNG of one bit a pixel, the box its frame, the confidence the mean of m_c over it.
Maps that follow colours make better masks: refine them first (functional/refine.py, affinity.py, crf.py), which takes
pixels and so is not done here.  Images in which a person drew a mask stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modicum.core.card import Card
from modicum.core.dataset import MODEL, Dataset, Table
from modicum.core.method import Label
from modicum.core.settings import knob
from modicum.functional.drafts import drafts, frame, png
from modicum.functional.regions import masks

CARD = Card(
    title="Masks from maps",
    role="label",
    idea="A pixel belongs to the class in the image whose map is highest there, if it is high at all.",
    needs=("image", "maps:some", "tags:some~"),
    makes=("masks:some~",),
    year=2018,
    cites=("arXiv:1803.10464",),
    changed="No propagation by learned affinities, and no pixel is left unknown.",
    cost=0.01,
)


@dataclass(frozen=True)
class MapMasks(Label):
    """Reads the column `maps`, tags and classes.  Masks have the size of the stored image."""

    tau: float = knob(0.25, 0, 0.99, doc="height of the background, as a share of a map's height")
    alpha: float = knob(0.0, 0, 64, doc="power of the background; 0: it is tau everywhere")

    def label(self, table: Table) -> Dataset:
        found: list[tuple[Any, ...]] = []
        for row, maps, present, size in zip(*drafts(table, "masks"), strict=True):
            classes = np.flatnonzero(present)
            drawn = masks(
                torch.from_numpy(maps[None, classes]), torch.ones(1, len(classes), dtype=torch.bool),
                (int(size[0]), int(size[1])), tau=self.tau, alpha=self.alpha or None,
            )  # fmt: skip
            for t, c in enumerate(classes.tolist()):
                mine = (drawn.labels[0] == t + 1).numpy()
                if mine.any():
                    sure = float(drawn.confidence[0, t])
                    found.append((int(row), c, *frame(mine), sure, png(mine)))
        names = ("row", "class", "x0", "y0", "x1", "y1", "confidence", "data")
        columns: dict[str, Any] = dict(zip(names, map(list, zip(*found))))
        return table.data.delta(source="map-masks", who=MODEL, kind="masks", **columns)
