"""Out-of-fold answers: arms are trained again on parts of the labels and asked about the labels they did not see.

What needs held-out labels rests on this where there are too few to hold any out: which arm is kept, how far guesses may
be believed, calibration.  All labels are used, at `folds` times the cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from modicum.core.method import Learn
from modicum.core.recipe import Recipe
from modicum.data.split import draw
from modicum.engine.arms import Bench, train
from modicum.engine.loop import Tick, logits_of
from modicum.runs.run import Metrics, Run

FOLDS = 5
SHARE = 0.5  # of an arm's steps that it takes in a fold, where folds are for comparing


class Unseen(NamedTuple):
    """Answers to labels that were not trained on.  cls: int (L,).  logits: arm -> float32 (L,C).

    whole: whether the nets took all steps of their arms, so that their confidence is like the arms'.
    """

    cls: np.ndarray
    logits: dict[str, np.ndarray]
    whole: bool


def assign(cls: np.ndarray, ids: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for each label, int (L,): every class is spread over the folds as evenly as it can be."""
    order = np.lexsort((draw(ids, seed), cls))
    out = np.empty(len(cls), np.int64)
    out[order] = np.arange(len(cls)) % folds
    return out


def out_of_fold(
    run: Run, bench: Bench, arms: Mapping[str, tuple[Learn, Recipe]], folds: int, share: float, metrics: Metrics,
    tick: Tick | None,
) -> Unseen:  # fmt: skip
    """Answers of the arms to the labels of the pool, each by a net that did not see it.

    A class's only label is never held out.  share: of an arm's steps that are taken.  Nets are kept in the run, so that
    it can be taken up again.
    """
    rows = np.flatnonzero(bench.pool & bench.pixels.good & (bench.data.cls >= 0))
    rows = rows[np.bincount(bench.data.cls[rows])[bench.data.cls[rows]] > 1]
    cls = bench.data.cls[rows]
    fold = assign(cls, bench.data.ids[rows], folds, bench.seed)
    logits = {arm: np.zeros((len(rows), len(bench.data.names)), np.float32) for arm in arms}
    for arm, (method, recipe) in arms.items():
        short = recipe.but(steps=max(1, round(share * recipe.steps)))
        for k in range(folds):
            part = replace(bench, data=bench.data.without("class", rows[fold == k]))
            name = f"{arm}-fold-{k + 1}"
            net = train(part, method, short, name, run / "arms" / name, metrics, tick)
            logits[arm][fold == k] = logits_of(net, part.feed({}), rows[fold == k], bench.fabric)
    return Unseen(cls, logits, share == 1)
