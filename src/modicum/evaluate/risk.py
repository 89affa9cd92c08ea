"""How many of a network's guesses are right, and from which confidence on they may be believed.

Both rest on labels that the network did not see: held out, or out of fold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modicum.core.errors import DataError
from modicum.evaluate.intervals import LEVEL, wilson


@dataclass(frozen=True)
class Bound:
    """tau: the least confidence at which at most a share `risk` of guesses is held to be wrong; None if there is none.

    accepted, wrong: of the labels looked at, how many lie at or above it.  needed: how many accepted labels it takes
    where none is wrong.  said: a sentence.
    """

    tau: float | None
    accepted: int
    wrong: int
    needed: int
    said: str


def upper(wrong: int, count: int, level: float = LEVEL) -> float:
    """The largest error rate that `wrong` of `count` does not speak against; exact (Clopper and Pearson, 1934)."""
    from scipy.stats import beta  # type: ignore[import-untyped]

    return 1.0 if wrong >= count else float(beta.ppf(level, wrong + 1, count - wrong))


def least(risk: float, level: float = LEVEL) -> int:
    """Guesses without a mistake that hold the error rate to `risk`: log(1 - level) / log(1 - risk), 59 for 5 %."""
    return math.ceil(math.log(1 - level) / math.log(1 - risk))


def bound(confidence: np.ndarray, right: np.ndarray, risk: float = 0.05, level: float = LEVEL) -> Bound:
    """The lowest confidence from which on at most a share `risk` of guesses is wrong, with probability `level`.

    confidence: float (L,).  right: bool (L,).  risk, level: in (0, 1).  Thresholds are tried from the surest guess down
    and the first that does not hold ends it (fixed-sequence testing: Angelopoulos et al., Learn then test, 2021), so
    that trying many costs nothing.  Equal confidences stand or fall together.
    """
    if not (0 < risk < 1 and 0 < level < 1) or len(confidence) != len(right):
        found = f"risk {risk}, level {level}, {len(confidence)} and {len(right)} values"
        raise DataError(found, where="risk bound", fix="Give shares between 0 and 1, and as many values of each kind.")
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")
    sure, bad = np.asarray(confidence, np.float64)[order], np.cumsum(~np.asarray(right, bool)[order])
    needed, best = least(risk, level), 0
    for n in np.flatnonzero(np.diff(sure, append=-np.inf)) + 1:  # where a run of equal confidences ends
        if n >= needed:
            if upper(int(bad[n - 1]), int(n), level) > risk:
                break
            best = int(n)
    share = f"{100 * risk:g} %"
    if best:
        wrong = int(bad[best - 1])
        said = f"Of guesses of at least {sure[best - 1]:.3f} at most {share} are wrong ({wrong} of {best} were)."
        return Bound(float(sure[best - 1]), best, wrong, needed, said)
    first = int(bad[min(needed, len(bad)) - 1]) if len(bad) else 0
    why = (
        f"only {len(sure)} labels were looked at and {needed} are needed" if len(sure) < needed
        else f"{first} of the {needed} surest guesses are wrong"
    )  # fmt: skip
    return Bound(None, 0, 0, needed, f"No confidence holds the share of wrong guesses to {share}: {why}.")


def precision(
    guessed: np.ndarray, truth: np.ndarray, believed: np.ndarray, classes: Sequence[str], level: float = LEVEL
) -> dict[str, Any]:
    """How many of the believed guesses are right, over all and by guessed class: [value, low, high] (Wilson, 1927).

    guessed, truth: int (L,).  believed: bool (L,).  -> {"all": {...}, "classes": [{"class", "believed", "right",
    "precision"}]}; precision is [None, 0, 1] where nothing is believed.
    """
    right = (guessed == truth) & believed

    def row(mask: np.ndarray) -> dict[str, Any]:
        count, good = int((believed & mask).sum()), int((right & mask).sum())
        return {"believed": count, "right": good, "precision": wilson(good, count, level).json()}

    each = [{"class": name, **row(guessed == c)} for c, name in enumerate(classes)]
    return {"all": {"looked": len(truth), **row(np.ones(len(truth), bool))}, "classes": each}
