"""Predictions as a table: CSV for people and spreadsheets, Parquet for programs."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from modicum.core.errors import DataError, MachineError
from modicum.data.names import guard

if TYPE_CHECKING:
    from modicum.deploy.predict import Prediction

CHUNK = 1_000


def write(predictions: Iterable[Prediction], path: Path) -> int:
    """Write id, class, confidence, fault and each class's probability to .csv or .parquet; -> rows.

    Where an image may be of many classes, `class` has all that are there, with a `;` between, and confidence is the
    largest.  CSV: a column a class, empty where an image could not be read.  Parquet: `probs`, a list.  The file
    appears whole or not at all; memory does not grow with the rows.  DataError for another ending, MachineError for a
    place that cannot be written.
    """
    kinds = {".csv": _csv, ".parquet": _parquet}
    if path.suffix.lower() not in kinds:
        found = f"{path.suffix or 'no ending'!r} is not a table"
        raise DataError(found, where=path, fix="Name a .csv or .parquet file.")
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        rest = iter(predictions)
        first = list(islice(rest, 1))
        classes = first[0].classes if first else ()
        count = kinds[path.suffix.lower()](chain(first, rest), fresh, classes)
        fresh.replace(path)
    except OSError as error:
        raise MachineError(
            f"cannot be written: {error.strerror or error}", where=path, fix="Choose another file."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()
    return count


def _csv(predictions: Iterator[Prediction], path: Path, classes: Sequence[str]) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["id", "class", "confidence", "fault", *(guard(c) for c in classes)])
        for p in predictions:
            count += 1
            sure = "" if p.fault else f"{p.confidence:.6g}"
            probs = ["" for _ in classes] if p.fault else [f"{v:.6g}" for v in p.probs]
            out.writerow([guard(p.id), guard("; ".join(p.told)), sure, guard(p.fault), *probs])
        file.flush()
        os.fsync(file.fileno())
    return count


def _parquet(predictions: Iterator[Prediction], path: Path, classes: Sequence[str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float32()
    schema = pa.schema(
        {"id": text, "class": text, "confidence": number, "fault": text, "probs": pa.list_(number)},
        metadata={f"class {i}": name for i, name in enumerate(classes)},
    )
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as out:
        while chunk := list(islice(predictions, CHUNK)):
            count += len(chunk)
            columns = {
                "id": [p.id for p in chunk],
                "class": ["; ".join(p.told) or None for p in chunk],
                "confidence": [None if p.fault else p.confidence for p in chunk],
                "fault": [p.fault or None for p in chunk],
                "probs": [None if p.fault else p.probs.tolist() for p in chunk],
            }
            out.write_table(pa.table(columns, schema=schema))
    return count
