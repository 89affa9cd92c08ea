"""The tables a Dataset is made of: their schemas, how one is filled, and the bytes that say what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_DICT = pa.dictionary(pa.int32(), pa.string())
IMAGES = pa.schema(
    [
        ("id", pa.string()), ("hash", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("bits", pa.int8()),
        ("channels", pa.int8()), ("split", _DICT), ("group", pa.string()), ("session", _DICT), ("domain", _DICT),
    ]
)  # fmt: skip
ANNOTATIONS = pa.schema(
    [
        ("row", pa.int32()), ("kind", _DICT), ("class", pa.int32()), ("value", pa.float32()), ("x0", pa.float32()),
        ("y0", pa.float32()), ("x1", pa.float32()), ("y1", pa.float32()), ("data", pa.binary()), ("source", pa.int32()),
        ("confidence", pa.float32()),
    ]
)  # fmt: skip
LOOKED = pa.schema(
    [("row", pa.int32()), ("kind", _DICT), ("class", pa.int32()), ("complete", pa.int8()), ("source", pa.int32())]
)
SOURCES = pa.schema(
    [
        ("name", pa.string()),
        ("who", pa.string()),
        ("run", pa.string()),
        ("seconds", pa.float32()),
        ("skill", pa.float32()),
    ]
)
CLASSES = pa.schema([("name", pa.string()), ("parent", pa.int32())])
SCHEMAS = {"images": IMAGES, "annotations": ANNOTATIONS, "looked": LOOKED, "sources": SOURCES, "classes": CLASSES}


def table(schema: pa.Schema, **columns: Any) -> pa.Table:
    """A table of a schema from arrays or single values; what is not given is null ('' for words of images)."""
    n = max(
        (len(v) for v in columns.values() if isinstance(v, (list, np.ndarray, pa.Array, pa.ChunkedArray))), default=0
    )
    arrays = []
    for f in schema:
        given = columns.get(f.name)
        if given is None or isinstance(given, (str, int, float)):
            given = "" if given is None and f.type in (_DICT, pa.string()) else given
            plain = pa.repeat(pa.scalar(given, pa.string() if f.type == _DICT else f.type), n)
            arrays.append(plain.dictionary_encode() if f.type == _DICT else plain)
            continue
        array = (
            given
            if isinstance(given, (pa.Array, pa.ChunkedArray))
            else pa.array(given, None if f.type == _DICT else f.type)
        )
        arrays.append(array.cast(pa.string()).dictionary_encode() if f.type == _DICT else array.cast(f.type))
    return pa.table(arrays, schema=schema)


def content(column: pa.ChunkedArray) -> list[np.ndarray]:
    """A column's values as bytes that depend on nothing else: not on chunks, dictionaries, padding or unset nulls."""
    plain = column.cast(pa.string()) if isinstance(column.type, pa.DictionaryType) else column
    valid = np.packbits(plain.is_valid().to_numpy())
    if plain.type not in (pa.string(), pa.binary()):
        return [valid, np.ascontiguousarray(plain.fill_null(0).to_numpy()).view(np.uint8)]
    filled = plain.fill_null("" if plain.type == pa.string() else b"").cast(pa.binary())
    return [valid, pc.binary_length(filled).to_numpy().view(np.uint8), *map(_bytes, filled.chunks)]


def bounded(path: Path) -> pq.FileMetaData:
    """A Parquet file's metadata; ValueError where it announces values or bytes out of all proportion to its size.

    Ours hold some 14 values a byte at most; what unfolds to more was made to fill the memory.
    """
    about, size = pq.read_metadata(path), path.stat().st_size
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    values = sum(g.column(i).num_values for g in groups for i in range(g.num_columns))
    if values > 64 * size or sum(g.total_byte_size for g in groups) > 256 * size + 2**20:
        raise ValueError(f"{path.name} of {size:,} bytes says that it holds {values:,} values")
    return about


def misfit(tables: Mapping[str, pa.Table], columns: Mapping[str, np.ndarray]) -> str:
    """Which number points to a row, class or source that there is not, or which column has another length, or that a
    box has no finite sides; '' if none.

    A class may be unknown, -1 or null, except in a statement about classes.
    """
    count = {name: t.num_rows for name, t in tables.items()}
    for name in ("annotations", "looked"):
        kinds = tables[name]["kind"].cast(pa.string())
        about = tables[name].filter(pc.is_in(kinds, pa.array(["class", "tags", "votes"])))
        asked = (
            (tables[name]["row"], 0, count["images"], 0), (tables[name]["source"], 0, count["sources"], 0),
            (tables[name]["class"], -1, count["classes"], tables[name].num_rows),
            (about["class"], 0 if name == "annotations" else -1, count["classes"], 0),
        )  # fmt: skip
        for column, low, high, nulls in asked:
            seen = pc.min_max(column).as_py()
            if column.null_count > nulls or (seen["min"] is not None and not low <= seen["min"] <= seen["max"] < high):
                return f"{name}.parquet points to what is not there"
    boxes = tables["annotations"].filter(pc.equal(tables["annotations"]["kind"].cast(pa.string()), "boxes"))
    if any((pc.sum(pc.is_finite(boxes[k])).as_py() or 0) < len(boxes) for k in ("x0", "y0", "x1", "y1")):
        return "annotations.parquet holds a box whose sides are no numbers"
    if tables["images"]["id"].null_count or tables["classes"]["name"].null_count:
        return "an image or a class has no name"
    if len(set(tables["classes"]["name"].to_pylist())) < count["classes"]:
        return "a class stands twice"
    short = [name for name, values in columns.items() if values.shape[:1] != (count["images"],)]
    return f"the column {short[0]!r} has another length than the images" if short else ""


def _bytes(words: pa.Array) -> np.ndarray:
    """All values of a binary array, one after the other."""
    _, ends, values = words.buffers()
    at = np.frombuffer(ends, np.int32)[words.offset : words.offset + len(words) + 1] if len(words) else (0, 0)
    return np.frombuffer(values or b"", np.uint8)[at[0] : at[-1]]
