"""Found boxes to drafts: of the boxes that a network finds, the best of each class that is known to be in the image.

    { b : s_b >= least max s }  of a class, from the best on, each that overlaps none before by more than tau

The pseudo ground truth that detectors are trained on after OICR (Tang et al., 2017: the one best box of a class).
Images in which a person drew a box stay as they are; of the others a row of `looked` says that the drafts are all
there is.  A box's confidence is its score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from modicum.core.card import Card
from modicum.core.dataset import MODEL, Dataset, Table
from modicum.core.errors import DataError, NeedsError
from modicum.core.method import Label
from modicum.core.settings import knob
from modicum.core.tables import LOOKED
from modicum.core.tables import table as arrow
from modicum.functional.boxes import nms
from modicum.functional.drafts import present, undrawn

CARD = Card(
    title="Boxes that a network found",
    role="label",
    idea="Of the boxes that a network finds, the best of each class that is in the image are drafts.",
    needs=("image", "net:boxes.chosen", "tags:some"),
    makes=("boxes:some~",),
    year=2017,
    cites=("arXiv:1704.00138",),
    changed="Several boxes of a class, if their scores are near the best one's; the paper takes one.",
    cost=0.01,
)


@dataclass(frozen=True)
class FoundBoxes(Label):
    """Reads the column `found`, float32 (R,K,6), padded with NaN: x0, y0, x1, y1 in pixels of the stored image, class,
    score; and tags or classes."""

    least: float = knob(0.5, 0, 1, doc="least score of a box, as a share of its class's best in the image")
    tau: float = knob(0.3, 0, 1, doc="overlap (IoU) with a better box of the class above which a box is left out")
    most: int = knob(10, 1, 1000, doc="boxes of a class in an image")

    def label(self, table: Table) -> Dataset:
        if "found" not in table.columns:
            fix = "Train a network that finds boxes first."
            raise NeedsError("no network has looked for boxes (net:boxes.chosen)", where="found-boxes", fix=fix)
        given, there = np.asarray(table["found"], np.float32), present(table)
        if given.ndim != 3 or given.shape[::2] != (len(table), 6):
            found = f"a column of shape {given.shape} for {len(table)} images"
            raise DataError(found, where="found-boxes", fix="Give (R,K,6): x0, y0, x1, y1, class, score.")
        usable = undrawn(table, "boxes", "found-boxes")
        image, k = (np.isfinite(given).all(2) & usable[:, None]).nonzero()
        xyxy, cls, score = given[image, k, :4], given[image, k, 4].astype(np.int64), given[image, k, 5]
        group = image * there.shape[1] + cls
        best = np.full(there.size, -np.inf, np.float32)
        np.maximum.at(best, group, score)
        mine = np.flatnonzero(there[image, cls] & (score >= self.least * best[group]))
        a, b, c = (torch.from_numpy(v[mine]) for v in (xyxy, score, group))
        mine = mine[nms(a, b, c, self.tau).numpy()]
        mine = mine[np.argsort(group[mine], kind="stable")]
        mine = mine[np.arange(len(mine)) - np.searchsorted(group[mine], group[mine]) < self.most]
        said: dict[str, Any] = dict(zip(("x0", "y0", "x1", "y1"), xyxy[mine].astype(np.float64).T, strict=True))
        said |= {"row": table.rows[image[mine]], "class": cls[mine], "confidence": score[mine].astype(np.float64)}
        delta = table.data.delta(source="found-boxes", who=MODEL, kind="boxes", **said)
        seen = np.unique(table.rows[image[mine]]).tolist()
        return replace(delta, looked=arrow(LOOKED, row=seen, kind="boxes", complete=1, source=0))
