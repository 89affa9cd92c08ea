"""Parquet files with the images in them, as the HuggingFace hub keeps them."""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import SPLITS, Fault, Format, Read, inside, ordered, pooled
from modicum.data.images import decode

_IMAGE = ("image", "img")
_LABEL = ("label", "class", "fine_label", "class_name")
_SPLIT_WORD = re.compile(r"(?:^|[-_.])(train|training|val|valid|validation|test|testing)(?:[-_.]|$)")
_LOCK = threading.Lock()


class ParquetImages(Format):
    """Parquet files with a column `image` (bytes, or a struct of bytes and path) and perhaps `label` and `split`."""

    NAME = "parquet"
    LAYOUT = "Parquet files with a column `image` of bytes and perhaps label, split, group, domain (HuggingFace)"

    def sniff(self, path: Path) -> tuple[int, str]:
        fits = [f for f in _files(path) if _image_column(f)]
        return (85, f"{len(fits)} Parquet files with images") if fits else (0, "no Parquet file with images")

    def read(self, path: Path) -> Read:
        root = (path if path.is_dir() else path.parent).resolve()
        faults: list[Fault] = []
        parts: list[_Part] = []
        for file in _files(path):
            name = file.relative_to(path if path.is_dir() else path.parent).as_posix()
            try:
                if (image := _image_column(file)) is None:
                    faults.append(Fault(name, "no column of images"))
                else:
                    parts.append(_read_part(file, name, image, faults))
            except (OSError, pa.ArrowException) as error:
                faults.append(Fault(name, f"not a readable Parquet file: {_short(error)}"))
        if not parts:
            why = f": {faults[0].where}: {faults[0].reason}" if faults else ""
            raise DataError(f"no Parquet file with a column of images{why}", where=path, fix=self.LAYOUT + ".")
        return Read(_join(parts, str(root), faults), faults)

    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        name = str(data.ids[row])
        file, _, number = name.rpartition("#")
        if not number.isdecimal():
            raise DataError("not the name of an image in a Parquet file", where=name)
        path = inside(data.root, file)
        try:
            cell = _cell(path, path.stat().st_mtime_ns, int(number))
        except (OSError, pa.ArrowException, IndexError, KeyError) as error:
            raise DataError(f"cannot be read: {_short(error)}", where=name) from None
        if cell is None:
            raise DataError("no bytes in this row", where=name)
        return decode(cell, name)

    def files(self, data: Dataset) -> Iterable[Path]:
        return (Path(data.root, f) for f in sorted({str(i).rpartition("#")[0] for i in data.ids}))


@dataclass(frozen=True)
class _Part:
    """One file: row numbers, split (n,), class words or numbers (n,) or None, other columns."""

    name: str
    rows: np.ndarray
    split: np.ndarray
    label: list[Any] | None
    names: list[str]
    group: np.ndarray
    domain: np.ndarray


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".parquet" else []
    if not path.is_dir():
        return []
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def _image_column(file: Path) -> str | None:
    """The column that holds the images' bytes, or None."""
    try:
        schema = pq.read_schema(file)
    except (OSError, pa.ArrowException):
        return None
    for name in _IMAGE:
        at = schema.get_field_index(name)
        kind = schema.field(at).type if at >= 0 else None
        if kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if kind is not None and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            return name
    return None


def _read_part(file: Path, name: str, image: str, faults: list[Fault]) -> _Part:
    table = pq.ParquetFile(file)
    columns = table.schema_arrow.names
    wanted = [c for c in (*_LABEL, "split", "group", "domain") if c in columns]
    labels = [c for c in wanted if c in _LABEL][:1]
    light = table.read(columns=wanted)
    total = table.metadata.num_rows
    gone = _without_bytes(table, image)
    faults += [Fault(f"{name}#{row}", "no bytes in this row") for row in gone]
    rows = np.setdiff1d(np.arange(total), gone)

    def words(column: str, default: str) -> np.ndarray:
        if column not in columns:
            return np.full(total, default, object)
        return np.array([default if v is None else str(v) for v in light[column].to_pylist()], object)

    found = _SPLIT_WORD.search(Path(name).stem.lower())
    split = words("split", SPLITS[found[1]] if found else "")
    split = np.array([SPLITS.get(w.lower(), w) for w in split], object)
    label = light[labels[0]].to_pylist() if labels else None
    names = _names(table.schema_arrow, labels)
    return _Part(name, rows, split, label, names, words("group", ""), words("domain", ""))


