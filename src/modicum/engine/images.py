"""The pixels of a run: those that it began with, whatever became of the files meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.core.places import cache_home
from modicum.data.cache import Pixels
from modicum.data.formats import format_of
from modicum.data.stream import content_of
from modicum.runs.run import Run

_SHOWN = 5


class Changed(NamedTuple):
    """Ids of images whose file is gone, and whose pixels are not those that were scanned."""

    gone: list[str]
    other: list[str]

    def __str__(self) -> str:
        parts = ((self.gone, "removed"), (self.other, "changed"))
        return " and ".join(f"{_many(ids)} {what} ({_first(ids)})" for ids, what in parts if ids)


def images_of(run: Run, data: Dataset) -> Pixels:
    """The pixels of a run's data: from the cache that it began with, whose files nobody asks for any more; where that
    is gone, decoded again.  DataError where the images are not those that were scanned; it says which.
    """
    chosen = run.config["choices"]
    try:
        kept = Pixels.load(cache_home() / chosen["pixels"])
        if not len(unlike(data, kept)):
            return kept
    except DataError:
        pass
    page = run / "data" / "dataset.json"
    fix = f"Put back the images as they were; if they lie elsewhere now, write where as `root` into {page}."
    if data.root and not data.root.startswith("sample:") and not Path(data.root).exists():
        found = "the images of this run are gone, and so are their pixels in the cache"
        raise DataError(found, where=data.root, fix=fix)
    made = Pixels.build(data, cache_home(), chosen["cache"])
    if len(rows := unlike(data, made)):
        names = [str(n) for n in data.ids[rows]]
        found = f"{_many(names)} changed since this run began, and the old pixels are in no cache: {_first(names)}"
        raise DataError(found, where=data.root, fix=fix)
    return made


def unlike(data: Dataset, pixels: Pixels) -> np.ndarray:
    """Rows whose pixels are not the ones that were scanned, by their hashes, int64."""
    if len(pixels) != len(data):
        return np.arange(len(data))
    return np.flatnonzero(pixels.index["hash"] != data.field("hash").astype("S32"))


def changed(data: Dataset, pixels: Pixels) -> Changed:
    """Which images were removed or changed since their cache was written.

    Only files that the system touched since then are decoded; sets that lie in fewer files than images are passed over.
    """
    form = format_of(data)
    files, gone, other = list(form.files(data)), [], []
    if len(files) != len(data):
        return Changed([], [])
    since = (pixels.home / "meta.json").stat().st_mtime_ns
    hashes = pixels.index["hash"]
    for row, file in enumerate(files):
        try:
            state = file.stat()
            fresh = max(state.st_mtime_ns, state.st_ctime_ns) > since
            if fresh and content_of(data, row).encode() != hashes[row]:
                other.append(str(data.ids[row]))
        except FileNotFoundError:
            gone.append(str(data.ids[row]))
        except (OSError, DataError):
            if hashes[row]:
                other.append(str(data.ids[row]))
    return Changed(gone, other)


def _many(names: list[str]) -> str:
    return "1 image was" if len(names) == 1 else f"{len(names):,} images were"


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
