"""Masks of a Dataset as class maps: what each pixel of an image is.

A statement of kind "masks" (of an image that has none: "instances") is one class's pixels in a PNG of one bit a pixel,
of the size of the stored image.  In a class map 0 is background, c + 1 class c, 255 unknown.  A pixel that no statement
covers is background where the image was looked through (`Dataset.looked`, complete for all classes), else unknown.
Unknown is also what a statement covers that names no class, has the value 0, or is less sure than was asked for.
Statements are painted in order, those of people over those of models.

Letters: N images, B rows, S side.  PNGs come from outside: their header must fit before they are decoded.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modicum.core.dataset import HUMAN, Dataset
from modicum.core.errors import DataError
from modicum.core.kinds import UNKNOWN
from modicum.data.images import decode, limit

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("masks", "instances")
KEPT = 2**25  # pixels of class maps that are kept, a byte each
_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


class Painter:
    """Paints the class maps of a Dataset when they are asked for.  side: of those in batches; the last are kept."""

    def __init__(self, data: Dataset, side: int = 1) -> None:
        kind = data.annotations["kind"].cast(pa.string())
        at = np.flatnonzero(pc.is_in(kind, pa.array(KINDS)).fill_null(False).to_numpy())
        said = data.annotations.take(at)
        row, person = said["row"].to_numpy().astype(np.int64), data.who()[at] == HUMAN
        instance = pc.equal(said["kind"].cast(pa.string()), "instances").to_numpy(zero_copy_only=False)
        has, self.ground = np.zeros(len(data), bool), np.zeros(len(data), bool)
        has[row[~instance]] = True
        for name in set(data.looked["kind"].cast(pa.string()).to_pylist()) & set(KINDS):
            self.ground |= looked(data, name).all(1)
        order = np.lexsort((np.arange(len(at)), person, row))
        order = order[~(instance & has[row])[order]]
        cls = said["class"].fill_null(-1).to_numpy()[order].astype(np.int64)
        self.cls = np.where(said["value"].fill_null(1).to_numpy()[order] > 0, cls, -1)
        self.sure = said["confidence"].fill_null(1).to_numpy()[order]
        self.bytes = said["data"].take(order)
        self.start = np.searchsorted(row[order], np.arange(len(data) + 1))
        self.ids = data.ids
        if len(at) and len(data.names) >= UNKNOWN:
            fix = f"Leave classes out: a class map holds {UNKNOWN - 1} at most."
            raise DataError(f"masks of {len(data.names)} classes", where=data.root or "data", fix=fix)
        height, width = (np.nan_to_num(data.field(f).astype(np.float64)) for f in ("height", "width"))
        self.size = np.stack([height, width], 1).astype(np.int64)
        self.side, self.one = side, functools.lru_cache(maxsize=max(1, KEPT // side**2))(self._squeezed)

    def __bool__(self) -> bool:
        """Whether anything is known of any pixel."""
        return bool(len(self.cls) or self.ground.any())

    def whole(self, row: int, sure: float = 0.0) -> np.ndarray:
        """The class map of an image at its stored size, uint8 (H,W).

        sure: least confidence of a statement that is believed; one without a confidence is.  DataError names the image
        where a mask is damaged or of another size.
        """
        mine = range(self.start[row], self.start[row + 1])
        masks = [self._decoded(row, i) for i in mine]
        size = masks[0].shape if masks else tuple(np.maximum(self.size[row], 1))
        out = np.full(size, 0 if self.ground[row] else UNKNOWN, np.uint8)
        for i, mask in zip(mine, masks, strict=True):
            if mask.shape != size:
                raise self._refused(row, f"masks of {mask.shape[1]} x {mask.shape[0]} and {size[1]} x {size[0]} pixels")
            out[mask] = self.cls[i] + 1 if self.cls[i] >= 0 and self.sure[i] >= sure else UNKNOWN
        return out

    def batch(self, rows: Tensor, sure: float = 0.0) -> Tensor:
        """Class maps of rows (B,), each squeezed to a square, uint8 (B,S,S): the nearest pixel of the stored image."""
        import torch

        return torch.from_numpy(np.stack([self.one(int(r), sure) for r in rows]))

    def _squeezed(self, row: int, sure: float) -> np.ndarray:
        return squeezed(self.whole(row, sure), self.side)

    def _decoded(self, row: int, i: int) -> np.ndarray:
        """A statement's pixels, bool (H,W)."""
        content = self.bytes[i].as_py() or b""
        if not content.startswith(_HEAD) or content[24:26] != b"\1\0":
            raise self._refused(row, "a mask is no PNG of one bit a pixel")
        width, height = (int.from_bytes(content[a : a + 4], "big") for a in (16, 20))
        if self.size[row].min() > 0 and (height, width) != tuple(self.size[row]):
            whole = f"{self.size[row, 1]} x {self.size[row, 0]}"
            raise self._refused(row, f"a mask of {width} x {height} pixels for an image of {whole}")
        if width * height > limit():
            raise self._refused(row, f"a mask of {width} x {height} pixels")
        return decode(content, where=self.ids[row])[..., 0] > 127

    def _refused(self, row: int, found: str) -> DataError:
        return DataError(found, where=str(self.ids[row]), fix="Draw the image's masks again, or leave them out.")


def squeezed(labels: np.ndarray, side: int) -> np.ndarray:
    """A class map (H,W) as a square (side,side): the nearest pixel of each."""
    y, x = (((np.arange(side) + 0.5) * n / side).astype(np.int64) for n in labels.shape)
    return np.asarray(labels[y[:, None], x])


def looked(data: Dataset, kind: str) -> np.ndarray:
    """Where statements of a kind are complete, bool (N,C); a row about class -1 or none speaks of all classes."""
    out = np.zeros((len(data), len(data.names)), bool)
    said = data.looked.filter(pc.equal(data.looked["kind"].cast(pa.string()), kind))
    row, cls = said["row"].to_numpy(), said["class"].fill_null(-1).to_numpy()
    complete = said["complete"].fill_null(0).to_numpy() == 1
    every = cls < 0
    out[row[every]] = complete[every][:, None]
    out[row[~every], cls[~every]] = complete[~every]
    return out
