"""The seal of an exported file, and what such a file may hold; both are checked before a library parses it.

The seal is the file's own sha256, taken with zeros in its place: a damaged file is noticed without a second one.  It is
no signature.  Whoever forges one still gets no file read, no code run and no loop started: weights outside the file,
operators that are not ONNX's own, subgraphs and sizes that the file does not hold are refused.  What is left is
arithmetic, which can ask for much memory or time; so can any program that one is given.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any, cast

from modicum.core.errors import ModelError

BLANK = "0" * 64
_PLACE = re.compile(rb"\n\x06sha256\x12@([0-9a-f]{64})")  # the entry {"sha256": 64 letters} of metadata_props
_WIDTH = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 16: 2}  # TensorProto.DataType -> bytes
_VARINT, _BYTES = 0, 2


def seal(content: bytes) -> bytes:
    """A serialised model whose property `sha256` is BLANK, with the seal in its place."""
    (place,) = _PLACE.finditer(content)
    return b"".join((content[: place.start(1)], _digest(content, place), content[place.end(1) :]))


def opened(content: bytes, where: object) -> dict[str, str]:
    """The properties of a sealed file.  ModelError for one that is foreign, damaged, or holds what ours never do."""
    places = list(_PLACE.finditer(content))
    if len(places) != 1:
        found = "not an ONNX file that Modicum exported, or a damaged one"
        raise ModelError(found, where=where, fix="Export the run: modicum export RUN.")
    if _digest(content, places[0]) != places[0][1]:
        found = "the file is damaged: it is not what was exported"
        raise ModelError(found, where=where, fix="Copy it again, or export the run again.")
    try:
        return _model(memoryview(content))
    except (ValueError, IndexError) as error:
        found = f"not an ONNX file that Modicum made: {error}"
        raise ModelError(found, where=where, fix="Export the run: modicum export RUN.") from None


def _digest(content: bytes, place: re.Match[bytes]) -> bytes:
    digest = hashlib.sha256(memoryview(content)[: place.start(1)])
    digest.update(BLANK.encode())
    digest.update(memoryview(content)[place.end(1) :])
    return digest.hexdigest().encode()


def _model(data: memoryview) -> dict[str, str]:
    """Walk a ModelProto; numbers of fields are those of onnx.proto."""
    props: dict[str, str] = {}
    for number, value in _fields(data, {7: _BYTES, 8: _BYTES, 14: _BYTES, 20: None, 25: None}):
        if number == 7:
            _graph(value)
        elif number == 8:
            _domain(value, 1)
        elif number == 14:
            entry = {n: bytes(v).decode() for n, v in _fields(value, {1: _BYTES, 2: _BYTES})}
            props[entry.get(1, "")] = entry.get(2, "")
    return props


def _graph(data: memoryview) -> None:
    for number, value in _fields(data, {1: _BYTES, 5: _BYTES, 15: None}):
        if number == 5:
            _tensor(value)
        elif number == 1:
            _domain(value, 7)
            for _, attribute in _fields(value, {5: _BYTES}):
                for _, tensor in _fields(attribute, {5: _BYTES, 6: None, 10: None, 11: None, 22: None, 23: None}):
                    _tensor(tensor)


def _domain(data: memoryview, field: int) -> None:
    for _, value in _fields(data, {field: _BYTES}):
        if len(value):
            raise ValueError(f"it needs operators of {bytes(value[:40])!r}")


def _tensor(data: memoryview) -> None:
    """A tensor holds exactly the bytes that its sizes say, in the file itself."""
    dims: list[int] = []
    kind, held = [0], [memoryview(b"")]
    never = dict.fromkeys((3, 4, 5, 6, 7, 10, 11, 13, 14))
    for number, value in _fields(data, {1: _VARINT, 2: _VARINT, 9: _BYTES, **never}):
        if number == 1:
            dims.append(value)
        else:
            (kind if number == 2 else held).append(value)
    if len(kind) > 2 or len(held) > 2 or kind[-1] not in _WIDTH:
        raise ValueError(f"a tensor of type {kind[-1]}")
    if math.prod(dims) * _WIDTH[kind[-1]] != len(held[-1]):
        raise ValueError(f"a tensor of {len(held[-1])} bytes that says it is {dims[:8]}")


def _fields(data: memoryview, wanted: dict[int, int | None]) -> Iterator[tuple[int, Any]]:
    """The wanted fields of a protobuf message: number -> wire type, None for one that may not be there."""
    at, value = 0, cast(Any, None)
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire in (1, _BYTES, 5):
            size, at = _varint(data, at) if wire == _BYTES else (8 if wire == 1 else 4, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"wire type {wire}")
        if at > len(data):
            raise ValueError("it ends too early")
        if number in wanted:
            if wire != wanted[number]:
                raise ValueError(f"an unexpected field {number}")
            yield number, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at, value = at + 1, value | (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 64 bits")
