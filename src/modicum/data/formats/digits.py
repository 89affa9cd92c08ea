"""scikit-learn's 1,797 handwritten digits, 8 x 8 grey: a set that is always there, for the docs and tests."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from modicum.core.dataset import Dataset
from modicum.data.formats import Found, Images

PLACE = "sample:digits"


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (1797,8,8,1) and int64 (1797,).  The source counts 0 to 16 (Alpaydin, Kaynak, UCI, 1998)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None], found.target.astype(np.int64)


class Digits(Images):
    """The digits of scikit-learn, at the place 'sample:digits'."""

    NAME = "digits"
    LAYOUT = "the word sample:digits (1,797 handwritten digits that come with scikit-learn)"

    def sniff(self, path: Path) -> tuple[int, str]:
        return (100, "the sample of that name") if str(path) == PLACE else (0, "not 'sample:digits'")

    def find(self, path: Path) -> Found:
        _, cls = digits()
        ids = [f"digit-{i:04d}" for i in range(len(cls))]
        return Found(self.NAME, PLACE, ids, [*map(str, range(10))], cls)

    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        return digits()[0][int(str(data.ids[row]).rpartition("-")[2])]

    def stored(self, data: Dataset, row: int) -> None:
        return None

    def all_pixels(self, data: Dataset) -> np.ndarray | None:
        return digits()[0][[int(str(i).rpartition("-")[2]) for i in data.ids]]

    def files(self, data: Dataset) -> Iterable[Path]:
        return ()
