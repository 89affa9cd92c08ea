"""Rows of a person's table, cell by cell: what is believed, and what becomes a fault."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modicum.core.errors import DataError, did_you_mean
from modicum.data.formats import SPLITS, Fault, leaves

_IMAGE = ("image", "file", "filename", "file_name", "path", "filepath", "image_path", "image_id", "id")
_CLASS = ("class", "label")
_ANNOTATOR = ("annotator", "worker")
_FIELDS = ("split", "group", "domain")
_WHOLE = re.compile(r"(-?\d+)\.0+")
_LONGEST = 200


class _Doubt(Exception):
    """Why a cell is not believed."""


@dataclass(frozen=True)
class Columns:
    """Which column holds what, by position; -1 = there is none."""

    image: int
    label: int = -1
    annotator: int = -1
    fields: dict[str, int] = field(default_factory=dict)
    probs: dict[str, int] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    width: int = 0

    @staticmethod
    def of(header: list[str], where: str) -> Columns:
        """Read a header; DataError where no column names the image, or none says anything about it."""
        names = [h.strip() for h in header]
        lower = [n.lower() for n in names]
        doubled = sorted({n for n in lower if n and lower.count(n) > 1})
        if doubled:
            raise DataError(f"two columns are called {doubled[0]!r}", where=where)

        def first(words: tuple[str, ...]) -> int:
            return next((lower.index(w) for w in words if w in lower), -1)

        def begins(prefix: str) -> dict[str, int]:
            found = {n[len(prefix) :].strip(): i for i, n in enumerate(names) if n.lower().startswith(prefix)}
            return {n: i for n, i in found.items() if n}

        columns = Columns(
            first(_IMAGE), first(_CLASS), first(_ANNOTATOR), {f: lower.index(f) for f in _FIELDS if f in lower},
            begins("p:"), begins("tag:"), len(names),
        )  # fmt: skip
        if columns.image < 0:
            raise DataError("no column names the image", where=where, fix=f"Call it one of: {', '.join(_IMAGE)}.")
        if columns.label < 0 and not (columns.fields or columns.probs or columns.tags):
            fix = "Known: class, label, split, group, domain, p:NAME, tag:NAME."
            raise DataError("no column says anything about the images", where=where, fix=fix)
        return columns

    @property
    def closed(self) -> list[str]:
        """Class names where the header lists them; [] where the cells do."""
        return list(dict.fromkeys((*self.probs, *self.tags)))


class Rows:
    """Finds the row of an image by what a table calls it: its relative name, or its file name with or without ending.

    Only files that were found below the folder can be named: nothing is looked up on the disk.
    """

    def __init__(self, names: list[str]) -> None:
        self._exact = {n: i for i, n in enumerate(names)}
        self._loose: dict[str, int] = {}
        for i, name in enumerate(names):
            for word in {PurePosixPath(name).name, PurePosixPath(name).stem, name.rpartition(".")[0]}:
                self._loose[word] = -1 if word in self._loose else i

    def find(self, cell: str) -> int:
        """The image's row; _Doubt says why there is none."""
        name = cell.strip().replace("\\", "/")
        if not name:
            raise _Doubt("no image is named")
        if leaves(name):
            raise _Doubt(f"{_shown(cell)} leads out of the folder")
        name = name.removeprefix("./")
        row = self._exact.get(name, self._loose.get(name))
        if row is None:
            raise _Doubt(f"no image {_shown(cell)}")
        if row < 0:
            raise _Doubt(f"several images are called {_shown(cell)}")
        return row


