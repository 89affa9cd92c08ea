"""Toy data of every kind that cards ask for: 16 x 16 images in memory, three classes that are easy to tell apart.

Letters: N images, C = 3 classes, D features.  Rows of the pool come first, then rows outside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modicum.core.dataset import ANNOTATOR, HUMAN, MODEL, Dataset, Table
from modicum.core.errors import NeedsError
from modicum.core.kinds import Fact
from modicum.core.tables import ANNOTATIONS, LOOKED, SOURCES, table
from modicum.data.cache import Pixels
from modicum.functional.drafts import png

SIDE, POOL, CLASSES = 16, 48, ("bars", "posts", "disc")
_RECORD = np.dtype([("offset", "<i8"), ("height", "<i4"), ("width", "<i4"), ("channels", "i1"), ("bits", "i1")])


@dataclass(frozen=True, eq=False)
class World:
    """data: what is known.  truth: int64 (N,).  pool: bool (N,), rows that may be trained on.  columns: what a network
    would say: logits (N,C), features (N,D), found (N,4,6): x0 y0 x1 y1 class score, rows of NaN where there is none."""

    data: Dataset
    pixels: Pixels
    pool: np.ndarray
    truth: np.ndarray
    columns: Mapping[str, np.ndarray]

    def table(self, columns: Iterable[str], rows: np.ndarray | None = None) -> Table:
        """Rows of the pool (or these), with these columns and their pixels."""
        rows = np.flatnonzero(self.pool) if rows is None else rows
        return Table(self.data, rows, {n: self.columns[n][rows] for n in columns}, self.pixels.image)


@functools.cache
def pictures(n: int = 4 * POOL) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N,16,16,3) and classes (N,): bars lie, posts stand, a disc is round; noise on all."""
    rng = np.random.default_rng(0)
    truth = np.arange(n) % len(CLASSES)
    y, x = np.mgrid[:SIDE, :SIDE]
    phase = rng.integers(0, 4, n)[:, None, None]
    bars = ((y + phase) // 2 % 2) * 1.0
    posts = ((x + phase) // 2 % 2) * 1.0
    middle = rng.uniform(6, 10, (2, n, 1, 1))
    disc = (np.hypot(y - middle[0], x - middle[1]) < 4) * 1.0
    shape = np.choose(truth[:, None, None], [bars, posts, disc])
    noisy = 60 + 130 * shape[..., None] + rng.normal(0, 20, (n, SIDE, SIDE, 3))
    return noisy.clip(0, 255).astype(np.uint8), truth.astype(np.int64)


def pixels_of(images: np.ndarray) -> Pixels:
    """uint8 (N,H,W,c) as the pixel cache that a feed reads, in memory."""
    n, height, width, channels = images.shape
    index = np.zeros(n, _RECORD)
    index["offset"] = np.arange(n) * height * width * channels
    for name, value in (("height", height), ("width", width), ("channels", channels), ("bits", 8)):
        index[name] = value
    return Pixels(Path("toy"), index, np.ascontiguousarray(images).reshape(-1), 0, [])


def world(
    facts: Iterable[Fact], *, labelled: np.ndarray | None = None, outside: int = 0, garbage: int = 0,
    constant: bool = False,
) -> World:  # fmt: skip
    """Data that have these facts and no others.

    labelled: rows of the pool with labels (default: half of them where a fact says `:some`, else all).  outside: how
    many rows lie outside the pool; garbage: a seed for their labels, 0 = none.  constant: every image is one grey.
    """
    facts, n = tuple(facts), POOL + outside
    images, truth = (a[:n] for a in pictures())
    said, known = truth.copy(), np.arange(POOL)
    if garbage:
        said[POOL:] = np.random.default_rng(garbage).integers(0, len(CLASSES), outside)
        known = np.arange(n)
    data = Dataset.build([f"{i:03d}.png" for i in range(n)], CLASSES, split="train", height=SIDE, width=SIDE)
    for fact in facts:
        if not fact.net and fact.kind not in ("image", "names"):
            half = known[(known // len(CLASSES) % 2 == 0) | (known >= POOL)]
            rows = (half if fact.some else known) if labelled is None else labelled
            data = _state(data, fact, rows, said)
    grey = np.full_like(images, 128) if constant else images
    return World(data, pixels_of(grey), np.arange(n) < POOL, truth, network(truth))


def network(truth: np.ndarray) -> dict[str, np.ndarray]:
    """What a fair network would say: right on most rows, surer of some than of others."""
    rng = np.random.default_rng(5)
    sure = rng.uniform(0.5, 6, (len(truth), 1))
    logits = sure * np.eye(len(CLASSES))[truth] + rng.normal(0, 0.7, (len(truth), len(CLASSES)))
    features = 3 * np.eye(len(CLASSES), 8)[truth] + rng.normal(0, 1, (len(truth), 8))
    corner = rng.uniform(0, 8, (len(truth), 4, 2))
    sides = rng.uniform(2, 8, (len(truth), 4, 2))
    cls = np.where(rng.random((len(truth), 4)) < 0.7, truth[:, None], rng.integers(0, len(CLASSES), (len(truth), 4)))
    found = np.concatenate([corner, corner + sides, cls[..., None], rng.uniform(0.1, 1, (len(truth), 4, 1))], 2)
    found[::3, 3] = np.nan
    return {name: values.astype(np.float32) for name, values in zip(
        ("logits", "features", "found"), (logits, features, found), strict=True)}  # fmt: skip


def _state(data: Dataset, fact: Fact, rows: np.ndarray, cls: np.ndarray) -> Dataset:
    """The data with one more kind of knowledge about these rows."""
    if fact.kind not in _KINDS:
        raise NeedsError(f"there are no toy data for {fact}", where="testing/toy.py", fix="Add the kind to its table.")
    out = _KINDS[fact.kind](data, rows, cls)
    if not fact.guess:
        return out
    who = [*data.sources["who"].to_pylist(), *[MODEL] * (len(out.sources) - len(data.sources))]
    at = out.sources.schema.get_field_index("who")
    return replace(out, sources=out.sources.set_column(at, out.sources.schema.field(at), pa.array(who, pa.string())))


def _class(data: Dataset, rows: np.ndarray, cls: np.ndarray) -> Dataset:
    given = np.full(len(data), -1, np.int64)
    given[rows] = cls[rows]
    return data + data.delta_class(given, source="human", who=HUMAN)


def _probs(data: Dataset, rows: np.ndarray, cls: np.ndarray) -> Dataset:
    soft = np.full((len(data), len(CLASSES)), np.nan, np.float32)
    soft[rows] = 0.1 + 0.7 * np.eye(len(CLASSES), dtype=np.float32)[cls[rows]]
    return data.with_column("probs", soft)


def _votes(data: Dataset, rows: np.ndarray, cls: np.ndarray) -> Dataset:
    """Four annotators, three of whom see each image; one in six votes is wrong."""
    rng = np.random.default_rng(3)
    task = np.repeat(rows, 3)
    who = (task + np.tile(np.arange(3), len(rows))) % 4
    wrong = rng.random(len(task)) < 1 / 6
    label = (cls[task] + wrong * rng.integers(1, len(CLASSES), len(task))) % len(CLASSES)
    said = table(ANNOTATIONS, row=task, kind="votes", source=who, **{"class": label})
    people = table(SOURCES, name=[f"annotator-{w}" for w in range(4)], who=ANNOTATOR)
    return data + replace(data.empty(), annotations=said, sources=people, classes=data.classes)


def _tags(data: Dataset, rows: np.ndarray, cls: np.ndarray) -> Dataset:
    row, every = np.repeat(rows, len(CLASSES)), np.tile(np.arange(len(CLASSES)), len(rows))
    return _say(data, row=row, kind="tags", value=(cls[row] == every).astype(np.float32), **{"class": every})


def _boxes(data: Dataset, rows: np.ndarray, cls: np.ndarray) -> Dataset:
    """The same frame in every image; all were looked through."""
    corner: dict[str, Any] = {"x0": 2.0, "y0": 2.0, "x1": 14.0, "y1": 14.0}
    said = data.delta(source="human", who=HUMAN, row=rows, kind="boxes", **corner, **{"class": cls[rows]})
    return data + replace(said, looked=table(LOOKED, row=rows, kind="boxes", complete=1, source=0))


def _points(data: Dataset, rows: np.ndarray, cls: np.ndarray) -> Dataset:
    return _say(data, row=rows, kind="points", x0=8.0, y0=8.0, **{"class": cls[rows]})


def _masks(data: Dataset, rows: np.ndarray, cls: np.ndarray) -> Dataset:
    """The bright pixels; every image was looked through."""
    drawn = [png(image.mean(2) > 125) for image in pictures()[0][rows]]
    said = data.delta(source="human", who=HUMAN, row=rows, kind="masks", data=drawn, **{"class": cls[rows]})
    return data + replace(said, looked=table(LOOKED, row=rows, kind="masks", complete=1, source=0))


def _maps(data: Dataset, rows: np.ndarray, cls: np.ndarray) -> Dataset:
    """A peak in the middle of the class's map, low noise elsewhere."""
    maps = np.full((len(data), len(CLASSES), 4, 4), np.nan, np.float32)
    maps[rows] = np.random.default_rng(7).uniform(0, 0.2, maps.shape).astype(np.float32)[rows]
    maps[rows, cls[rows], 1:3, 1:3] += 1
    return data.with_column("maps", maps)


def _say(data: Dataset, /, **annotations: Any) -> Dataset:
    return data + data.delta(source="human", who=HUMAN, **annotations)


_KINDS: Mapping[str, Callable[[Dataset, np.ndarray, np.ndarray], Dataset]] = {
    "class": _class, "probs": _probs, "votes": _votes, "tags": _tags, "boxes": _boxes, "points": _points,
    "masks": _masks, "maps": _maps,
}  # fmt: skip
