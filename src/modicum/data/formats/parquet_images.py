"""Parquet files with the images in them, as the HuggingFace hub keeps them."""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import FIELDS, SPLITS, Fault, Found, Images, Progress, inside, ordered
from modicum.data.formats.masks import mask_files
from modicum.data.images import decode
from modicum.data.lines import cell_of, parquet, parsing, scalar
from modicum.data.names import name_of
from modicum.data.parquet_objects import Drawn, drawn_in, joined
from modicum.data.store import file_name, image_of
from modicum.data.tables import word_of

_IMAGE = ("image", "img")
_LABEL = ("label", "class", "fine_label", "class_name")
_SPLIT_WORD = re.compile(r"(?:^|[-_.])(train|training|val|valid|validation|test|testing)(?:[-_.]|$)")
_OURS, _FILE = b"modicum", "images.parquet"
_LARGEST = 2 << 30  # bytes of images in one row group, which are read at once
_GROUP, _ROWS = 16 << 20, 512  # bytes and rows of those that are written
_LOCK = threading.Lock()


class ParquetImages(Images):
    """Parquet files with a column `image` (bytes, or a struct of bytes and path) and perhaps `label` and `split`."""

    NAME = "parquet"
    LAYOUT = (
        "Parquet files with a column `image` of bytes and perhaps label, split, group, domain (HuggingFace), boxes and "
        "categories, instances and instance_categories, mask"
    )
    WRITES = "one Parquet file with the images in it, as the HuggingFace hub keeps them"

    def sniff(self, path: Path) -> tuple[int, str]:
        fits = [f for f in _files(path) if _image_column(f)]
        return (85, f"{len(fits)} Parquet files with images") if fits else (0, "no Parquet file with images")

    def find(self, path: Path) -> Found:
        faults: list[Fault] = []
        parts: list[_Part] = []
        for file in _files(path):
            name = file.relative_to(path if path.is_dir() else path.parent).as_posix()
            if (image := _image_column(file)) is None:
                readable = _schema(file) is not None
                faults.append(Fault(name, "no column of images" if readable else "not a readable Parquet file"))
                continue
            try:
                parts.append(_read_part(file, name, image, faults))
            except DataError as error:
                faults.append(Fault(name, error.found))
        if not parts:
            why = f": {faults[0].where}: {faults[0].reason}" if faults else ""
            raise DataError(f"no Parquet file with a column of images{why}", where=path, fix=self.LAYOUT + ".")
        return _join(parts, str(path.resolve()), faults)

    def write(self, data: Dataset, folder: Path, progress: Progress) -> list[str]:
        fields = {f: data.field(f) for f in FIELDS}
        feature = {"names": [*data.names], "_type": "ClassLabel"}
        masks, image = mask_files(data), pa.struct({"bytes": pa.binary(), "path": pa.string()})
        drawn = {"mask": image} if masks else {}
        known = {"image": {"_type": "Image"}, "label": feature, **{name: {"_type": "Image"} for name in drawn}}
        hub = json.dumps({"info": {"features": known}}).encode()
        schema = pa.schema(
            {"id": pa.string(), "image": image, "label": pa.int64(), **drawn, **dict.fromkeys(FIELDS, pa.string())},
            metadata={b"huggingface": hub, _OURS: b'{"format": 1}'},
        )

        def rows() -> Iterator[dict[str, Any]]:
            for row, name in enumerate(map(str, data.ids)):
                content = image_of(data, row)
                called = file_name(name.rpartition("/")[2], content)
                cls = int(data.cls[row])
                said = {f: v[row] or None for f, v in fields.items()}
                yield {
                    "id": name,
                    "image": {"bytes": content, "path": called},
                    "label": cls if cls >= 0 else None,
                    **({"mask": masks(row, content)} if masks else {}),
                    **said,
                }
                progress(row + 1, len(data))

        with pq.ParquetWriter(folder / _FILE, schema, compression="zstd", use_dictionary=[*FIELDS]) as out:
            for group in _groups(rows()):
                out.write_table(pa.Table.from_pylist(group, schema))
        return [str(i) for i in data.ids]

    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        return decode(self.stored(data, row), str(data.ids[row]))

    def stored(self, data: Dataset, row: int) -> bytes:
        name = str(data.ids[row])
        path, number = _place(data.root, name)
        try:
            with _parsing(name):
                cell = _cell(path, path.stat().st_mtime_ns, number)
        except DataError as error:
            raise DataError(f"cannot be read: {error.found}", where=name) from None
        if cell is None:
            raise DataError("no bytes in this row", where=name)
        return cell

    def files(self, data: Dataset) -> Iterable[Path]:
        return sorted({_place(data.root, str(i))[0] for i in data.ids})


def _parsing(where: object) -> Any:
    return parsing(where, "Parquet file")


@dataclass(frozen=True)
class _Part:
    """One file: ids of images with bytes, their labels (words or numbers), class names, fields (n,), rows in the file,
    and what is drawn in them."""

    ids: list[str]
    labels: list[Any]
    names: list[str]
    fields: dict[str, np.ndarray]
    rows: list[int]
    drawn: Drawn | None


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".parquet" else []
    if not path.is_dir():
        return []
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def _schema(file: Path) -> pa.Schema | None:
    """Its columns; None where it cannot be read."""
    try:
        with _parsing(file), parquet(file) as table:
            return table.schema_arrow
    except DataError:
        return None


