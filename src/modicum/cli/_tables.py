"""CSV out, safe to open in a spreadsheet, and `--set` in."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modicum.core.disk import whole, whole_folder
from modicum.core.errors import MachineError, SettingsError
from modicum.data.names import guard

if TYPE_CHECKING:
    from modicum.core.dataset import Dataset


def settings(pairs: Sequence[str] | None, option: str = "--set") -> dict[str, str]:
    """`--set a=1 --set b=2` -> {"a": "1", "b": "2"}."""
    out: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            lacks = "value" if not equals else "name"
            raise SettingsError(f"{pair!r} has no {lacks}", where=option, fix=f"Write {option} name=value.")
        if name in out:
            raise SettingsError(f"{name!r} is set twice: {out[name]!r} and {value!r}", where=option, fix="Set it once.")
        out[name] = value
    return out


def place(out: str, *endings: str) -> Path:
    """Where `--out` may be written, found out before the work and not after it.  endings: which are allowed, '' = any.

    SettingsError for a folder, another ending, or a file where a folder must be; MachineError where nobody may write.
    """
    path = Path(out)
    if path.is_dir():
        fix = f"Name a file in it, such as {path / ('out' + (endings[0] if endings else '.csv'))}."
        raise SettingsError("a folder, where a file is to be written", where=f"--out {out}", fix=fix)
    if endings and path.suffix.lower() not in endings:
        fix = f"Name a file that ends in {' or '.join(endings)}."
        raise SettingsError(f"{path.suffix or 'a name without ending'} is not written", where=f"--out {out}", fix=fix)
    free_to_write(path.parent)
    return path


def free_to_write(folder: Path) -> None:
    """SettingsError where a part of a folder's path is a file; MachineError where it cannot be made or written to."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not there.is_dir():
        raise SettingsError("a file, where a folder must be", where=there, fix="Choose another place.")
    if not os.access(there, os.W_OK):
        fix = "Choose another place, or change who may write there."
        raise MachineError("the folder cannot be written", where=there, fix=fix)


def write_rows(path: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """A CSV file, whole or not at all, and the folders above it; returns how many rows."""
    count, target = 0, Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as making, making.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(heads)
        for row in rows:
            writer.writerow([guard(str(c)) for c in row])
            count += 1
    return count


def write_labels(delta: Dataset, path: str, source: str) -> int:
    """A label method's delta as CSV: image, class, confidence; of boxes and masks also x0, y0, x1, y1 (pixels, half
    open); of masks also the name of a PNG each, in the folder NAME-masks beside NAME.csv."""
    from modicum.engine.verbs import ids_of

    ids, names = ids_of(source), delta.names
    kind = next((k for k in ("masks", "boxes") if delta.of_kind(k).num_rows), "class")
    given = delta.of_kind(kind).to_pylist()
    frame = () if kind == "class" else ("x0", "y0", "x1", "y1")
    files = _write_masks([g["data"] for g in given], Path(path)) if kind == "masks" else []
    rows = (
        (ids[g["row"]], names[g["class"]], "" if g["confidence"] is None else f"{g['confidence']:.4f}",
         *(f"{g[k]:.2f}" for k in frame), *files[i : i + 1])
        for i, g in enumerate(given)
    )  # fmt: skip
    return write_rows(path, ("image", "class", "confidence", *frame, *(("mask",) if files else ())), rows)


def _write_masks(pictures: Sequence[bytes], table: Path) -> list[str]:
    """PNG files in a new folder named after a table; their paths from the table."""
    folder = table.with_name(f"{table.stem}-masks")
    if folder.exists():
        raise SettingsError("there is such a folder already", where=folder, fix="Move it away, or give another --out.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    names = [f"{i:06d}.png" for i in range(len(pictures))]
    with whole_folder(folder) as making:
        for name, picture in zip(names, pictures, strict=True):
            (making / name).write_bytes(picture)
    return [f"{folder.name}/{name}" for name in names]
