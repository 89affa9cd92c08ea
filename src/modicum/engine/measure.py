"""A finished run measured on other labelled images, by what its network tells."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError, did_you_mean
from modicum.core.kinds import UNKNOWN
from modicum.core.tables import CLASSES, table
from modicum.data.masks import Painter
from modicum.data.read import pixels, read
from modicum.deploy.made import by_network
from modicum.engine.dense import boxes_of, masks_of
from modicum.engine.table import Finished
from modicum.engine.tasks import TASKS, drawn_boxes, together
from modicum.evaluate.boxes import evaluate_boxes
from modicum.evaluate.evaluate import evaluate
from modicum.evaluate.masks import evaluate_masks
from modicum.evaluate.tags import evaluate_tags

BATCH = 256


def measured(done: Finished, place: str | Path) -> dict[str, Any]:
    """What evaluation.json would say of these images, without baselines and temperature.

    DataError where the network does not know a class, none of the images can be read and has labels of its kind, or the
    labels are what `predict` wrote.
    """
    for folder in (Path(place), *(Path(place) / name for name in ("annotations", "masks"))):
        if by_network(folder):
            fix = "Give what people drew.  Where they have looked these through, save them with their program."
            raise DataError("these labels are what a network found", where=folder, fix=fix)
    tells, main, classes = done.meta["tells"], done.run.kept, list(done.meta["classes"])
    data = _renumbered(read(place).data, classes, place)
    data, rows = _readable(data, tells, place)
    shorter, where = int(done.meta.get("shorter") or 0), str(place)
    if tells == "masks":
        painter = Painter(data)
        rows = [r for r in rows if (painter.whole(r) < UNKNOWN).any()]
    images = (pixels(data, r) for r in rows)
    if tells == "boxes":
        found = together([*boxes_of(done.net, images, shorter=shorter)])
        return evaluate_boxes(found, drawn_boxes(data, np.array(rows, np.int64)), classes, main=main, labels_from=where)
    if tells == "masks":
        return evaluate_masks(
            masks_of(done.net, images, shorter=shorter), map(painter.whole, rows), classes, main=main, labels_from=where
        )
    probs = TASKS[tells].probs(_logits(done, images))
    if tells == "tags":
        assert data.tags is not None  # known("tags") is of these
        return evaluate_tags({main: probs}, data.tags[rows], classes, main=main, labels_from=where)
    return evaluate({main: probs}, data.cls[rows], classes, main=main, labels_from=where)


def _renumbered(data: Dataset, classes: list[str], place: str | Path) -> Dataset:
    """The data with classes in the network's order."""
    if unknown := sorted(set(data.names) - set(classes)):
        fix = f"{did_you_mean(unknown[0], classes)}  Rename its folder or rows, or leave them out."
        raise DataError(f"the network knows no class {unknown[0]!r}", where=place, fix=fix)
    return replace(data.empty(), classes=table(CLASSES, name=classes, parent=-1)) + data


def _readable(data: Dataset, kind: str, place: str | Path) -> tuple[Dataset, list[int]]:
    """The data with the sizes of the images that have labels of this kind and can be read, and which those are."""
    size, good, known = np.zeros((len(data), 2), np.int32), [], np.flatnonzero(data.known(kind)).tolist()
    for row in known:
        try:
            size[row] = pixels(data, row).shape[:2]
            good.append(row)
        except DataError:
            continue
    if not good:
        words = {"class": "a class", "tags": "tags", "masks": "masks", "boxes": "boxes"}[kind]
        fix = "Give images in folders named like the classes, or a table with the columns image and class."
        if kind != "class":
            fix = f"`modicum scan {place}` says what is known of them; docs/reference/formats.md what can be read."
        what = f"none of {len(known)} labelled images can be read" if known else f"no image has {words}"
        raise DataError(what, where=place, fix=fix)
    return data.with_images(height=size[:, 0], width=size[:, 1]), good


def _logits(done: Finished, images: Iterator[np.ndarray]) -> np.ndarray:
    """The network's logits of each image, float64 (N,C)."""
    out = []
    with torch.no_grad():
        while some := list(itertools.islice(images, BATCH)):
            out.append(done.net(done.batch(some)).logits.double().numpy())
    return np.concatenate(out)
