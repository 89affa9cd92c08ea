"""Hidden labels: they leave the Dataset, and whoever reads them is counted.

Only the room evaluate and the benchmarks open a vault.  A training run sees the visible set alone, so a method cannot
learn from what it is measured on.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modicum.core.dataset import Dataset
from modicum.core.disk import whole
from modicum.core.errors import DataError
from modicum.core.tables import bounded

_LABELS, _OPENINGS = "vault.parquet", "openings.jsonl"


class Vault:
    """The true class of every image, behind a counter.

    openings: who read it and when, oldest first.  With a folder (`save`, `load`) each opening is on disk before the
    labels are handed out, one JSON object a line, so that two processes never lose one.
    """

    def __init__(self, ids: pa.ChunkedArray, cls: np.ndarray, folder: Path | None = None) -> None:
        self.ids, self._cls, self._folder = ids, np.asarray(cls, np.int64), folder
        self._before: list[dict[str, str]] = []

    def __len__(self) -> int:
        return len(self.ids)

    def open(self, reason: str) -> np.ndarray:
        """Classes of all images, int64 (N,), -1 where nobody knows; the opening is recorded with its reason."""
        if not reason.strip():
            raise DataError("a vault is opened for a reason", where="vault", fix="Say what the labels are read for.")
        entry = {"reason": reason, "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        if self._folder is None:
            self._before.append(entry)
        else:
            _append(self._folder / _OPENINGS, entry)
        return self._cls.copy()

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
        return bool(self.ids.equals(data.images["id"]) and low >= -1 and high < len(data.names))

    @property
    def count(self) -> int:
        """How often it was opened."""
        return len(self.openings)

    def save(self, folder: Path) -> Vault:
        """Write labels and openings into a folder; the vault that is given back counts there."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        columns = pa.table({"id": self.ids, "class": pa.array(self._cls, pa.int64())})
        with whole(folder / _LABELS) as making:
            pq.write_table(columns, making, compression="zstd")
        if folder != self._folder:
            before = "".join(json.dumps(o, ensure_ascii=False) + "\n" for o in self.openings)
            with whole(folder / _OPENINGS) as making:
                making.write_text(before, encoding="utf-8")
        return Vault(self.ids, self._cls, folder)

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
            ids, cls = columns["id"].cast(pa.string()), columns["class"].to_numpy()
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            fix = "Restore the folder, or start a new run."
            raise DataError(f"not a readable vault: {error}", where=folder, fix=fix) from None
        return Vault(ids, cls, folder)


def hide(data: Dataset, keep_rows: np.ndarray) -> tuple[Dataset, Vault]:
    """The set with the class of these rows alone, and a vault with the class of every row.

    Only the kind `class` is hidden: votes, probabilities and tags of an image stay, since a protocol may be about them.
    """
    hidden = np.ones(len(data), bool)
    hidden[keep_rows] = False
    return data.without("class", np.flatnonzero(hidden)), Vault(data.images["id"], data.cls.copy())


def _append(file: Path, entry: dict[str, str]) -> None:
    line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line)
        os.fsync(handle)
    finally:
        os.close(handle)
