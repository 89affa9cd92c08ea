"""Maps of a Table as drafts of boxes and masks: which classes to draw in which image, and what a person drew already.

A Table's column `maps` is float (R,C,h,w): for each class a map that covers the whole image; rows that are not finite
are unknown.  R rows, C classes.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modicum.core.dataset import HUMAN, Table
from modicum.core.errors import DataError, NeedsError


class Drafts(NamedTuple):
    """What is to be drawn.  rows: int64 (R,), of the Dataset.  maps: float32 (R,C,h,w).  present: bool (R,C), at least
    one a row.  size: int64 (R,2), height and width of the stored image."""

    rows: np.ndarray
    maps: np.ndarray
    present: np.ndarray
    size: np.ndarray


def present(table: Table) -> np.ndarray:
    """Classes that are known to be in each image, by its tags or its class, bool (R,C)."""
    data = table.data
    found = np.zeros((len(data), len(data.names)), bool)
    known = np.flatnonzero(data.cls >= 0)
    found[known, data.cls[known]] = True
    if data.tags is not None:
        found |= data.tags == 1
    return found[table.rows]


def undrawn(table: Table, kind: str, where: str) -> np.ndarray:
    """Images with a class that is known to be there, in which no person has drawn what is of `kind`, bool (R,).

    NeedsError, of `where`, where no image has a tag or a class.
    """
    data, there = table.data, present(table)
    if not there.any():
        fix = "Say which classes are in the images: drafts are drawn of each."
        raise NeedsError(f"none of {len(table)} images has tags or a class", where=where, fix=fix)
    said = pc.equal(data.annotations["kind"].cast(pa.string()), kind).to_numpy() & (data.who() == HUMAN)
    drawn = np.zeros(len(data), bool)
    drawn[data.annotations["row"].to_numpy()[said]] = True
    return np.asarray(there.any(1) & ~drawn[table.rows])


def drafts(table: Table, kind: str) -> Drafts:
    """The rows with maps and a class that is known to be there, in which no person has drawn what is of `kind`.

    NeedsError where no row has a tag or a class; DataError for maps of another shape, or an image of unknown size.
    """
    data, maps, there = table.data, np.asarray(table["maps"], np.float32), present(table)
    where = f"map-{kind}"
    if maps.ndim != 4 or maps.shape[:2] != there.shape:
        found = f"maps of shape {maps.shape} for {len(table)} images and {len(data.names)} classes"
        raise DataError(found, where=where, fix="Give one map (h,w) for each image and class.")
    at = np.flatnonzero(undrawn(table, kind, where) & np.isfinite(maps).all((1, 2, 3)))
    rows = table.rows[at]
    size = np.stack([np.nan_to_num(data.field(f)[rows].astype(np.float64)) for f in ("height", "width")], 1)
    unknown = rows[(size < 1).any(1)]
    if len(unknown):
        fix = "Read the folder again: `modicum scan` notes sizes."
        raise DataError("the size of the image is not known", where=str(data.ids[unknown[0]]), fix=fix)
    return Drafts(rows, maps[at], there[at], size.astype(np.int64))


def frame(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask, bool (H,W), not empty: half open."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def png(mask: np.ndarray) -> bytes:
    """A mask, bool (H,W), as a PNG of one bit a pixel."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG")
    return out.getvalue()


def class_map(logits: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Logits a pixel, float (C+1,h,w), background first -> the class of each pixel at size (H,W), uint8: 0 background,
    c + 1 class c.

    Logits are brought to size (bilinear, by Pillow) and the largest wins: an outline between pixels stays smooth.
    """
    from PIL import Image

    if len(logits) > 255:
        fix = "A class map holds 254 at most."
        raise DataError(f"masks of {len(logits) - 1} classes", where="class map", fix=fix)
    planes = np.ascontiguousarray(logits, np.float32)
    if planes.shape[1:] != tuple(size):
        how = Image.Resampling.BILINEAR
        planes = np.stack([np.asarray(Image.fromarray(p).resize((size[1], size[0]), how)) for p in planes])
    return planes.argmax(0).astype(np.uint8)
