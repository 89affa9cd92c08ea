"""Dawid-Skene: the true classes and every annotator's confusion matrix, each estimated from the other by EM.

    E:  post_tk  proportional to  p_k  prod_v e_w[k, l_v]              over the votes v = (t, w, l) on image t
    M:  p_k = mean_t post_tk,    e_w[k, l] = (sum_v post_tk [l_v = l] + a_kl) / (the sum of this over l)

t image, w annotator, k true class, l the class that was said.  Starts from the shares of the votes.  The bound

    sum_t sum_k post_tk (log p_k + sum_v log e_w[k, l_v] - log post_tk)  +  sum_wkl a_kl log e_w[k, l]

never falls (the last part is the log prior of e, a constant left out).  One round is O(V C + W C^2), no vote waits on a
Python loop over images.  Images without a vote take the prior p; a class that a person gave is held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Dataset, Table
from modicum.core.method import Label
from modicum.core.settings import knob
from modicum.functional.rows import human
from modicum.functional.votes import Votes, say, votes_of

CARD = Card(
    title="Dawid-Skene",
    role="label",
    idea="Annotators who agree with the likely truth count more, and a consistent error tells as much as the truth.",
    needs=("votes:some",),
    makes=("probs:some~",),
    year=1979,
    cites=("doi:10.2307/2346806",),
    suits=("crowd",),
    changed=(
        "A Dirichlet prior on each row of a confusion matrix, larger on the diagonal: without it an annotator with few "
        "votes gets zeros and ones.  Classes that people gave are held fixed."
    ),
    cost=0.01,
)
FLOOR = 1e-10


class Fit(NamedTuple):
    """post: (T,C).  prior: (C,).  confusion: (W,C,C), P(w says l | true k).  bounds: the bound after each round."""

    post: np.ndarray
    prior: np.ndarray
    confusion: np.ndarray
    bounds: list[float]


@dataclass(frozen=True)
class DawidSkene(Label):
    """Dawid and Skene, 1979.  Deterministic."""

    off: float = knob(0.1, 0, 100, doc="a off the diagonal: votes added to each error of each annotator")
    diagonal: float = knob(1.0, 0, 100, doc="a on the diagonal: votes added to each right answer")
    rounds: int = knob(100, 1, 100_000, doc="most rounds of EM")
    tol: float = knob(1e-5, 0, 1, doc="stop when the bound rises by less than this share of it")
    people: bool = knob(True, doc="hold classes fixed that a person gave, and learn the annotators from them")

    def label(self, table: Table) -> Dataset:
        votes = votes_of(table)
        found = self.fit(votes, human(table) if self.people else np.full(votes.tasks, -1))
        return say(table, votes, found.post, found.prior, "dawid-skene")

    def fit(self, votes: Votes, gold: np.ndarray) -> Fit:
        """EM over votes; gold: int64 (T,), the class where it is known, -1 elsewhere."""
        c, counts = votes.classes, votes.counts()
        added = np.full((c, c), self.off) + np.eye(c) * (self.diagonal - self.off)
        heard = votes.voted | (gold >= 0)
        post = np.where(votes.voted[:, None], counts / np.maximum(counts.sum(1, keepdims=True), 1), 1 / c)
        post[gold >= 0] = np.eye(c)[gold[gold >= 0]]
        bounds: list[float] = []
        for _ in range(self.rounds):
            prior, confusion = maximise(post, votes, heard, added)
            post, evidence = expect(prior, confusion, votes, gold)
            bounds.append(float(evidence[heard].sum() + (added * np.log(np.maximum(confusion, FLOOR))).sum()))
            if len(bounds) > 1 and abs(bounds[-1] - bounds[-2]) <= self.tol * abs(bounds[-1]):
                break
        return Fit(post, prior, confusion, bounds)


def maximise(post: np.ndarray, votes: Votes, heard: np.ndarray, added: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """M: prior (C,) and confusion matrices (W,C,C), true class first."""
    w, c, said = votes.annotators, votes.classes, votes.said
    counts = np.empty((w, c, c))
    for k in range(c):
        counts[:, k] = np.bincount(said, weights=post[votes.task, k], minlength=w * c).reshape(w, c)
    counts += added
    total = counts.sum(2, keepdims=True)
    return post[heard].mean(0), np.divide(counts, total, out=np.full_like(counts, 1 / c), where=total > 0)


def expect(prior: np.ndarray, confusion: np.ndarray, votes: Votes, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E: posterior (T,C), and each task's log evidence (T,), which is the bound at this posterior."""
    loge, said, fixed = np.log(np.maximum(confusion, FLOOR)), votes.said, np.flatnonzero(gold >= 0)
    joint = np.tile(np.log(np.maximum(prior, FLOOR)), (votes.tasks, 1))
    for k in range(votes.classes):
        joint[:, k] += np.bincount(votes.task, weights=loge[:, k].ravel()[said], minlength=votes.tasks)
    top = joint.max(1, keepdims=True)
    post = np.exp(joint - top)
    total = post.sum(1, keepdims=True)
    post, evidence = post / total, (top + np.log(total))[:, 0]
    post[fixed] = np.eye(votes.classes)[gold[fixed]]
    evidence[fixed] = joint[fixed, gold[fixed]]
    return post, evidence