def _image_column(file: Path) -> str | None:
    """The column that holds the images' bytes, or None."""
    schema = _schema(file)
    if schema is None:
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
    with _parsing(name), parquet(file) as table:
        schema, total = table.schema_arrow, table.metadata.num_rows
        if not 0 <= total <= file.stat().st_size:
            raise DataError(f"claims {total:,} images in {file.stat().st_size:,} bytes", where=name)
        ours = _OURS in (schema.metadata or {}) and "id" in schema.names
        wanted = []
        for column in (*_LABEL, *FIELDS, *(("id",) if ours else ())):
            if column in schema.names and scalar(schema.field(column).type):
                wanted.append(column)
            elif column in schema.names:
                faults.append(Fault(f"{name}: {column}", "neither words nor numbers: the column is not used"))
        labels = [c for c in wanted if c in _LABEL][:1]
        light = table.read(columns=[c for c in wanted if c not in _LABEL or c in labels])
        gone = _without_bytes(table, image)
        drawn = drawn_in(table, image, name, faults)
    if wanted and len(light) != total:
        raise DataError(f"claims {total:,} rows and holds {len(light):,}", where=name)
    faults += [Fault(f"{name}#{row}", "no bytes in this row") for row in sorted(gone)]
    rows = [r for r in range(total) if r not in gone]
    ids = light["id"].to_pylist() if ours else [f"{name}#{r}" for r in range(total)]
    mine = [str(ids[r] or f"{name}#{r}") for r in rows]
    given = light[labels[0]].to_pylist() if labels else [None] * total
    fields = {f: _words(light[f].to_pylist(), f, name, faults)[rows] for f in FIELDS if f in wanted}
    if "split" not in fields and (found := _SPLIT_WORD.search(Path(name).stem.lower())):
        fields["split"] = np.full(len(rows), SPLITS[found[1]], object)
    return _Part(mine, [given[r] for r in rows], _names(schema, labels), fields, rows, drawn)


def _words(values: list[Any], column: str, name: str, faults: list[Fault]) -> np.ndarray:
    """A column as words, '' where it says nothing; words that cannot be one become one fault each."""
    out = np.full(len(values), "", object)
    seen: dict[Any, str] = {None: ""}
    for row, value in enumerate(values):
        if value != value:  # what pandas writes for nothing
            continue
        if value not in seen:
            try:
                word = name_of(cell_of(value))
                if column == "split" and word and word.lower() not in SPLITS:
                    raise ValueError("unknown; known: train, val, test")
                seen[value] = SPLITS[word.lower()] if column == "split" and word else word
            except ValueError as error:
                seen[value] = ""
                faults.append(Fault(f"{name}#{row}", f"{column} {cell_of(value)[:80]!r}: {error}"))
        out[row] = seen[value]
    return out


def _names(schema: pa.Schema, labels: list[str]) -> list[str]:
    """Class names from the hub's metadata; [] where there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[labels[0]]["names"]
        words = [name_of(str(n)) for n in names] if isinstance(names, list) else []
        return words if len(set(words)) == len(words) and all(words) else []
    except (KeyError, IndexError, TypeError, ValueError, RecursionError):
        return []


def _without_bytes(table: pq.ParquetFile, image: str) -> set[int]:
    """Rows whose image is null, from the file's statistics where they say that there is none."""
    meta = table.metadata
    leaf = f"{image}.bytes" if pa.types.is_struct(table.schema_arrow.field(image).type) else image
    groups = [meta.row_group(g) for g in range(meta.num_row_groups)]
    columns = [g.column(i) for g in groups for i in range(meta.num_columns) if g.column(i).path_in_schema == leaf]
    stats = [c.statistics for c in columns]
    if len(stats) == len(groups) and all(s is not None and s.has_null_count and not s.null_count for s in stats):
        return set()
    out, start = set(), 0
    for batch in table.iter_batches(batch_size=256, columns=[leaf]):
        column = batch.column(0)
        column = pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column
        out |= {start + int(i) for i in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))}
        start += len(batch)
    return out


def _join(parts: list[_Part], root: str, faults: list[Fault]) -> Found:
    """One set of all files; of two images with one id the first counts."""
    names, words = _classes(parts, faults)
    index = {n: i for i, n in enumerate(names)} | {"": -1}
    first: dict[str, int] = {}
    ids = [i for p in parts for i in p.ids]
    for row, name in enumerate(ids):
        if first.setdefault(name, row) != row:
            faults.append(Fault(name, "two images are called so: the second is not used"))
    keep = list(first.values())
    cls = np.array([index[words[r]] for r in keep], np.int64)
    fields = {}
    for name in FIELDS:
        if any(name in p.fields for p in parts):
            each = [p.fields.get(name, np.full(len(p.ids), "", object)) for p in parts]
            fields[name] = np.concatenate(each)[keep]
    drawn = joined(_placed(parts, keep, words), faults)
    return Found(ParquetImages.NAME, root, [ids[r] for r in keep], names, cls, fields, faults, drawn=drawn)


