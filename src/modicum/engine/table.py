"""A finished run as a network and a Table: what the verbs after `fit` work on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from modicum.core.dataset import Dataset, Table
from modicum.core.errors import DataError, RunError
from modicum.core.net import Net
from modicum.core.tables import bounded
from modicum.data.cache import Pixels
from modicum.data.images import resize, square
from modicum.engine.dense import boxes_of
from modicum.engine.images import images_of
from modicum.models import files
from modicum.runs.run import Run


@dataclass(frozen=True)
class Finished:
    """A run that `fit` finished.  meta: net.json.  pixels are opened when asked for."""

    run: Run
    net: Net
    meta: dict[str, Any]
    data: Dataset

    @staticmethod
    def open(folder: str | Path) -> Finished:
        """RunError where the folder holds no finished run."""
        run = Run.open(folder)
        if not run.finished:
            run.refuse_held()
        if not (run / "net.json").is_file():
            raise RunError(
                "this run has no network yet",
                where=folder,
                fix="Repeat the `modicum fit` command that began it: it resumes.",
            )
        net, meta = files.load(run.folder)
        try:
            data = Dataset.load(run / "data")
        except DataError as error:
            raise RunError(error.found, where=error.where, fix=error.fix) from None
        return Finished(run, net.eval(), dict(meta), data)

    def pixels(self) -> Pixels:
        """The images of the run, from the cache (built again where it is gone)."""
        return images_of(self.run, self.data)

    @functools.cached_property
    def image(self) -> Callable[[int], np.ndarray]:
        """A row -> its image (h,w,c), of one opening of the pixels, at the first call."""
        opened = functools.cache(self.pixels)
        return lambda row: opened().image(row)

    def table(self, expression: str = "all") -> Table:
        """Rows of the run that could be read, with `logits` (R,C) from predictions.parquet."""
        file = self.run / "predictions.parquet"
        try:
            about = bounded(file)
            if (about.metadata or {}).get(b"net") != self.meta["sha256"].encode():
                raise ValueError("its logits are of another network than net.json")
            if about.num_rows > len(self.data):
                raise ValueError(f"{about.num_rows} rows for {len(self.data)} images")
            kept = pq.read_table(file, columns=["row", "id", "logits"])
            rows = kept["row"].to_numpy().astype(np.int64)
            logits = np.stack(kept["logits"].to_numpy(zero_copy_only=False)).astype(np.float32)
            if not self._fits(rows, kept["id"].to_numpy(zero_copy_only=False), logits):
                raise ValueError("its rows are not those of data/")
        except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's own errors are ValueErrors
            why = " ".join(str(error).split())[:160]
            fix = "Restore the file, or train again with another --out."
            raise RunError(f"missing or damaged: {why}", where=file, fix=fix) from None
        chosen = np.isin(rows, self.data.rows(expression))
        return Table(self.data, rows[chosen], {"logits": logits[chosen]}, self.image)

    def _fits(self, rows: np.ndarray, ids: np.ndarray, logits: np.ndarray) -> bool:
        """Whether logits (R,C) of rows (R,) with these ids are of this data, each row once."""
        if logits.shape != (len(rows), len(self.meta["classes"])) or not np.isfinite(logits).all():
            return False
        inside = rows.min(initial=0) >= 0 and rows.max(initial=-1) < len(self.data) and (np.diff(rows) > 0).all()
        return bool(inside and (self.data.ids[rows] == ids).all())

    def with_features(self, table: Table, size: int = 256) -> Table:
        """The table with `features` (R,D), the head's input, from one pass."""
        pixels, out = self.pixels(), []
        with torch.no_grad():
            for start in range(0, len(table), size):
                out.append(
                    self.net.body(self.batch([pixels.image(int(r)) for r in table.rows[start : start + size]])).numpy()
                )
        return replace(table, columns={**table.columns, "features": np.concatenate(out)})

    def with_maps(self, table: Table, size: int = 64) -> Table:
        """The table with `maps` (R,C,h,w): where what speaks for each class lies, by the usual explain method."""
        from modicum.nn.capture import explain

        pixels, out, every = self.pixels(), [], torch.arange(len(self.meta["classes"]))
        for start in range(0, len(table), size):
            x = self.batch([pixels.image(int(r)) for r in table.rows[start : start + size]])
            found = explain(self.net, x, every.expand(len(x), -1), output="positive")
            out.append(next(iter(found.maps.values())).numpy())
        return replace(table, columns={**table.columns, "maps": np.concatenate(out)})

    def with_found(self, table: Table) -> Table:
        """The table with `found` (R,K,6): the network's boxes, in pixels of the stored images (engine/tasks.py)."""
        from modicum.engine.tasks import packed

        sizes = np.column_stack([table.data.field("height"), table.data.field("width")])[table.rows].tolist()
        images = map(self.image, table.rows.tolist())
        parts = boxes_of(self.net, images, map(tuple, sizes), shorter=int(self.meta.get("shorter") or 0))
        return replace(table, columns={**table.columns, "found": packed([*parts])})

    def batch(self, images: list[np.ndarray]) -> torch.Tensor:
        """Images (h,w,c) of any size as the network's input (B,c,S,S) in [0,1]."""
        return self.tensor([self.fitted(i) for i in images])

    def fitted(self, image: np.ndarray) -> np.ndarray:
        """An image (h,w,c) of any size as (S,S,c), of the network's side and channels; dtype kept."""
        meta = self.meta
        return square(resize(image, int(meta.get("shorter") or 0)), int(meta["side"]), int(meta["channels"]))

    def tensor(self, fitted: list[np.ndarray]) -> torch.Tensor:
        """What `fitted` gave, uint8 or uint16, as (B,c,S,S) in [0,1]."""
        if not fitted:
            raise DataError("no image to look at", where="explain", fix="Give image files, or folders of them.")
        x = np.stack([d.astype(np.float32) / (65535 if d.dtype == np.uint16 else 255) for d in fitted])
        return torch.from_numpy(x).permute(0, 3, 1, 2)
