"""Boxes, instances and masks that stand in columns of a Parquet file beside its images.

`boxes` is a list of [x0, y0, x1, y1] a row, `categories` a class (a number or a word) for each; `instances` is a PNG
whose pixels are 0, 1, 2, ... (up to 16 bits), `instance_categories` the class of 1, 2, ...  Without classes, an object
is of the image's class, or an "object".  `mask`, or `semantic`, is a PNG whose pixels are 0 for the ground, c + 1 for
class c, 255 for unknown; where nothing but 0 and 255 occurs, 255 is the class.  Null says that nobody looked.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.core.kinds import UNKNOWN
from modicum.data.formats import Fault, ordered
from modicum.data.images import levels, measure
from modicum.data.lines import cell_of
from modicum.data.names import name_of
from modicum.data.objects import IGNORED, Classes, Frame, Objects, fitted
from modicum.data.outlines import part_of, stamp

_BOXES, _MAPS = ("boxes", "categories"), ("instances", "instance_categories")
_MASKS = ("mask", "semantic")
_ALONE = "object"
_UNKNOWN = -1  # class of a mask's pixels that are 255
_MOST = 100_000  # classes, and instances of one image


@dataclass
class Drawn:
    """What is drawn in the images of one file, by row in it.

    objects: kind -> row -> class as it stands (None = not said), frame and PNG of each; a row with none was looked at.
    part: kind -> rows of which something could not be used.  names: of numbered classes.
    """

    objects: dict[str, dict[int, list[tuple[Any, Frame, bytes | None]]]] = field(default_factory=dict)
    part: dict[str, set[int]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


def drawn_in(table: pq.ParquetFile, image: str, name: str, faults: list[Fault]) -> Drawn | None:
    """What the columns of boxes and instances say; None where there are none.  image: the column of images."""
    schema = table.schema_arrow
    wanted = [c for c in (*_BOXES, *_MAPS, *_MASKS) if c in schema.names and _fits(schema.field(c).type, c)]
    readers = {_BOXES[0]: ("boxes", _boxes), _MAPS[0]: ("instances", _instances)}
    readers |= {c: ("masks", functools.partial(_mask, c)) for c in _MASKS[::-1] if c in wanted}
    readers = {c: reader for c, reader in readers.items() if c in wanted}
    if not readers:
        return None
    out, row = Drawn(names=_names(schema)), 0
    for batch in table.iter_batches(batch_size=64, columns=[image, *wanted]):
        for cells in batch.to_pylist():
            content = _bytes(cells[image])
            if content is not None:
                for column, (kind, read) in readers.items():
                    if cells.get(column) is not None:
                        _row(out, kind, row, f"{name}#{row}", content, cells, read, faults)
            row += 1
    return out


def _row(
    out: Drawn, kind: str, row: int, where: str, content: bytes, cells: dict[str, Any], read: Any, faults: list[Fault]
) -> None:
    try:
        height, width = measure(content, where)
        found, odd = read(cells, height, width)
    except (DataError, ValueError) as error:
        faults.append(Fault(where, f"{kind}: {error.found if isinstance(error, DataError) else error}"))
        return
    out.objects.setdefault(kind, {})[row] = found
    faults += [Fault(where, f"{kind}: {reason}") for _, reason in odd]
    if any(gone for gone, _ in odd):
        out.part.setdefault(kind, set()).add(row)


def _boxes(cells: dict[str, Any], height: int, width: int) -> tuple[list[Any], list[tuple[bool, str]]]:
    """Boxes, and what is odd: whether one is left out, and why."""
    boxes, classes = cells["boxes"], cells.get("categories")
    if classes is not None and len(classes) != len(boxes):
        raise ValueError(f"{len(boxes)} boxes and {len(classes)} categories: not used")
    out, odd = [], []
    for cls, box in zip(classes or [None] * len(boxes), boxes):
        try:
            if box is None or len(box) != 4 or None in box:
                raise ValueError(f"{box} is no box: expected [x0, y0, x1, y1]")
            x0, y0, x1, y1 = map(float, box)
            frame, strange = fitted(x0, y0, x1, y1, height, width)
            out.append((cls, frame, None))
            odd += [(False, strange)] if strange else []
        except ValueError as error:
            odd.append((True, str(error)))
    return out, odd


def _instances(cells: dict[str, Any], height: int, width: int) -> tuple[list[Any], list[tuple[bool, str]]]:
    content, classes = _bytes(cells["instances"]), cells.get("instance_categories")
    values = levels(content or b"", "instances")
    if values.shape != (height, width):
        raise ValueError(f"a picture of {values.shape[1]} x {values.shape[0]} pixels for one of {width} x {height}")
    numbers = np.unique(values)[np.unique(values) > 0].tolist()
    if len(numbers) > _MOST or numbers[-1:] > [_MOST]:
        raise ValueError(f"{len(numbers):,} instances")
    if classes is not None and numbers and numbers[-1] > len(classes):
        raise ValueError(f"instance {numbers[-1]}, and {len(classes)} categories: not used")
    out = []
    for number in numbers:
        part = part_of(values == number)
        if part is not None:
            out.append((classes[int(number) - 1] if classes else None, part.frame, stamp(part, height, width)))
    return out, []


def _mask(column: str, cells: dict[str, Any], height: int, width: int) -> tuple[list[Any], list[tuple[bool, str]]]:
    """Each class of a mask of class numbers."""
    values = levels(_bytes(cells[column]) or b"", column)
    if values.shape != (height, width):
        raise ValueError(f"a picture of {values.shape[1]} x {values.shape[0]} pixels for one of {width} x {height}")
    if values.dtype != bool and not 0 <= values.min() <= values.max() <= UNKNOWN:
        raise ValueError(f"pixels from {values.min()} to {values.max()}: class numbers are 0 to 254, 255 is unknown")
    out = []
    for number in np.unique(values).tolist():
        part = part_of(values == number) if number else None
        if part is not None:
            cls = _UNKNOWN if number == UNKNOWN else int(number) - 1
            out.append((cls, part.frame, stamp(part, height, width)))
    return out, []


def joined(
    parts: Sequence[tuple[Drawn | None, Mapping[int, int], Mapping[int, str]]], faults: list[Fault]
) -> Dataset | None:
    """All files together as a delta; None where nothing is drawn.

    parts: of each file what is drawn, and by the row in it the row in the set (-1 = not used) and the image's class.
    """
    said, words = Objects(), dict[Any, str]()
    seen = [d for d, _, _ in parts if d is not None]
    if not seen:
        return None
    _settled([rows for d in seen for kind, rows in d.objects.items() if kind == "masks"], faults)
    numbers = [c for d in seen for rows in d.objects.values() for found in rows.values() for c, _, _ in found]
    names = next((d.names for d in seen if d.names), []) or _plain(numbers)
    classes = Classes(names)
    for drawn, rows, labels in parts:
        for kind, of in drawn.objects.items() if drawn is not None else ():
            for at, found in of.items():
                if rows.get(at, -1) < 0:
                    continue
                said.look(kind, rows[at], at not in drawn.part.get(kind, ()))  # type: ignore[union-attr]
                for cls, frame, mask in found:
                    if kind == "masks" and cls == _UNKNOWN:
                        said.add(kind, rows[at], -1, frame, mask, IGNORED)
                        continue
                    try:
                        word = words.setdefault(cls, _word(cls, names)) if cls is not None else labels[at] or _ALONE
                        said.add(kind, rows[at], classes.number(word), frame, mask)
                    except ValueError as error:
                        faults.append(Fault(f"row {rows[at]}", f"{kind}: class {cell_of(cls)[:40]!r}: {error}"))
                        said.look(kind, rows[at], complete=False)
    return said.delta(classes.names)


def _settled(masks: Sequence[dict[int, list[tuple[Any, Frame, bytes | None]]]], faults: list[Fault]) -> None:
    """Where nothing but 0 and 255 occurs, 255 is the only class there is."""
    if {cls for rows in masks for found in rows.values() for cls, _, _ in found} == {_UNKNOWN}:
        faults.append(Fault("masks", "only 0 and 255: 255 is taken for the class, not for unknown"))
        for rows in masks:
            rows.update({at: [(0, frame, mask) for _, frame, mask in found] for at, found in rows.items()})


def _plain(values: Sequence[Any]) -> list[str]:
    """Names of classes that have none: numbers from 0 on, or the words in order."""
    whole = [v for v in values if type(v) is int and 0 <= v < _MOST]
    words = {v for v in values if isinstance(v, str) and v.strip() and v.isprintable() and len(v) <= 200}
    return [*map(str, range(max(whole, default=-1) + 1)), *ordered({name_of(w) for w in words} - {*map(str, whole)})]


def _word(cls: Any, names: Sequence[str]) -> str:
    if isinstance(cls, str):
        return cls
    if type(cls) is not int or not 0 <= cls < len(names):
        raise ValueError(f"there are {len(names)} classes")
    return names[cls]


def _bytes(cell: Any) -> bytes | None:
    cell = cell.get("bytes") if isinstance(cell, dict) else cell
    return cell if isinstance(cell, bytes) else None


def _fits(kind: pa.DataType, column: str) -> bool:
    """Whether a column has the type that its name promises."""
    if column in (_MAPS[0], *_MASKS):
        kind = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
    if not _is_list(kind):
        return False
    inner = kind.value_type
    if column == "boxes":
        return _is_list(inner) and bool(pa.types.is_integer(inner.value_type) or pa.types.is_floating(inner.value_type))
    return bool(pa.types.is_integer(inner) or pa.types.is_string(inner) or pa.types.is_large_string(inner))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _names(schema: pa.Schema) -> list[str]:
    """Names of numbered categories, else of labels, from the hub's metadata; [] where there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        feature = features["categories"] if "categories" in features else features["label"]
        feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        names = [name_of(str(n)) for n in feature["names"]]
        return names if len(set(names)) == len(names) and all(names) else []
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):
        return []
