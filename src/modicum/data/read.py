"""From a path to a Dataset: the best-fitting format wins, and the error says what was seen and what is understood."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError, did_you_mean
from modicum.data.formats import Format, Read, format_of, formats
from modicum.data.stream import refuse


def read(path: str | Path, format: str = "", strict: bool = False) -> Read:
    """Images, labels and faults at a path: a folder, a table, a Parquet file, or 'sample:digits'.

    format: the name of a format, or '' for the one that fits best.  No image is decoded: sizes and hashes are filled by
    `scan`.  DataError if nothing is there, nothing fits, or several formats fit equally well; with `strict`, at the
    first fault too.
    """
    place = Path(path)
    if format and format not in formats():
        raise DataError(f"there is no format {format!r}", where=path, fix=did_you_mean(format, formats()))
    sample = str(path).startswith("sample:")
    if not sample and not place.exists():
        raise DataError("there is nothing here", where=path, fix="Give the folder that holds the images.")
    try:
        if not sample and place.is_dir() and not any(place.iterdir()):
            raise DataError("the folder is empty", where=path, fix=_layouts())
        found = (formats()[format] if format else _best(place)).read(place)
    except OSError as error:
        fix = "Check that it is there and may be read."
        raise DataError(f"cannot be read: {error.strerror or error}", where=error.filename or path, fix=fix) from None
    if not len(found.data):
        first = f": {found.faults[0].where}: {found.faults[0].reason}" if found.faults else ""
        raise DataError(f"no image can be used{first}", where=path, fix="Save the images again, as PNG or JPEG.")
    if strict:
        refuse(found.faults)
    return found


def pixels(data: Dataset, row: int) -> np.ndarray:
    """The image of a row as it is stored, uint8 or uint16 (H,W,c), c 1 or 3; DataError if it cannot be decoded."""
    return format_of(data).pixels(data, row)


def _best(place: Path) -> Format:
    scores = {f.NAME: f.sniff(place)[0] for f in formats().values()}
    top = max(scores.values())
    if not top:
        raise DataError(f"found {_seen(place)}: no layout that is understood", where=place, fix=_layouts())
    best = [name for name, score in scores.items() if score == top]
    if len(best) > 1:
        raise DataError(f"fits several formats: {', '.join(best)}", where=place, fix=f"Choose one: format={best[0]!r}.")
    return formats()[best[0]]


def _layouts() -> str:
    """The two layouts that most sets have, and the names of all."""
    usual = (f"  {name}: {formats()[name].LAYOUT}" for name in ("folders", "table"))
    names = ", ".join(formats())
    return "\n".join(("Understood are:", *usual, f"  {names}: docs/reference/formats.md says how each lies on disk"))


def _seen(place: Path) -> str:
    if not place.is_dir():
        return f"a file {place.suffix or 'without ending'}" if place.exists() else repr(str(place))
    with os.scandir(place) as entries:
        words = ("folders" if e.is_dir() else f"{Path(e.name).suffix.lower() or 'nameless'} files" for e in entries)
        kinds = Counter(words)
    return ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(5))
