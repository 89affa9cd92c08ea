"""What a data format is, and the registry of formats: every file in this folder."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError, did_you_mean, visible
from modicum.core.registry import load_part, parts
from modicum.data.images import contents, decode
from modicum.data.tiff import page_of

_FOLDER = "data/formats"
FIELDS = ("split", "group", "session", "domain")
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
POOLS = ("unlabelled", "unlabeled", "pool")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A file or row that was skipped, or a cell that was not believed: where it is and why, as they can be shown."""

    where: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", visible(self.where))
        object.__setattr__(self, "reason", visible(self.reason))


@dataclass(frozen=True, slots=True)
class Read:
    """What reading gave: the images with their labels, and what could not be used."""

    data: Dataset
    faults: list[Fault] = field(default_factory=list)


@dataclass
class Found:
    """Images at a place and what their storage says of them, before a table beside it speaks.

    reader, root, ids: as in a Dataset.  names: classes in order.  cls: int64 (N,), -1 unknown.  fields: words (N,) for
    those of FIELDS that the storage has, '' where it says nothing.  by_folder: cls and split are what folders are
    called, which a table may overrule; odd: what is odd about the folders if they are classes.  drawn: boxes, masks and
    the like, a delta whose rows count in `ids`.
    """

    reader: str
    root: str
    ids: Sequence[str]
    names: Sequence[str]
    cls: np.ndarray
    fields: dict[str, np.ndarray] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    by_folder: bool = False
    odd: list[Fault] = field(default_factory=list)
    drawn: Dataset | None = None

    def read(self) -> Read:
        """As it is, without a table."""
        fields: dict[str, Any] = {**self.fields, "split": pooled(self.cls, self.field("split"))}
        data = Dataset.build(self.ids, self.names, reader=self.reader, root=self.root, cls=self.cls, **fields)
        return Read(self.with_drawn(data), self.faults + self.odd)

    def with_drawn(self, data: Dataset) -> Dataset:
        """A set of these images with what is drawn in them."""
        return data if self.drawn is None else data + self.drawn

    def field(self, name: str) -> np.ndarray:
        """One of the fields, object (N,)."""
        return self.fields[name] if name in self.fields else np.full(len(self.ids), "", object)


class Format(ABC):
    """One way in which images and labels lie on disk.

    NAME: the word in `Dataset.reader` and behind `convert --to`.  LAYOUT: what is read, for the error that lists what
    is understood.  WRITES: what `write` makes; '' = this is only read.
    """

    NAME: ClassVar[str] = ""
    LAYOUT: ClassVar[str] = ""
    WRITES: ClassVar[str] = ""

    @abstractmethod
    def sniff(self, path: Path) -> tuple[int, str]:
        """How sure, 0 to 100, that `read` can read this place, and the reason in a few words.  Quick; never raises."""

    @abstractmethod
    def read(self, path: Path) -> Read:
        """Ids, labels, splits and faults, without decoding an image.  DataError if the whole cannot be used."""

    def write(self, data: Dataset, folder: Path, progress: Progress) -> list[str]:
        """Write the images, and what this layout says by itself, into an empty folder; -> the id of each image there.

        What else is known goes into a table beside it, which `data.convert` writes.  Images are read one at a time.
        DataError names the image that this format has no place for.
        """
        raise DataError(f"{self.NAME!r} is only read", where=folder, fix=f"Known: {', '.join(writable())}.")


class Images(Format):
    """A format that holds the pixels.  By itself: one file an image, which is called as its id, below the root."""

    @abstractmethod
    def find(self, path: Path) -> Found:
        """The images and what their storage says.  DataError if the whole cannot be used."""

    def read(self, path: Path) -> Read:
        return self.find(path).read()

    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        """The image of a row, uint8 or uint16 (H,W,c), c 1 or 3.  DataError says why it cannot be decoded."""
        name = str(data.ids[row])
        return decode(inside(data.root, name), name)

    def stored(self, data: Dataset, row: int) -> bytes | None:
        """The image of a row as it is stored: a whole PNG, JPEG ... file; None for bare pixels or a page of a TIFF."""
        name = str(data.ids[row])
        return contents(inside(data.root, name), name)

    def all_pixels(self, data: Dataset) -> np.ndarray | None:
        """All images, (N,H,W,c), where they are of one size and cheap to have at once; None = ask one by one."""
        return None

    def files(self, data: Dataset) -> Iterable[Path]:
        """The files that the pixels come from: when one changes, a cache of the pixels is stale."""
        return (Path(data.root, page_of(str(name))[0]) for name in data.ids)


@functools.cache
def formats() -> dict[str, Format]:
    """name -> format, for every file of this folder."""
    found = (load_part(_FOLDER, name, Format)() for name in parts(_FOLDER))
    return {f.NAME: f for f in found}


@functools.cache
def holders() -> dict[str, Images]:
    """Those of them that hold pixels."""
    return {name: f for name, f in formats().items() if isinstance(f, Images)}


def writable() -> dict[str, Format]:
    """Those of them that can be written."""
    return {name: f for name, f in formats().items() if f.WRITES}


def format_of(data: Dataset) -> Images:
    """The format that reads a set's pixels."""
    known = holders()
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
    if name[:1] != "/" and ".." not in name and "\\" not in name and ":" not in name:
        return False  # nearly every name
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
