"""What a data format is, and the registry of formats: every file in this folder."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import ClassVar

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError, did_you_mean
from modicum.core.registry import load_part, parts

_FOLDER = "data/formats"
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
POOLS = ("unlabelled", "unlabeled", "pool")


@dataclass(frozen=True, slots=True)
class Fault:
    """A file or row that was skipped, or a cell that was not believed: where it is and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Read:
    """What reading gave: the images with their labels, and what could not be used."""

    data: Dataset
    faults: list[Fault] = field(default_factory=list)


class Format(ABC):
    """One way in which images and labels lie on disk.

    NAME: the word in `Dataset.reader`.  LAYOUT: what it looks like, for the error that lists what is understood.
    """

    NAME: ClassVar[str] = ""
    LAYOUT: ClassVar[str] = ""

    @abstractmethod
    def sniff(self, path: Path) -> tuple[int, str]:
        """How sure, 0 to 100, that `read` can read this place, and the reason in a few words.  Quick; never raises."""

    @abstractmethod
    def read(self, path: Path) -> Read:
        """Ids, labels, splits and faults, without decoding an image.  DataError if the whole cannot be used."""

    @abstractmethod
    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        """The image of a row, uint8 or uint16 (H,W,c), c 1 or 3.  DataError says why it cannot be decoded."""

    def all_pixels(self, data: Dataset) -> np.ndarray | None:
        """All images, (N,H,W,c), where they are of one size and cheap to have at once; None = ask one by one."""
        return None

    def files(self, data: Dataset) -> Iterable[Path]:
        """The files that the pixels come from: when one changes, a cache of the pixels is stale."""
        return (Path(data.root, str(name)) for name in data.ids)


@functools.cache
def formats() -> dict[str, Format]:
    """name -> format, for every file of this folder."""
    found = (load_part(_FOLDER, name, Format)() for name in parts(_FOLDER))
    return {f.NAME: f for f in found}


def format_of(data: Dataset) -> Format:
    """The format that reads a set's pixels."""
    known = formats()
    if data.reader not in known:
        fix = did_you_mean(data.reader, known)
        raise DataError(f"no format {data.reader!r} reads these images", where=data.root, fix=fix)
    return known[data.reader]


def inside(root: str | Path, name: str) -> Path:
    """root / name; DataError where the name leads out of the root."""
    if leaves(name):
        raise DataError("the name leads out of the folder", where=name)
    return Path(root, name)


def leaves(name: str) -> bool:
    """Whether a relative name, read as POSIX or as Windows, is absolute or climbs with `..`."""
    windows = PureWindowsPath(name)
    return bool(windows.drive or windows.root) or PurePosixPath(name).is_absolute() or ".." in windows.parts


def ordered(names: Iterable[str]) -> list[str]:
    """Class names in order: by value where all are whole numbers, else by letters."""
    unique = sorted(set(names))
    return sorted(unique, key=int) if unique and all(n.isascii() and n.isdecimal() for n in unique) else unique


def pooled(cls: np.ndarray, split: Sequence[str] | np.ndarray) -> np.ndarray:
    """Splits (N,) where images without class and split, beside images with a class, belong to `train`.

    They can only serve as a pool to learn from; in a set without any class they stay undecided.
    """
    out = np.array(split, dtype=object)
    if (cls >= 0).any():
        out[(cls < 0) & (out == "")] = "train"
    return out
