"""Tables beside images, CSV, TSV or Parquet, which add to what class folders, Parquet, IDX files or an archive say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modicum.core.dataset import ANNOTATOR, HUMAN, Dataset
from modicum.core.errors import DataError
from modicum.core.tables import ANNOTATIONS, LOOKED, SOURCES, table
from modicum.data.formats import FIELDS, Fault, Format, Found, Images, Progress, Read, holders, ordered, pooled
from modicum.data.formats.archive import Archive
from modicum.data.formats.folders import place
from modicum.data.lines import SUFFIXES, TableFile, header_of, rows_of
from modicum.data.names import safe
from modicum.data.rows import Rows
from modicum.data.store import stays, write_images
from modicum.data.tables import Columns, Said, Sheet
from modicum.data.walk import has_image

_LARGEST = 4 << 30  # bytes of the probabilities of a set
_Fitting = list[tuple[TableFile, Columns]]


class CsvTable(Format):
    """Images, and tables that say something of them."""

    NAME = "table"
    LAYOUT = (
        "images with CSV, TSV or Parquet tables beside them: image, and class, confidence, split, group, session, "
        "domain, annotator, p:NAME (probabilities) or tag:NAME (1, 0 or empty)"
    )
    WRITES = "images and a CSV table"

    def sniff(self, path: Path) -> tuple[int, str]:
        fits, faults = _fitting(path)
        if not fits and not faults:
            return (60, "a file of text") if path.suffix.lower() in (".csv", ".tsv") else (0, "no table about images")
        return 99, f"{len(fits)} tables that name images"

    def read(self, path: Path) -> Read:
        fits, faults = _fitting(path)
        itself = path.is_file() and path.suffix.lower() in SUFFIXES
        why = f": {faults[0].where}: {faults[0].reason}" if faults else ""
        if not fits and (itself or not faults):
            seen = why or f"; its columns are: {_columns(path)}" if itself else why
            raise DataError(f"no table that names images{seen}", where=path, fix=f"Understood is {self.LAYOUT}.")
        place = path.parent if itself else path
        base = _base(place)
        if base is None:
            fix = "Give the folder that holds both the images and the table."
            raise DataError(f"no images beside the table{why}", where=path, fix=fix)
        found = base.find(place)
        found.odd = [f for f in found.odd if f.where not in {file.folder for file, _ in fits}]
        known = {f.where for f in found.faults}
        faults = [f for f in faults if f.where not in known]
        if not fits:
            return Read(found.read().data, [*found.faults, *found.odd, *faults])
        said = Said(Rows(found.ids, found.root), found.by_folder)
        for file, columns in fits:
            said.sheets.append(sheet := Sheet(file.name, columns, file.folder))
            for line, cells in rows_of(file, columns.used, sheet.faults):
                said.add(sheet, line, cells)
        _useless(said, path)
        odd = _beside(said, found)
        return Read(_dataset(said, found), [*found.faults, *odd, *faults, *(f for s in said.sheets for f in s.faults)])

    def write(self, data: Dataset, folder: Path, progress: Progress) -> list[str]:
        names = [str(i) for i in data.ids]
        if stays(names):
            return write_images(data, folder, names, lambda row, leaf: leaf, progress)
        tops = ["/".join(safe(part) for part in name.split("/")[:-1] if part) for name in names]
        if not _speaks_no_other(tops, data):
            tops = [""] * len(tops)
        return write_images(data, folder, None, lambda row, leaf: f"{tops[row]}/{leaf}".lstrip("/"), progress)


def _speaks_no_other(tops: list[str], data: Dataset) -> bool:
    """Whether these folders, read beside a table that says all, contradict no class or split of theirs."""
    split, names = data.field("split"), {*data.names}
    said = [place(f"{top}/x") for top in tops]
    if {w for _, w in said} & names and any(
        w and (c < 0 or w != data.names[c]) for (_, w), c in zip(said, data.cls.tolist())
    ):
        return False
    return all(s in ("", "train", mine) for (s, _), mine in zip(said, split))


def _base(place: Path) -> Images | None:
    """The format that finds the images; None if there are none."""
    sure = {f.NAME: f.sniff(place)[0] for f in holders().values()}
    best = max(sure, key=lambda name: sure[name])
    return holders()[best] if sure[best] else None


def _fitting(path: Path) -> tuple[_Fitting, list[Fault]]:
    """Tables at a path whose header names an image and something about it, and why others that might do not.

    Where a folder itself has none, those in its folders without images count: `labels/`, `annotations/`.
    """
    fits, faults = _sorted_out(_tables(path))
    if not fits and not faults and path.is_dir() and has_image(path):
        below = [p for p in sorted(path.iterdir()) if p.is_dir() and not p.name.startswith(".") and not p.is_symlink()]
        inner = [TableFile.of(f, f"{p.name}/") for p in below if not has_image(p, 0) for f in _files(p)]
        return _sorted_out(inner)
    return fits, faults


def _columns(path: Path) -> str:
    return ", ".join(repr(h[:40]) for h in header_of(TableFile.of(path))[:10])


def _files(folder: Path) -> list[Path]:
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    except PermissionError:  # which `walk` makes a fault
        return []
    return sorted(p for p in files if p.is_file())


def _tables(path: Path) -> list[TableFile]:
    if path.is_dir():
        return [TableFile.of(p) for p in _files(path)]
    if not path.is_file():
        return []
    return [TableFile.of(path)] if path.suffix.lower() in SUFFIXES else Archive().tables(path)


def _sorted_out(tables: Sequence[TableFile]) -> tuple[_Fitting, list[Fault]]:
    fits, faults = [], []
    for file in tables:
        try:
            header = header_of(file)
            if not header and not file.is_parquet:
                raise DataError("the file is empty")
            if Columns.concern(header):
                fits.append((file, Columns.of(header, file.name)))
        except DataError as error:
            faults.append(Fault(file.name, f"the table is not used: {error.found}"))
    return fits, faults


def _useless(said: Said, path: Path) -> None:
    """Tables none of whose rows can be used: an error if there is no other, else one fault each."""
    bad = [s for s in said.sheets if s.rows and not s.believed]
    for sheet in bad:
        first = sheet.faults[0]
        found = f"none of {sheet.rows} rows can be used; {first.where}: {first.reason}"
        if len(bad) == len(said.sheets):
            fix = "Give image names relative to the table, or move a table about other images elsewhere."
            raise DataError(found, where=path, fix=fix)
        sheet.faults[:] = [Fault(sheet.where, found)]
    for sheet in said.sheets:
        if not sheet.rows and not sheet.faults:
            sheet.faults.append(Fault(sheet.where, "a table without rows"))


def _beside(said: Said, found: Found) -> list[Fault]:
    """Add to the rows what the storage says; -> what is odd about it.

    Folders are only paths, not classes, where the tables speak of classes of which no folder has the name, and name
    images in the folders; so is a single folder that the tables' classes do not name.
    """
    words = [found.names[c] if c >= 0 else "" for c in found.cls.tolist()]
    classed = True
    if found.by_folder:
        folders, classes = {*words} - {""}, said.classes
        apart = bool(classes) and any(words[row] for row in said.named)
        classed = bool(folders & classes) or (len(folders) > 1 and not apart)
        if not classed:
            words, found.names = [""] * len(words), []
    fields = {name: values.tolist() for name, values in found.fields.items()}
    for row, word in enumerate(words):
        said.lies(row, class_=word, **{name: values[row] for name, values in fields.items()})
    return found.odd if classed else []


def _dataset(said: Said, found: Found) -> Dataset:
    """Images with all that was said of them."""
    first = list(dict.fromkeys((*(() if found.by_folder else found.names), *said.closed)))
    classes = [*first, *ordered(({*found.names} | said.classes) - {*first})]
    index = {c: i for i, c in enumerate(classes)}
    n = len(found.ids)
    cls = np.full(n, -1, np.int64)
    for row, word in said.cls.items():
        cls[row] = index[word]
    known = cls.copy()
    known[[*said.probs, *(r for r, _ in said.votes), *(r for r, _ in said.tags)]] = 0
    images = {name: _filled(n, said.fields[name]) for name in FIELDS}
    images["split"] = pooled(known, images["split"])
    columns = {"probs": _probs(said, n, index)} if said.probs or any(s.columns.probs for s in said.sheets) else {}
    data = Dataset.build(found.ids, classes, reader=found.reader, root=found.root, columns=columns, **images)
    data = found.with_drawn(data)
    if (cls >= 0).any():
        data = data + _classes(data, cls, said.sure)
    if said.tags:
        data = data + _tags(data, said.tags, index)
    return data + _votes(data, said.votes, index) if said.votes else data


def _filled(n: int, values: dict[int, str]) -> np.ndarray:
    out = np.full(n, "", object)
    for row, word in values.items():
        out[row] = word
    return out


def _probs(said: Said, n: int, index: dict[str, int]) -> np.ndarray:
    """float32 (N,C), rows of NaN unknown."""
    if n * len(index) * 4 > _LARGEST:
        found = f"probabilities of {len(index):,} classes for {n:,} images"
        raise DataError(found, where=said.sheets[0].where, fix=f"At most {_LARGEST >> 30} GiB of them are held.")
    out = np.full((n, len(index)), np.nan, np.float32)
    for row, (classes, values) in said.probs.items():
        out[row] = 0
        out[row, [index[c] for c in classes]] = values
    return out


def _classes(data: Dataset, cls: np.ndarray, sure: dict[int, float]) -> Dataset:
    """What people said, with how sure they were where they said so."""
    rows = np.flatnonzero(cls >= 0)
    confidence = pa.array([sure.get(r) for r in rows.tolist()], pa.float32()) if sure else None
    given: dict[str, Any] = {"row": rows, "kind": "class", "class": cls[rows], "confidence": confidence}
    return data.delta(source="human", who=HUMAN, **given)


def _tags(data: Dataset, tags: dict[tuple[int, str], int], index: dict[str, int]) -> Dataset:
    """What was said of each image and class, and that it was looked for."""
    row, cls = np.array([r for r, _ in tags]), np.array([index[c] for _, c in tags])
    place: dict[str, Any] = {"row": row, "kind": "tags", "class": cls}
    looked = table(LOOKED, **place, source=0, complete=np.ones(len(tags), np.int8))
    delta = data.delta(source="human", who=HUMAN, value=np.array([*tags.values()], np.float32), **place)
    return replace(delta, looked=looked)


def _votes(data: Dataset, votes: dict[tuple[int, str], str], index: dict[str, int]) -> Dataset:
    """One source an annotator."""
    people = ordered(a for _, a in votes)
    number = {a: i for i, a in enumerate(people)}
    rows = {"row": np.array([r for r, _ in votes]), "class": np.array([index[w] for w in votes.values()])}
    said = table(ANNOTATIONS, **rows, kind="votes", source=np.array([number[a] for _, a in votes]))
    sources = table(SOURCES, name=pa.array(people, pa.string()), who=ANNOTATOR, run="", seconds=0.0)
    return replace(data.empty(), annotations=said, sources=sources, classes=data.classes)
