"""The tables a Dataset is made of: their schemas, how one is filled, and the bytes that say what is in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
    return [
        valid,
        pc.binary_length(filled).to_numpy().view(np.uint8),
        np.frombuffer(b"".join(filled.to_pylist()), np.uint8),
    ]
