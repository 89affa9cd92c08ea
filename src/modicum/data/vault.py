"""Hidden labels: they leave the Dataset, and whoever reads them is counted.

The classes of all images, and statements of other kinds (tags, boxes, masks) about the images one is measured on.  Only
the room evaluate and the benchmarks open a vault.  A training run sees the visible set alone, so a method cannot
learn from what it is measured on.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modicum.core.dataset import HUMAN, Dataset
from modicum.core.disk import whole, whole_folder
from modicum.core.errors import DataError
from modicum.core.tables import bounded

_LABELS, _OPENINGS, _REST = "vault.parquet", "openings.jsonl", "rest"
SAID = ("class", "tags", "points", "scribbles", "boxes", "masks", "instances", "text")
"""Kinds that are hidden outside of training.  Votes and probabilities stay: a protocol may be about them."""


class Vault:
    """The true class of every image, and what else was hidden, behind a counter.

    rest: the images with the hidden statements of other kinds.  openings: who read it and when, oldest first.  With a
    folder (`save`, `load`) each opening is on disk before the labels are handed out, one JSON object a line, so that
    two processes never lose one.
    """

    def __init__(
        self, ids: pa.ChunkedArray, cls: np.ndarray, folder: Path | None = None, rest: Dataset | None = None
    ) -> None:
        self.ids, self._cls, self._folder, self._rest = ids, np.asarray(cls, np.int64), folder, rest
        self._before: list[dict[str, str]] = []

    def __len__(self) -> int:
        return len(self.ids)

    def open(self, reason: str) -> np.ndarray:
        """Classes of all images, int64 (N,), -1 where nobody knows; the opening is recorded with its reason."""
        self._note(reason)
        return self._cls.copy()

    def reveal(self, data: Dataset, reason: str) -> Dataset:
        """The set with what was hidden of it in other kinds than `class`; the opening is recorded with its reason."""
        self._note(reason)
        if self._rest is None:
            return data
        return data + replace(self._rest, images=self._rest.images.slice(0, 0))

    def _note(self, reason: str) -> None:
        if not reason.strip():
            raise DataError("a vault is opened for a reason", where="vault", fix="Say what the labels are read for.")
        entry = {"reason": reason, "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        if self._folder is None:
            self._before.append(entry)
        else:
            _append(self._folder / _OPENINGS, entry)

    @property
    def openings(self) -> list[dict[str, str]]:
        """What was recorded: {"reason", "when"} each."""
        if self._folder is None:
            return list(self._before)
        try:
            lines = (self._folder / _OPENINGS).read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines if line]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            fix = "Restore the file, or start a new run."
            raise DataError(f"not a readable record: {error}", where=self._folder / _OPENINGS, fix=fix) from None

    def fits(self, data: Dataset) -> bool:
        """Whether these are classes of a set's images."""
        low, high = self._cls.min(initial=0), self._cls.max(initial=-1)
        rest = self._rest is None or (self._rest.names == data.names and len(self._rest) == len(data))
        return bool(self.ids.equals(data.images["id"]) and low >= -1 and high < len(data.names) and rest)

    @property
    def count(self) -> int:
        """How often it was opened."""
        return len(self.openings)

    def save(self, folder: Path) -> Vault:
        """Write labels and openings into a folder; the vault that is given back counts there."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        columns = pa.table({"id": self.ids, "class": pa.array(self._cls, pa.int64())})
        columns = columns.replace_schema_metadata({_REST: str(self._rest is not None)})
        with whole(folder / _LABELS) as making:
            pq.write_table(columns, making, compression="zstd")
        if self._rest is not None:
            with whole_folder(folder / _REST) as making:
                self._rest.save(making)
        if folder != self._folder:
            before = "".join(json.dumps(o, ensure_ascii=False) + "\n" for o in self.openings)
            with whole(folder / _OPENINGS) as making:
                making.write_text(before, encoding="utf-8")
        return Vault(self.ids, self._cls, folder, self._rest)

    @staticmethod
    def load(folder: Path) -> Vault:
        """Read what `save` wrote; DataError if it is missing or damaged.  Loading does not count, `open` does."""
        folder = Path(folder)
        try:
            bounded(folder / _LABELS)
            columns = pq.read_table(folder / _LABELS)
            if columns["class"].null_count or not pa.types.is_integer(columns["class"].type):
                raise ValueError("its classes are not whole numbers")
            if columns["id"].null_count or not pa.types.is_string(columns["id"].type):
                raise ValueError("its images have no names")
            if (columns.schema.metadata or {}).get(_REST.encode()) == b"True" and not (folder / _REST).is_dir():
                raise ValueError(f"{_REST}/, which holds hidden labels, is missing")
            ids, cls = columns["id"].cast(pa.string()), columns["class"].to_numpy()
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            fix = "Restore the folder, or start a new run."
            raise DataError(f"not a readable vault: {error}", where=folder, fix=fix) from None
        return Vault(ids, cls, folder, Dataset.load(folder / _REST) if (folder / _REST).is_dir() else None)


def hide(
    data: Dataset, keep_rows: np.ndarray, kinds: Sequence[str] | None = None, outside: np.ndarray | None = None
) -> tuple[Dataset, Vault]:
    """The set with the class of these rows alone, and a vault with the class of every row and what else is hidden.

    outside: rows of which every kind in SAID is hidden.  kinds: those of SAID that stay known elsewhere; None: all.
    Where tags stay, those that follow from what people drew do.
    """
    hidden = np.ones(len(data), bool)
    hidden[keep_rows] = False
    away = np.zeros(len(data), bool)
    away[outside if outside is not None else []] = True
    data = _told(data) if kinds is not None and "tags" in kinds else data
    rest = _about(data, [k for k in SAID if k != "class"], away)
    if kinds is not None:
        rest = [a | b for a, b in zip(rest, _about(data, [k for k in SAID if k not in ("class", *kinds)], ~away))]
    seen = replace(data, annotations=data.annotations.filter(~rest[0]), looked=data.looked.filter(~rest[1]))
    gone = replace(
        data, annotations=data.annotations.filter(rest[0]), looked=data.looked.filter(rest[1]), columns={}
    )
    vault = Vault(data.images["id"], data.cls.copy(), rest=gone if any(r.any() for r in rest) else None)
    return seen.without("class", np.flatnonzero(hidden)), vault


def _told(data: Dataset) -> Dataset:
    """The set in which every tag that is known is a statement."""
    if data.tags is None:
        return data
    silent = np.ones(data.tags.shape, bool)
    given = data.of_kind("tags")
    silent[given["row"].to_numpy(), given["class"].to_numpy()] = False
    row, cls = np.nonzero((data.tags >= 0) & silent)
    value: dict[str, Any] = {"row": row, "kind": "tags", "class": cls, "value": data.tags[row, cls].astype(np.float32)}
    return data + data.delta(source="what people drew", who=HUMAN, **value) if len(row) else data


def _about(data: Dataset, kinds: Sequence[str], rows: np.ndarray) -> list[np.ndarray]:
    """Which annotations and which statements of `looked` are of these kinds and rows, bool each."""
    of = (data.annotations, data.looked)
    return [np.isin(t["kind"].cast(pa.string()).to_numpy(False), kinds) & rows[t["row"].to_numpy()] for t in of]


def _append(file: Path, entry: dict[str, str]) -> None:
    line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line)
        os.fsync(handle)
    finally:
        os.close(handle)
