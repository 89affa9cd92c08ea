"""What the rows of a person's tables say of images, cell by cell: what is believed, and what becomes a fault.

Columns are found by name, images by what a cell calls them; several tables may speak of one set, as long as they do not
contradict each other.  Letters: N images, K classes of one table.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from modicum.core.errors import DataError, did_you_mean
from modicum.data.formats import FIELDS, SPLITS, Fault
from modicum.data.names import name_of
from modicum.data.rows import Doubt, Rows, shown

IMAGE = ("image", "file", "filename", "file_name", "path", "filepath", "image_path", "image_id", "id")
LABEL = ("class", "label")
ANNOTATOR = ("annotator", "worker")
SURE = "confidence"
_PREDICTIONS = {"confidence", "fault"}  # the columns by which the output of `predict` is known
_WHOLE = re.compile(r"(-?\d+)\.0+", re.ASCII)
_COMMA = re.compile(r"\s*-?\d*,\d+\s*", re.ASCII)
_TAGS = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "": -1}
_HINTS = 20  # faults that say which class may have been meant: looking for it is slow
_MOST = 100_000  # faults that are kept of one table


@dataclass(frozen=True)
class Columns:
    """Which column holds what, by position; -1 = there is none."""

    image: int
    label: int = -1
    annotator: int = -1
    sure: int = -1
    fields: dict[str, int] = field(default_factory=dict)
    probs: dict[str, int] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    width: int = 0

    @staticmethod
    def of(header: list[str], where: str) -> Columns:
        """Read a header; DataError where no column names the image, or none says anything about it."""
        names = [h.strip() for h in header]
        plain = [n.lower() for n in names]
        columns = Columns(
            _first(plain, IMAGE), _first(plain, LABEL), _first(plain, ANNOTATOR), _first(plain, (SURE,)),
            {f: plain.index(f) for f in FIELDS if f in plain},
            _begins(names, "p:", where), _begins(names, "tag:", where), len(names),
        )  # fmt: skip
        doubled = sorted(n for n in {*plain} if n and plain.count(n) > 1 and not n.startswith(("p:", "tag:")))
        if columns.image >= 0 and {*plain} >= _PREDICTIONS:
            fix = "To use them as labels all the same, remove the columns `confidence` and `fault`."
            raise DataError("predictions of a model, not labels", where=where, fix=fix)
        if doubled and columns.speak:
            raise DataError(f"two columns are called {doubled[0]!r}", where=where, fix="Rename or remove one.")
        if columns.image < 0:
            raise DataError("no column names the image", where=where, fix=f"Call it one of: {', '.join(IMAGE)}.")
        if not columns.speak:
            fix = "Known: class, label, split, group, session, domain, p:NAME, tag:NAME."
            raise DataError("no column says anything about the images", where=where, fix=fix)
        return columns

    @staticmethod
    def concern(header: list[str]) -> bool:
        """Whether a table with this header is about images: one that is not may lie beside them."""
        names = {h.strip().lower() for h in header}
        return bool(names & {*IMAGE, *LABEL, *FIELDS}) or any(n.startswith(("p:", "tag:")) for n in names)

    @property
    def speak(self) -> bool:
        """Whether a column says something about images."""
        return self.label >= 0 or bool(self.fields or self.probs or self.tags)

    @functools.cached_property
    def known(self) -> frozenset[str]:
        """`closed` as a set."""
        return frozenset(self.closed)

    @functools.cached_property
    def closed(self) -> list[str]:
        """Class names where the header lists them; [] where the cells do."""
        return list(dict.fromkeys((*self.probs, *self.tags)))

    @property
    def used(self) -> list[int]:
        """The positions of all columns that are read, ascending."""
        single = (self.image, self.label, self.annotator, self.sure)
        listed = (*self.fields.values(), *self.probs.values(), *self.tags.values())
        return sorted({i for i in (*single, *listed) if i >= 0})


def _first(names: list[str], words: Sequence[str]) -> int:
    return next((names.index(w) for w in words if w in names), -1)


def _begins(names: list[str], prefix: str, where: str) -> dict[str, int]:
    """Class -> column, for columns whose name begins so."""
    found: dict[str, int] = {}
    for at, name in enumerate(names):
        if name[: len(prefix)].lower() == prefix and name[len(prefix) :].strip():
            try:
                word = word_of(name[len(prefix) :])
            except ValueError as error:
                raise DataError(f"column {at + 1}: {error}", where=where, fix="Rename the class.") from None
            if word in found:
                raise DataError(f"two columns are called {prefix + word!r}", where=where, fix="Rename or remove one.")
            found[word] = at
    return found


def word_of(cell: str) -> str:
    """A class from a cell; '' = unknown; 2.0 is the class 2.  ValueError where it can be none."""
    word = cell.strip()
    if whole := _WHOLE.fullmatch(word):
        word = whole[1]
    if not _is_finite(word):
        raise ValueError(f"{shown(word)} is not a class")
    return name_of(word)


def _is_finite(word: str) -> bool:
    """Whether it is a finite number, or no number at all."""
    try:
        return math.isfinite(float(word))
    except ValueError:
        return True


@dataclass
class Sheet:
    """One table while it is read.

    where: its name, for faults.  folder: see Rows.find.  rows, believed: how many there are and count.  lines: the row
    of the table by image and annotator; first: the first one by image.
    """

    where: str
    columns: Columns
    folder: str = ""
    believed: int = 0
    rows: int = 0
    lines: dict[tuple[int, str], int] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, line: int, reason: str) -> None:
        """Note why a row, or a cell of it, is not believed."""
        if len(self.faults) < _MOST:
            self.faults.append(Fault(f"{self.where}: row {line}", reason))
        elif len(self.faults) == _MOST:
            self.faults.append(Fault(self.where, f"more than {_MOST:,} faults: the rest are not listed"))


class Said:
    """What the rows of tables say; `add` takes them one by one.

    cls, sure, fields: by image row.  probs: classes and float (K,) by image row.  tags: (row, class) -> 1 or 0.
    votes: (row, annotator) -> class.  by_folder: the images' own classes and splits are what their folders are called.
    """

    def __init__(self, rows: Rows, by_folder: bool = True) -> None:
        self.cls: dict[int, str] = {}
        self.sure: dict[int, float] = {}
        self.fields: dict[str, dict[int, str]] = {f: {} for f in FIELDS}
        self.probs: dict[int, tuple[list[str], np.ndarray]] = {}
        self.tags: dict[tuple[int, str], int] = {}
        self.votes: dict[tuple[int, str], str] = {}
        self.sheets: list[Sheet] = []
        self._rows, self._by_folder = rows, by_folder

    def add(self, sheet: Sheet, line: int, cells: list[str]) -> None:
        """One row of a table; DataError where it contradicts another table."""
        sheet.rows += 1
        columns = sheet.columns
        if len(cells) > columns.width and any(c.strip() for c in cells[columns.width :]):
            return sheet.fault(line, f"{len(cells)} cells, but the header has {columns.width}")
        cells += [""] * (columns.width - len(cells))
        try:
            annotator = _name(cells[columns.annotator]) if columns.annotator >= 0 else ""
            row = self._rows.find(cells[columns.image], sheet.folder)
            if columns.annotator >= 0 and not annotator:
                raise Doubt("no annotator is named")
        except Doubt as doubt:
            return sheet.fault(line, str(doubt))
        before = sheet.lines.setdefault((row, annotator), line)
        if before != line:
            return sheet.fault(line, f"the image was already in row {before}; this row is not used")
        sheet.believed += 1
        sheet.first.setdefault(row, line)
        for part in (self._label, self._probs, self._tags, self._fields):
            try:
                part(sheet, row, annotator, cells, line)
            except Doubt as doubt:
                sheet.fault(line, str(doubt))
        return None

    @property
    def named(self) -> set[int]:
        """Rows of images that some table names."""
        return {row for sheet in self.sheets for row in sheet.first}

    @functools.cached_property
    def known(self) -> frozenset[str]:
        """`closed` as a set."""
        return frozenset(self.closed)

    @functools.cached_property
    def closed(self) -> list[str]:
        """Classes that headers list."""
        return list(dict.fromkeys(c for s in self.sheets for c in s.columns.closed))

    @property
    def classes(self) -> set[str]:
        """Every class that was spoken of."""
        return {*self.closed, *self.cls.values(), *self.votes.values()}

    def lies(self, row: int, **said: str) -> None:
        """What an image's storage says of it, as class_ and fields ('' = nothing): it stands; a row that contradicts it
        is a fault.

        Only the split `train` gives way to the table: a pool's images can be labelled for any split.
        """
        word = said.pop("class_", "")
        if word and self.cls.setdefault(row, word) != word:
            self._stands(row, "class", self.cls[row], word)
            self.cls[row] = word
            self.sure.pop(row, None)
        for name, value in said.items():
            now = self.fields[name]
            if value and now.setdefault(row, value) != value and (name, value) != ("split", "train"):
                self._stands(row, name, now[row], value)
                now[row] = value

    def _stands(self, row: int, what: str, said: str, stored: str) -> None:
        sheet = next(s for s in self.sheets if row in s.first)
        place = f"it lies in {stored}/" if self._by_folder else f"the images say {shown(stored)}"
        sheet.fault(sheet.first[row], f"{what} {shown(said)}, but {place}: that counts")

    def _agree(self, sheet: Sheet, line: int, row: int, what: str, now: object, before: object) -> None:
        """What several rows say of one thing must be the same: in one table the first counts, two are not weighed."""
        if now == before:
            return
        found = f"{what} {shown(str(now))}"
        other = next((s for s in self.sheets if s is not sheet and row in s.first), None)
        if other is None:
            raise Doubt(f"{found}, but an earlier row says {shown(str(before))}: that counts")
        raise DataError(
            f"{found}, but {other.where}, row {other.first[row]}, says {shown(str(before))}",
            where=f"{sheet.where}: row {line}",
            fix="Give the table that you mean instead of the folder, or move the other one elsewhere. "
            "If two people said so, and both shall count, name them in a column `annotator`.",
        )

    def _label(self, sheet: Sheet, row: int, annotator: str, cells: list[str], line: int) -> None:
        columns = sheet.columns
        word = _word(cells[columns.label]) if columns.label >= 0 else ""
        if word and columns.closed and word not in columns.known:
            hint = did_you_mean(word, columns.closed[:1000]) if len(sheet.faults) < _HINTS else ""
            raise Doubt(f"unknown class {shown(word)}. {hint}".rstrip())
        if word and annotator:
            self._agree(sheet, line, row, "vote", word, self.votes.setdefault((row, annotator), word))
        elif word:
            self._agree(sheet, line, row, "class", word, self.cls.setdefault(row, word))
            if columns.sure >= 0 and (given := cells[columns.sure].strip()):
                value = _number(given)
                if not 0 <= value <= 1:
                    raise Doubt(f"confidence {shown(given)} is not between 0 and 1")
                self._agree(sheet, line, row, "confidence", value, self.sure.setdefault(row, value))

    def _probs(self, sheet: Sheet, row: int, annotator: str, cells: list[str], line: int) -> None:
        given = [cells[i].strip() for i in sheet.columns.probs.values()]
        if not any(given):
            return
        values = np.array([_number(c) for c in given])
        total = float(values.sum())
        if (values < 0).any() or abs(total - 1) > 0.01:
            raise Doubt(f"not probabilities: from {values.min():g}, sum {total:g}")
        if abs(total - 1) > 1e-6:  # else they are as they were once written, and stay so to the last bit
            values = values / total
        mine = [*sheet.columns.probs], values
        before = self.probs.setdefault(row, mine)
        if before[0] != mine[0] or not np.array_equal(before[1], values):
            self._agree(sheet, line, row, "probabilities", _listed(*mine), _listed(*before))

    def _tags(self, sheet: Sheet, row: int, annotator: str, cells: list[str], line: int) -> None:
        doubt = ""
        for name, at in sheet.columns.tags.items():
            word = cells[at].strip().lower()
            if word not in _TAGS:
                doubt = doubt or f"tag {name!r} is {shown(word)}, not 1, 0 or empty"
            elif _TAGS[word] >= 0:
                self._agree(
                    sheet, line, row, f"tag {name}", _TAGS[word], self.tags.setdefault((row, name), _TAGS[word])
                )
        if doubt:
            raise Doubt(doubt)

    def _fields(self, sheet: Sheet, row: int, annotator: str, cells: list[str], line: int) -> None:
        for name, at in sheet.columns.fields.items():
            word = cells[at].strip()
            if name == "split" and word and word.lower() not in SPLITS:
                raise Doubt(f"unknown split {shown(word)}; known: train, val, test")
            word = SPLITS[word.lower()] if name == "split" and word else _name(word)
            if word and annotator:
                self.fields[name].setdefault(row, word)
            elif word:
                self._agree(sheet, line, row, name, word, self.fields[name].setdefault(row, word))


def _listed(classes: list[str], values: np.ndarray) -> str:
    return ", ".join(f"{c} {v:g}" for c, v in zip(classes, values))


def _word(cell: str) -> str:
    try:
        return word_of(cell)
    except ValueError as error:
        raise Doubt(str(error)) from None


def _name(cell: str) -> str:
    try:
        return name_of(cell)
    except ValueError as error:
        raise Doubt(str(error)) from None


def _number(cell: str) -> float:
    """A finite number; 0,25 is 0.25."""
    try:
        value = float(cell.replace(",", ".") if _COMMA.fullmatch(cell) else cell)
    except ValueError:
        raise Doubt(f"{shown(cell)} is not a number") from None
    if not math.isfinite(value):
        raise Doubt(f"{shown(cell)} is not a finite number")
    return value
