"""Out-of-fold logits: the method is trained again on parts of the labels and asked about the labels it did not see.

Calibration rests on this where there are too few labels to hold any out: all are used, at `folds` times the cost.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modicum.core.method import Learn
from modicum.core.recipe import Recipe
from modicum.data.split import draw
from modicum.engine.arms import Bench, train
from modicum.engine.loop import Tick, logits_of
from modicum.runs.run import Metrics, Run


def assign(cls: np.ndarray, ids: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for each label, int (L,): every class is spread over the folds as evenly as it can be."""
    order = np.lexsort((draw(ids, seed), cls))
    out = np.empty(len(cls), np.int64)
    out[order] = np.arange(len(cls)) % folds
    return out


def out_of_fold(
    run: Run, bench: Bench, method: Learn, recipe: Recipe, folds: int, metrics: Metrics, tick: Tick | None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (L,C) of the labelled rows of the pool by nets that did not see their labels, and their classes (L,)."""
    rows = np.flatnonzero(bench.pool & bench.pixels.good & (bench.data.cls >= 0))
    cls = bench.data.cls[rows]
    fold = assign(cls, bench.data.ids[rows], folds, bench.seed)
    logits = np.zeros((len(rows), len(bench.data.names)), np.float32)
    for k in range(folds):
        part = replace(bench, data=bench.data.without("class", rows[fold == k]))
        net = train(part, method, recipe, f"fold-{k + 1}", run / "arms" / f"fold-{k + 1}", metrics, tick)
        logits[fold == k] = logits_of(net, part.feed({}), rows[fold == k], bench.fabric)
    return logits, cls
