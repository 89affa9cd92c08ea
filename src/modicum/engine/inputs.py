"""Images that a person names: files, folders, tables, Parquet sets; one after the other, never all at once."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import formats
from modicum.data.images import decode
from modicum.data.read import pixels, read


class Input(NamedTuple):
    """name: the file, or the image's id in its set.  data, row: its set; None and -1 for a file by itself.
    pixels: uint8 or uint16 (H,W,c), c 1 or 3; None where `fault` says why it cannot be read."""

    name: str
    data: Dataset | None
    row: int
    pixels: np.ndarray | None
    fault: str = ""


@dataclass(frozen=True)
class Inputs:
    """parts: files, and sets as `fit` reads them.  faults: (where, reason) of what reading the sets passed over."""

    parts: list[Path | Dataset] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)

    @staticmethod
    def of(places: Sequence[str | Path]) -> Inputs:
        """No image is decoded.  DataError for a place that is not there, or a set that cannot be read."""
        out = Inputs()
        for place in places:
            if not str(place).startswith("sample:") and not Path(place).exists():
                fix = "Give image files, folders or data that `modicum scan` understands."
                raise DataError("there is no such file or folder", where=place, fix=fix)
            if not _is_set(place):
                out.parts.append(Path(place))
                continue
            found = read(place)
            out.parts.append(found.data)
            out.faults.extend((f.where, f.reason) for f in found.faults)
        return out

    def __len__(self) -> int:
        return sum(len(p) if isinstance(p, Dataset) else 1 for p in self.parts)

    def __iter__(self) -> Iterator[Input]:
        return self.some(range(len(self)))

    def some(self, wanted: Container[int]) -> Iterator[Input]:
        """Those whose places in the order are wanted; no other is decoded."""
        place = itertools.count()
        for part in self.parts:
            if isinstance(part, Dataset):
                for row, name in enumerate(part.ids):
                    if next(place) in wanted:
                        file = Path(part.root, str(name))
                        yield _decoded(str(file if file.is_file() else name), part, row)
            elif next(place) in wanted:
                yield _decoded(str(part), None, -1)


def _is_set(place: str | Path) -> bool:
    """Whether a place holds many images: a folder, or a file of some format.  A file that fits none is an image."""
    if str(place).startswith("sample:") or Path(place).is_dir():
        return True
    return any(f.sniff(Path(place))[0] for f in formats().values())


def _decoded(name: str, data: Dataset | None, row: int) -> Input:
    try:
        return Input(name, data, row, decode(name) if data is None else pixels(data, row))
    except DataError as error:
        return Input(name, data, row, None, error.found)
