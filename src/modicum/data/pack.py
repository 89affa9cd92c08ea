"""Annotations packed for batches: sorted by image once, gathered by offsets, never a list of objects an image.

N images, C classes, M boxes, V votes, B rows of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from modicum.core.batch import Boxes, Votes
from modicum.core.dataset import Dataset
from modicum.data.masks import looked


@dataclass(frozen=True, eq=False)
class Packed:
    """Annotations of one kind, in the order of their images (and as they were said within one).

    offsets: int64 (N+1,).  columns: tensors (M,...).
    """

    offsets: Tensor
    columns: dict[str, Tensor]

    @staticmethod
    def of(rows: np.ndarray, images: int, **columns: np.ndarray) -> Packed:
        """rows: int (M,), the image of each.  columns: arrays (M,...)."""
        order = np.argsort(rows, kind="stable")
        offsets = np.searchsorted(rows[order], np.arange(images + 1))
        return Packed(torch.from_numpy(offsets), {k: torch.from_numpy(v[order]) for k, v in columns.items()})

    def gather(self, rows: Tensor) -> dict[str, Tensor]:
        """What was said of these rows, (M',...) each, with `image`: int64 (M',), the position in `rows`, ascending."""
        start, count = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        image = torch.repeat_interleave(torch.arange(len(rows)), count)
        within = torch.arange(len(image)) - (count.cumsum(0) - count)[image]
        at = start[image] + within
        return {"image": image, **{k: v[at] for k, v in self.columns.items()}}


class Annotations:
    """What a Dataset says in boxes and votes, ready for batches."""

    def __init__(self, data: Dataset) -> None:
        n = len(data)
        boxes, (row, annotator, cls) = data.of_kind("boxes"), data.votes
        self.boxes = Packed.of(
            boxes["row"].to_numpy(), n,
            xyxy=np.stack([boxes[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1).astype(np.float32),
            cls=_filled(boxes["class"], -1), state=(boxes["value"].fill_null(1).to_numpy() > 0.5).astype(np.int8),
        ) if len(boxes) else None  # fmt: skip
        self.votes = Packed.of(row, n, annotator=annotator, cls=cls) if len(row) else None
        said = self.boxes is not None or data.looked.num_rows
        self.looked = torch.from_numpy(looked(data, "boxes")) if said else None

    def of(self, rows: Tensor, device: torch.device) -> tuple[Votes | None, Boxes | None, Tensor | None]:
        """-> votes, boxes, looked of rows (B,); None where the set has none of the kind."""
        votes = None if self.votes is None else {k: v.to(device) for k, v in self.votes.gather(rows).items()}
        boxes = None if self.boxes is None else {k: v.to(device) for k, v in self.boxes.gather(rows).items()}
        looked = None if self.looked is None else self.looked[rows].to(device)
        return Votes(**votes) if votes else None, Boxes(**boxes) if boxes else None, looked


def _filled(column: pa.ChunkedArray, value: int) -> np.ndarray:
    return np.asarray(column.fill_null(value).to_numpy()).astype(np.int64)
