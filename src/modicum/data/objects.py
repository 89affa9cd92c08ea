"""What formats of boxes and masks share: gathering objects into a delta, fitting boxes, naming files when writing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from modicum.core.dataset import HUMAN, Dataset
from modicum.core.tables import ANNOTATIONS, LOOKED, table
from modicum.data.formats import SPLITS
from modicum.data.names import fold, name_of

Frame = tuple[float, float, float, float]
_COLUMNS = ("row", "kind", "class", "value", "x0", "y0", "x1", "y1", "data")
_BESIDE = {"annotations", "labels", "segmentationclass", "segmentationobject"}
_NOWHERE = (None,) * 4
IGNORED = 0.0


@dataclass
class Objects:
    """Statements in the order they are made; rows count in the set they are for, classes in the names given at the end.

    said: columns of annotations.  looked: kind -> row -> 1 complete, 0 in part.
    """

    said: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _COLUMNS})
    looked: dict[str, dict[int, int]] = field(default_factory=dict)

    def add(
        self, kind: str, row: int, cls: int, frame: Frame | None = None, data: bytes | None = None,
        value: float | None = None,
    ) -> None:  # fmt: skip
        """One object.  cls: -1 = not known.  frame: x0, y0, x1, y1, half open, in pixels of the stored image.  data:
        its mask as PNG.  value: IGNORED, or of a tag."""
        for column, cell in zip(self.said.values(), (row, kind, cls, value, *(frame or _NOWHERE), data)):
            column.append(cell)

    def look(self, kind: str, row: int, complete: bool = True) -> None:
        """That all objects of the kind in an image are there, or not all; what was said before can only become less."""
        mine = self.looked.setdefault(kind, {})
        mine[row] = min(mine.get(row, 1), int(complete))

    def delta(self, names: Sequence[str]) -> Dataset:
        """All of it as statements of people."""
        said = {n: pa.array(self.said[n], ANNOTATIONS.field(n).type) for n in _COLUMNS if n != "kind"}
        kinds = pa.array(self.said["kind"], pa.string())
        seen = [(row, kind, done) for kind, rows in self.looked.items() for row, done in sorted(rows.items())]
        columns = {
            "row": np.array([r for r, _, _ in seen], np.int32), "kind": pa.array([k for _, k, _ in seen], pa.string()),
            "class": np.full(len(seen), -1, np.int32), "complete": np.array([c for _, _, c in seen], np.int8),
            "source": np.zeros(len(seen), np.int32),
        }  # fmt: skip
        looked = table(LOOKED, **columns)
        return replace(Dataset.build([], names).delta(source=HUMAN, who=HUMAN, kind=kinds, **said), looked=looked)


class Classes:
    """Class names in the order in which they are met, and the number of each."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.at: dict[str, int] = {}
        for name in names:
            self.number(name)

    def number(self, word: str) -> int:
        """The number of a class, a new one where it is not known yet.  ValueError where the word can be no name."""
        name = name_of(word)
        if not name:
            raise ValueError("a class without a name")
        return self.at.setdefault(name, len(self.at))

    @property
    def names(self) -> list[str]:
        """All of them, by number."""
        return list(self.at)


def fitted(x0: float, y0: float, x1: float, y1: float, height: int, width: int) -> tuple[Frame, str]:
    """A box cut to its image, and what is odd about it; ValueError says why there is none.

    What lies less than a pixel outside is cut without a word.
    """
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError("a box with a number that is not finite")
    if not (x1 > x0 and y1 > y0):
        raise ValueError(f"a box without area: {x1 - x0:g} x {y1 - y0:g} pixels")
    inside = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if not (inside[2] > inside[0] and inside[3] > inside[1]):
        raise ValueError(f"a box outside of its image of {width} x {height} pixels")
    over = max(-x0, -y0, x1 - width, y1 - height)
    return inside, f"a box that leaves its image of {width} x {height} pixels: it is cut" if over >= 1 else ""


def split_of(name: str) -> str:
    """The split that a folder in a relative name says; '' = none."""
    return next((SPLITS[part.lower()] for part in name.split("/")[:-1] if part.lower() in SPLITS), "")


def pictures(names: Iterable[str]) -> list[str]:
    """Names without those of pictures that say something of others: masks in VOC's folders, or beside annotations."""
    return [name for name in names if not _BESIDE & {part.lower() for part in name.split("/")[:-1]}]


class Apart:
    """Names for files such that no two differ in their endings alone, since what is said of each lies in a file too."""

    def __init__(self, top: str, split: Sequence[str] | np.ndarray = ()) -> None:
        self.top, self.split, self.taken = top, split, set[str]()

    def keeps(self, ids: Sequence[str]) -> bool:
        """Whether names may stay as they are: below `top`, apart, with the splits that their folders say."""
        stems = {fold(name.rpartition(".")[0]) for name in ids}
        below = all(name.startswith(f"{self.top}/") for name in ids)
        return below and len(stems) == len(ids) and all(split_of(n) == str(s) for n, s in zip(ids, self.split))

    def place(self, row: int, leaf: str) -> str:
        """Where an image goes: top/split/leaf, with a number where the name is taken."""
        word = self.split[row] if len(self.split) and self.split[row] in ("train", "val", "test") else ""
        stem, dot, ending = leaf.rpartition(".")
        base, count = "/".join(filter(None, (self.top, word, stem))), 1
        name = base
        while fold(name) in self.taken:
            count += 1
            name = f"{base}-{count}"
        self.taken.add(fold(name))
        return f"{name}{dot}{ending}"