def _names(schema: pa.Schema, labels: list[str]) -> list[str]:
    """Class names from the hub's metadata; [] where there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[labels[0]]["names"]
        return [str(n) for n in names] if isinstance(names, list) and len(set(map(str, names))) == len(names) else []
    except (KeyError, IndexError, TypeError, ValueError):
        return []


def _without_bytes(table: pq.ParquetFile, image: str) -> list[int]:
    """Rows whose image is null, from the file's statistics where they say that there is none."""
    meta = table.metadata
    leaf = f"{image}.bytes" if pa.types.is_struct(table.schema_arrow.field(image).type) else image
    groups = [meta.row_group(g) for g in range(meta.num_row_groups)]
    columns = [g.column(i) for g in groups for i in range(meta.num_columns) if g.column(i).path_in_schema == leaf]
    stats = [c.statistics for c in columns]
    if len(stats) == len(groups) and all(s is not None and s.has_null_count and not s.null_count for s in stats):
        return []
    out, start = [], 0
    for batch in table.iter_batches(batch_size=256, columns=[leaf]):
        column = batch.column(0)
        column = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
        out += [start + int(i) for i in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))]
        start += len(batch)
    return out


def _join(parts: list[_Part], root: str, faults: list[Fault]) -> Dataset:
    """One set of all files."""
    ids = [f"{p.name}#{r}" for p in parts for r in p.rows]
    labels = [None if p.label is None else p.label[r] for p in parts for r in p.rows]
    numeric = all(v is None or isinstance(v, int) for v in labels)
    if numeric:
        top = max((v for v in labels if v is not None), default=-1)
        names = next((p.names for p in parts if p.names), None) or [str(i) for i in range(min(top, len(labels)) + 1)]
        index: dict[Any, int] = {i: i for i in range(len(names))} | {-1: -1}
    else:
        labels = [None if v is None or v == "" else str(v) for v in labels]
        names = ordered(v for v in labels if v is not None)
        index = {n: i for i, n in enumerate(names)}
    index[None] = -1
    cls = np.array([index.get(v, -2) for v in labels], np.int64)
    for row in np.flatnonzero(cls == -2):
        faults.append(Fault(ids[row], f"label {labels[row]!r}, but there are {len(names)} classes"))
    cls = np.maximum(cls, -1)
    words = {c: np.concatenate([getattr(p, c)[p.rows] for p in parts]) for c in ("split", "group", "domain")}
    split = pooled(cls, words["split"])
    group, domain = words["group"], words["domain"]
    return Dataset.build(
        ids, names, reader=ParquetImages.NAME, root=root, cls=cls, split=split, group=group, domain=domain
    )


def _cell(path: Path, changed: int, row: int) -> bytes | None:
    """The bytes of an image by its row in the file."""
    with _LOCK:  # threads that decode neighbours would each read the same row group
        image, ends = _layout(path, changed)
        group = int(np.searchsorted(ends, row, side="right"))
        if group >= len(ends):
            raise IndexError(f"the file has {ends[-1] if len(ends) else 0} rows")
        column = _group(path, changed, group, image)
    return column[row - (int(ends[group - 1]) if group else 0)].as_py()


@functools.lru_cache(maxsize=256)
def _layout(path: Path, changed: int) -> tuple[str, np.ndarray]:
    """The image column and where each row group ends."""
    image = _image_column(path)
    if image is None:
        raise KeyError("no column of images")
    meta = pq.read_metadata(path)
    return image, np.cumsum([meta.row_group(g).num_rows for g in range(meta.num_row_groups)])


@functools.lru_cache(maxsize=4)
def _group(path: Path, changed: int, group: int, image: str) -> Any:
    """The image bytes of one row group."""
    with pq.ParquetFile(path) as file:
        column = file.read_row_group(group, columns=[image]).column(0).combine_chunks()
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:100]