def _placed(
    parts: list[_Part], keep: list[int], words: list[str]
) -> list[tuple[Drawn | None, dict[int, int], dict[int, str]]]:
    """For each file what is drawn, and by the row in it the row in the set (-1 = not used) and the class."""
    place = {r: at for at, r in enumerate(keep)}
    starts = np.cumsum([0, *(len(p.ids) for p in parts)]).tolist()
    return [
        (
            p.drawn,
            {row: place.get(start + i, -1) for i, row in enumerate(p.rows)},
            {row: words[start + i] for i, row in enumerate(p.rows)},
        )
        for p, start in zip(parts, starts)
    ]


def _classes(parts: list[_Part], faults: list[Fault]) -> tuple[list[str], list[str]]:
    """Class names in order, and the class of every image in the order of the files ('' = unknown).

    Numbers count in the names that their file lists, else in those of another file; without any, they are the names.
    """
    listed = list(dict.fromkeys(n for p in parts for n in p.names))
    total = sum(len(p.ids) for p in parts)
    numbers = [v for p in parts for v in p.labels if isinstance(v, int | float)]
    top = max((int(v) for v in numbers if abs(v) < total and v == v // 1), default=-1)
    plain = [str(i) for i in range(top + 1)]
    words = []
    for part in parts:
        numeric = all(v is None or isinstance(v, int | float) for v in part.labels)
        names = (part.names or listed or plain) if numeric else []
        for name, value in zip(part.ids, part.labels):
            word, reason = _class(value, names)
            if reason:
                faults.append(Fault(name, reason))
            words.append(word)
    if not listed and {*words} <= {*plain, ""}:
        return plain, words
    return [*listed, *ordered({*words} - {*listed, ""})], words


def _class(value: Any, names: list[str]) -> tuple[str, str]:
    """A label as a class, or '' and why not; names: what numbers mean; [] = it is a word itself."""
    if value is None or value != value:
        return "", ""
    if not names:
        try:
            return word_of(cell_of(value)), ""
        except ValueError as error:
            return "", str(error)
    if value == -1:
        return "", ""
    if value != value // 1 or not 0 <= value < len(names):
        return "", f"label {cell_of(value)}, but there are {len(names)} classes"
    return names[int(value)], ""


# -- one image ---------------------------------------------------------------------------------------------------------


def _place(root: str, name: str) -> tuple[Path, int]:
    """The file that holds an image, and its row in it."""
    top = Path(root)
    if top.exists() and (at := _ours(top, top.stat().st_mtime_ns).get(name)):
        return at
    file, _, number = name.rpartition("#")
    if not number.isdecimal() or len(number) > 18:
        raise DataError("not the name of an image in a Parquet file", where=name)
    return inside(top.parent if top.is_file() else top, file), int(number)


@functools.lru_cache(maxsize=4)
def _ours(root: Path, changed: int) -> dict[str, tuple[Path, int]]:
    """Where images lie that are called by a column `id`: file and row."""
    out: dict[str, tuple[Path, int]] = {}
    for file in _files(root):
        schema = _schema(file)
        if schema is not None and _OURS in (schema.metadata or {}) and "id" in schema.names:
            with _parsing(file), parquet(file) as table:
                for row, name in enumerate(table.read(columns=["id"])["id"].to_pylist()):
                    out.setdefault(str(name), (file, row))
    return out


def _cell(path: Path, changed: int, row: int) -> bytes | None:
    """The bytes of an image by its row in the file."""
    with _LOCK:  # threads that decode neighbours would each read the same row group
        image, ends = _layout(path, changed)
        group = int(np.searchsorted(ends, row, side="right"))
        if group >= len(ends):
            raise IndexError(f"the file has {ends[-1] if len(ends) else 0} rows")
        column = _group(path, changed, group, image)
    value: bytes | None = column[row - (int(ends[group - 1]) if group else 0)].as_py()
    return value


@functools.lru_cache(maxsize=256)
def _layout(path: Path, changed: int) -> tuple[str, np.ndarray]:
    """The image column and where each row group ends."""
    image = _image_column(path)
    if image is None:
        raise KeyError("no column of images")
    with parquet(path) as table:
        meta = table.metadata
        return image, np.cumsum([meta.row_group(g).num_rows for g in range(meta.num_row_groups)])


@functools.lru_cache(maxsize=4)
def _group(path: Path, changed: int, group: int, image: str) -> Any:
    """The image bytes of one row group."""
    with parquet(path) as file:
        size = file.metadata.row_group(group).total_byte_size
        if size > _LARGEST:
            raise ValueError(f"a row group of {size:,} bytes; at most {_LARGEST:,} are read at once")
        column = file.read_row_group(group, columns=[image]).column(0).combine_chunks()
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in groups small enough that one image is read without much around it."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row["image"]["bytes"])
        if size >= _GROUP or len(group) >= _ROWS:
            yield group
            group, size = [], 0
    if group:
        yield group
