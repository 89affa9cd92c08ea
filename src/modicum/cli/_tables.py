"""CSV out, safe to open in a spreadsheet, and `--set` in."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modicum.core.errors import SettingsError

if TYPE_CHECKING:
    from modicum.core.dataset import Dataset


def settings(pairs: Sequence[str] | None, option: str = "--set") -> dict[str, str]:
    """`--set a=1 --set b=2` -> {"a": "1", "b": "2"}."""
    out = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"{pair!r} has no value", where=option, fix=f"Write {option} name=value.")
        out[name] = value
    return out


def guarded(cell: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = str(cell)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not _number(text) else text


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_rows(path: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """A CSV file; returns how many rows."""
    count = 0
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heads)
        for row in rows:
            writer.writerow([guarded(c) for c in row])
            count += 1
    return count


def write_labels(delta: Dataset, path: str, source: str) -> int:
    """A label method's delta as CSV: image, class, confidence."""
    from modicum.engine.verbs import ids_of

    ids = ids_of(source)
    given = delta.of_kind("class")
    names = delta.names
    sure = given["confidence"].to_pylist()
    given_rows = zip(given["row"].to_pylist(), given["class"].to_pylist(), sure, strict=True)
    rows = ((ids[r], names[c], "" if p is None else f"{p:.4f}") for r, c, p in given_rows)
    return write_rows(path, ("image", "class", "confidence"), rows)
