"""Small datasets with planted annotators, and tables of logits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modicum.core.dataset import ANNOTATOR, Dataset, Table
from modicum.core.tables import ANNOTATIONS, SOURCES, table


def voted(
    task: np.ndarray, annotator: np.ndarray, label: np.ndarray, tasks: int, classes: int, cls: np.ndarray | None = None
) -> Dataset:
    """Images with votes; `cls` (N,) is what a person said, -1 nothing."""
    data = Dataset.build([f"{i}.png" for i in range(tasks)], [f"c{k}" for k in range(classes)], cls=cls)
    said = table(ANNOTATIONS, row=task, kind="votes", source=annotator, **{"class": label})
    names = [f"w{w}" for w in range(int(annotator.max(initial=-1)) + 1)]
    people = table(SOURCES, name=names, who=ANNOTATOR)
    return data + replace(data.empty(), annotations=said, sources=people, classes=data.classes)


def crowd(
    skills: list[float], tasks: int, classes: int, each: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """task, annotator, label (V,), truth (T,): `each` annotators see a task and are right with their skill."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=tasks)
    task = np.repeat(np.arange(tasks), each)
    annotator = np.concatenate([rng.choice(len(skills), each, replace=False) for _ in range(tasks)])
    wrong = (truth[task] + rng.integers(1, classes, size=len(task))) % classes
    label = np.where(rng.random(len(task)) < np.array(skills)[annotator], truth[task], wrong)
    return task, annotator, label, truth


def everything(data: Dataset) -> Table:
    return Table(data, np.arange(len(data)))


def logits_of(probs: list[list[float]] | np.ndarray, cls: list[int] | None = None) -> Table:
    """A table whose softmax is `probs` (N,C)."""
    p = np.asarray(probs, np.float64)
    given = None if cls is None else np.array(cls)
    data = Dataset.build([f"{i}.png" for i in range(len(p))], [f"c{k}" for k in range(p.shape[1])], cls=given)
    return Table(data, np.arange(len(p)), {"logits": np.log(np.maximum(p, 1e-300))})
