"""k-centre greedy: the images farthest, in features, from everything that is labelled or already chosen.

    next = argmax_i min_{j in S} || x_i - x_j ||            S: labelled and chosen rows;  x: features (R,D)

Each choice covers the set better; the largest distance left is at most twice the best possible (Gonzalez, 1985).
Only labelled images in the table count; with none the first image is drawn by lot.  O(R (L + budget) D) time for L
labelled images, memory of the features and one block of distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Table
from modicum.core.errors import DataError
from modicum.core.method import Select
from modicum.functional.rows import human, unlabelled

CARD = Card(
    title="k-centre greedy (core-set)",
    role="select",
    idea="Choose images so that every image has a labelled one nearby.",
    needs=("image", ("net:features", "net:class")),
    makes=("ids",),
    year=2018,
    cites=("arXiv:1708.00489", "doi:10.1016/0304-3975(85)90224-5"),
    changed="The greedy 2-approximation alone; the paper refines it by a mixed integer program that drops outliers.",
    cost=0.3,
)
BLOCK = 4_000_000  # distances held at once


@dataclass(frozen=True)
class KCentre(Select):
    """Sener and Savarese, 2018; reads the column `features`."""

    def select(self, table: Table, budget: int, rng: np.random.Generator) -> np.ndarray:
        free = unlabelled(table, budget)
        if not budget:
            return np.empty(0, np.int64)
        x = table["features"]
        x = x.astype(np.result_type(x, np.float32), copy=False)
        bad = np.flatnonzero(~np.isfinite(x).all(1))
        if len(bad):
            found = f"features of row {table.rows[bad[0]]} are not finite"
            raise DataError(found, where="k-centre", fix="Train again with a lower learning rate.")
        x = x - x.mean(0, dtype=np.float64).astype(x.dtype)
        square = np.einsum("rd,rd->r", x, x)
        near = nearest(x, square, np.flatnonzero(human(table) >= 0), free)
        chosen = np.empty(budget, np.int64)
        for i in range(budget):
            at = int(rng.integers(len(free))) if np.isinf(near).all() else int(near.argmax())
            chosen[i] = free[at]
            near = np.minimum(near, distances(x, square, free, chosen[i]))
            near[at] = -1.0
        return chosen


def distances(x: np.ndarray, square: np.ndarray, rows: np.ndarray, to: int) -> np.ndarray:
    """Squared distances of rows to one row, not below 0; centring x keeps the rounding error of this form small."""
    return np.maximum((square - 2 * (x @ x[to]) + square[to])[rows], 0)


def nearest(x: np.ndarray, square: np.ndarray, centres: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Squared distance of each row to its nearest centre, (len(rows),); infinite without centres."""
    near = np.full(len(rows), np.inf, x.dtype)
    step = max(1, BLOCK // max(1, len(rows)))
    for start in range(0, len(centres), step):
        part = centres[start : start + step]
        block = square[rows, None] - 2 * (x[rows] @ x[part].T) + square[part]
        near = np.minimum(near, np.maximum(block.min(1), 0))
    return near