class Said:
    """What the rows of one table say; `add` takes them one by one.

    cls, fields: by image row.  probs: float (K,) by image row.  tags: (row, class, 1 or 0).  votes: (row, annotator,
    class).  faults: what was not believed, with file and row.  believed: rows that said something.  lines: by image
    row, the first row of the table that names it.
    """

    def __init__(self, rows: Rows, columns: Columns, where: str) -> None:
        self.columns, self.believed = columns, 0
        self.cls: dict[int, str] = {}
        self.fields: dict[str, dict[int, str]] = {f: {} for f in _FIELDS}
        self.probs: dict[int, np.ndarray] = {}
        self.tags: list[tuple[int, str, int]] = []
        self.votes: list[tuple[int, str, str]] = []
        self.faults: list[Fault] = []
        self.lines: dict[int, int] = {}
        self._rows, self._where = rows, where
        self._seen: dict[tuple[int, str], int] = {}

    def add(self, line: int, cells: list[str]) -> None:
        """One row of the table."""
        if len(cells) > self.columns.width and any(c.strip() for c in cells[self.columns.width :]):
            return self._fault(line, f"{len(cells)} cells, but the header has {self.columns.width}")
        cells = cells + [""] * (self.columns.width - len(cells))
        annotator = cells[self.columns.annotator].strip() if self.columns.annotator >= 0 else ""
        try:
            row = self._rows.find(cells[self.columns.image])
            if self.columns.annotator >= 0 and not annotator:
                raise _Doubt("no annotator is named")
        except _Doubt as doubt:
            return self._fault(line, str(doubt))
        before = self._seen.setdefault((row, annotator), line)
        if before != line:
            return self._fault(line, f"the image was already in row {before}; this row is not used")
        self.believed += 1
        self.lines.setdefault(row, line)
        for part in (self._label, self._probs, self._tags, self._fields):
            try:
                part(row, annotator, cells)
            except _Doubt as doubt:
                self._fault(line, str(doubt))
        return None

    @property
    def classes(self) -> set[str]:
        """Every class that was spoken of."""
        return {*self.columns.closed, *self.cls.values(), *(word for _, _, word in self.votes)}

    def lies(self, row: int, split: str, word: str) -> None:
        """Where an image lies, as split and class ('' = not said): it stands, and a row that contradicts it is a fault.

        Only `train` gives way to the table: a pool's images can be labelled for any split.
        """
        if word and self.cls.setdefault(row, word) != word:
            self._fault(self.lines[row], f"class {_shown(self.cls[row])}, but it lies in {word}/: that counts")
            self.cls[row] = word
        splits = self.fields["split"]
        if split and splits.setdefault(row, split) != split and split != "train":
            self._fault(self.lines[row], f"split {_shown(splits[row])}, but it lies in {split}/: that counts")
            splits[row] = split

    def _fault(self, line: int, reason: str) -> None:
        self.faults.append(Fault(f"{self._where}: row {line}", reason))

    def _label(self, row: int, annotator: str, cells: list[str]) -> None:
        word = _word(cells[self.columns.label]) if self.columns.label >= 0 else ""
        closed = self.columns.closed
        if word and closed and word not in closed:
            raise _Doubt(f"unknown class {_shown(word)}. {did_you_mean(word, closed)}")
        if word and annotator:
            self.votes.append((row, annotator, word))
        elif word:
            self.cls[row] = word

    def _probs(self, row: int, annotator: str, cells: list[str]) -> None:
        given = [cells[i].strip() for i in self.columns.probs.values()]
        if not any(given):
            return
        values = np.array([_number(c) for c in given])
        if (values < 0).any() or abs(values.sum() - 1) > 0.01:
            raise _Doubt(f"not probabilities: from {values.min():g}, sum {values.sum():g}")
        self.probs[row] = values / values.sum()

    def _tags(self, row: int, annotator: str, cells: list[str]) -> None:
        states = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "": -1}
        said = {name: cells[i].strip().lower() for name, i in self.columns.tags.items()}
        self.tags += [(row, n, states[w]) for n, w in said.items() if states.get(w, -1) >= 0]
        for name, word in said.items():
            if word not in states:
                raise _Doubt(f"tag {name!r} is {_shown(word)}, not 1, 0 or empty")

    def _fields(self, row: int, annotator: str, cells: list[str]) -> None:
        for name, at in self.columns.fields.items():
            word = cells[at].strip()
            if name == "split" and word and word.lower() not in SPLITS:
                raise _Doubt(f"unknown split {_shown(word)}; known: train, val, test")
            if word and not (self.columns.annotator >= 0 and row in self.fields[name]):
                self.fields[name][row] = SPLITS[word.lower()] if name == "split" else word


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 80 else cell[:77] + "...")


def _word(cell: str) -> str:
    """A class name from a cell; '' = unknown."""
    word = cell.strip()
    if whole := _WHOLE.fullmatch(word):
        word = whole[1]
    try:
        if not math.isfinite(float(word)):
            raise _Doubt(f"{_shown(word)} is not a class")
    except ValueError:
        pass
    if len(word) > _LONGEST or not word.isprintable():
        raise _Doubt(f"{_shown(word)} is not a class")
    return word


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise _Doubt(f"{_shown(cell)} is not a number") from None
    if not math.isfinite(value):
        raise _Doubt(f"{_shown(cell)} is not a finite number")
    return value


# -- lines of a file ---------------------------------------------------------------------------------------------------


def header_of(file: Path) -> list[str]:
    """The column names of a table; DataError if it cannot be read."""
    try:
        if file.suffix.lower() == ".parquet":
            schema = pq.read_schema(file)
            return [] if any(_holds_bytes(f.type) for f in schema) else list(schema.names)
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            head = stream.readline(1 << 16)
            return next(csv.reader([head], delimiter=_delimiter(file, head)), [])
    except (OSError, csv.Error, pa.ArrowException) as error:
        raise DataError(f"not a readable table: {' '.join(str(error).split())[:100]}", where=file) from None


def rows_of(file: Path, faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Row numbers (a text file's line, or a Parquet file's row from 1) and cells; broken lines become faults."""
    if file.suffix.lower() == ".parquet":
        yield from _parquet_rows(file)
        return
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        head = stream.readline(1 << 16)
        stream.seek(0)
        reader = csv.reader(stream, delimiter=_delimiter(file, head))
        header = True
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                faults.append(Fault(f"{file.name}: row {reader.line_num}", f"not a row of a table: {error}"))
                continue
            if not header and any(c.strip() for c in cells):
                yield reader.line_num, cells
            header = False


def _parquet_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    line = 0
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=4096):
                for values in zip(*(batch.column(i).to_pylist() for i in range(batch.num_columns))):
                    line += 1
                    yield line, [_cell(v) for v in values]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"not a readable table: {' '.join(str(error).split())[:100]}", where=file) from None


def _holds_bytes(kind: pa.DataType) -> bool:
    """Such a file holds the images themselves: no table about images elsewhere."""
    return any((pa.types.is_binary(kind), pa.types.is_large_binary(kind), pa.types.is_struct(kind)))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _delimiter(file: Path, head: str) -> str:
    if file.suffix.lower() == ".tsv":
        return "\t"
    return max(",;\t", key=head.count)
