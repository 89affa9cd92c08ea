"""A folder of images and a table beside them, CSV, TSV or Parquet, which adds to what class folders say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modicum.core.dataset import ANNOTATOR, HUMAN, Dataset
from modicum.core.errors import DataError
from modicum.core.tables import ANNOTATIONS, LOOKED, SOURCES, table
from modicum.data.formats import Fault, Format, Read, inside, ordered, pooled
from modicum.data.formats.folders import places
from modicum.data.images import decode
from modicum.data.tables import Columns, Rows, Said, header_of, rows_of
from modicum.data.walk import walk

_SUFFIXES = (".csv", ".tsv", ".parquet")


class CsvTable(Format):
    """Images and one table that says something of them."""

    NAME = "table"
    LAYOUT = (
        "a folder of images with a CSV, TSV or Parquet table: image, and class, split, group, domain, annotator, "
        "p:NAME (probabilities) or tag:NAME (1, 0 or empty)"
    )

    def sniff(self, path: Path) -> tuple[int, str]:
        fits = _fitting(path)
        if not fits:
            return 0, "no table that names images"
        return 90 if path.is_file() else 80, f"{len(fits)} tables that name images"

    def read(self, path: Path) -> Read:
        fits = _fitting(path)
        if not fits:
            raise DataError("no table that names images", where=path, fix=f"Understood is {self.LAYOUT}.")
        if len(fits) > 1:
            found = f"{len(fits)} tables could be meant: {', '.join(f.name for f in fits)}"
            raise DataError(found, where=path, fix="Give the table itself.")
        file = fits[0]
        root = file.parent
        names, faults = walk(root)
        if not names:
            raise DataError("no image files beside the table", where=file)
        columns = Columns.of(header_of(file), str(file))
        said = Said(Rows(names), columns, file.name)
        lines = 0
        for line, cells in rows_of(file, said.faults):
            lines += 1
            said.add(line, cells)
        if lines and not said.believed:
            found = f"none of {lines} rows can be used; {said.faults[0].where}: {said.faults[0].reason}"
            raise DataError(found, where=file, fix="Give image names relative to the table.")
        faults += _beside(said, root, names)
        return Read(_dataset(said, names, str(root.resolve())), faults + said.faults)

    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        name = str(data.ids[row])
        return decode(inside(data.root, name), name)


def _fitting(path: Path) -> list[Path]:
    """Tables at a path whose header names an image and something about it."""
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    out = []
    for file in files:
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".") and file.is_file():
            try:
                Columns.of(header_of(file), str(file))
            except DataError:
                continue
            out.append(file)
    return out


def _beside(said: Said, root: Path, names: list[str]) -> list[Fault]:
    """Add to the rows what class and split folders say; -> what is odd about the folders.

    Folders are only paths, not classes, where the table speaks of classes of which no folder has the name, and names
    images in the folders; so is a single folder that the table's classes do not name.
    """
    placed, odd = places(root, names)
    folders, classes = {c for _, c in placed} - {""}, said.classes
    apart = bool(classes) and any(placed[row][1] for row in said.lines)
    classed = bool(folders & classes) or (len(folders) > 1 and not apart)
    for row, (part, word) in enumerate(placed):
        said.lies(row, part, word if classed else "")
    return odd if classed else []


def _dataset(said: Said, names: list[str], root: str) -> Dataset:
    """Images with all that was said of them."""
    closed = said.columns.closed
    classes = [*closed, *ordered(said.classes - set(closed))]
    index = {c: i for i, c in enumerate(classes)}
    cls = np.full(len(names), -1, np.int64)
    for row, word in said.cls.items():
        cls[row] = index[word]
    known = cls.copy()
    known[[*said.probs, *(r for r, *_ in said.votes), *(r for r, *_ in said.tags)]] = 0
    images = {k: _filled(len(names), v) for k, v in said.fields.items()}
    images["split"] = pooled(known, list(images["split"]))
    probs = {}
    if said.columns.probs:
        probs["probs"] = np.full((len(names), len(classes)), np.nan, np.float32)
        at = [index[c] for c in said.columns.probs]
        for row, values in said.probs.items():
            probs["probs"][row] = 0
            probs["probs"][row, at] = values
    data = Dataset.build(names, classes, reader=CsvTable.NAME, root=root, cls=cls, columns=probs, **images)
    if said.tags:
        data = data + _tags(data, said.tags, index)
    return data + _votes(data, said.votes, index) if said.votes else data


def _filled(n: int, values: dict[int, str]) -> np.ndarray:
    out = np.full(n, "", object)
    for row, word in values.items():
        out[row] = word
    return out


def _tags(data: Dataset, tags: list[tuple[int, str, int]], index: dict[str, int]) -> Dataset:
    """What was said of each image and class, and that it was looked for."""
    row, cls = np.array([r for r, _, _ in tags]), np.array([index[c] for _, c, _ in tags])
    place: dict[str, Any] = {"row": row, "kind": "tags", "class": cls}
    looked = table(LOOKED, **place, source=0, complete=np.ones(len(tags), np.int8))
    delta = data.delta(source="human", who=HUMAN, value=np.array([v for _, _, v in tags], np.float32), **place)
    return replace(delta, looked=looked)


def _votes(data: Dataset, votes: list[tuple[int, str, str]], index: dict[str, int]) -> Dataset:
    """One source an annotator."""
    people = ordered(a for _, a, _ in votes)
    number = {a: i for i, a in enumerate(people)}
    rows = {"row": np.array([r for r, _, _ in votes]), "class": np.array([index[w] for _, _, w in votes])}
    said = table(ANNOTATIONS, **rows, kind="votes", source=np.array([number[a] for _, a, _ in votes]))
    sources = table(SOURCES, name=pa.array(people, pa.string()), who=ANNOTATOR, run="", seconds=0.0)
    return replace(data.empty(), annotations=said, sources=sources, classes=data.classes)


