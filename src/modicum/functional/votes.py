"""Votes of several annotators as arrays, and what an aggregator says of them as a delta Dataset.

T tasks (rows of a table), W annotators, C classes, V votes.  Nothing here loops over tasks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from modicum.core.dataset import MODEL, Dataset, Table
from modicum.core.errors import NeedsError
from modicum.functional.rows import human

TIE = 1e-9  # probabilities closer than this are the same: sums of votes in another order must tie alike


class Votes(NamedTuple):
    """task, annotator, label: int64 (V,).  tasks, annotators, classes: how many; every annotator has a vote."""

    task: np.ndarray
    annotator: np.ndarray
    label: np.ndarray
    tasks: int
    annotators: int
    classes: int

    @property
    def said(self) -> np.ndarray:
        """One number for annotator and label, int64 (V,) below W C."""
        return self.annotator * self.classes + self.label

    @property
    def voted(self) -> np.ndarray:
        """Which tasks have a vote, bool (T,)."""
        return np.bincount(self.task, minlength=self.tasks) > 0

    def counts(self) -> np.ndarray:
        """Votes of each class on each task, float64 (T,C)."""
        flat = np.bincount(self.task * self.classes + self.label, minlength=self.tasks * self.classes)
        return flat.reshape(self.tasks, self.classes).astype(np.float64)


def votes_of(table: Table) -> Votes:
    """The votes on the rows of a table; an abstention (no class) is not a vote.  NeedsError where there is none."""
    row, source, label = table.data.votes
    place = np.full(len(table.data), -1, np.int64)
    place[table.rows] = np.arange(len(table))
    mine = (place[row] >= 0) & (label >= 0)
    if not mine.any():
        raise NeedsError(
            f"none of {len(table)} images has a vote", where="votes",
            fix="Bring a table with the columns image, annotator and class, one line a vote.",
        )  # fmt: skip
    people, annotator = np.unique(source[mine], return_inverse=True)
    return Votes(place[row[mine]], annotator, label[mine], len(table), len(people), len(table.data.names))


def pick(probs: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class of each task, int64 (T,), and whether it was a tie, bool (T,).

    Ties go to the class of larger prior (C,), then to the lowest.
    """
    top = probs >= probs.max(1, keepdims=True) - TIE
    return np.where(top, prior, -1.0).argmax(1), top.sum(1) > 1


def say(table: Table, votes: Votes, probs: np.ndarray, prior: np.ndarray, source: str) -> Dataset:
    """What an aggregator says, as a delta: of the images with votes to which no person gave a class or probabilities.

    probs: (T,C), probabilities of the true class; prior: (C,), breaks ties.  The delta holds a class each (confidence:
    its probability) and the columns `probs`, float32 (N,C), and `tied`, bool (N,): several classes equally probable.
    Probabilities that the set already has are kept unless a model gave them; rows nobody knows of are NaN.
    """
    data = table.data
    choice, tie = pick(probs, prior)
    soft = np.full((len(data), votes.classes), np.nan, np.float32)
    if "probs" in data.columns:
        soft[:] = data.columns["probs"]
    guessed = (human(table) < 0) & (table.cls >= 0)
    new = np.flatnonzero(votes.voted & (human(table) < 0) & (np.isnan(soft[table.rows]).any(1) | guessed))
    rows = table.rows[new]
    cls, sure, tied = np.full(len(data), -1, np.int64), np.zeros(len(data)), np.zeros(len(data), bool)
    cls[rows], sure[rows], tied[rows] = choice[new], probs[new, choice[new]], tie[new]
    soft[rows] = probs[new]
    delta = data.delta_class(cls, source=source, who=MODEL, confidence=sure)
    return replace(delta, columns={"probs": soft, "tied": tied})
