"""Cut-outs of objects: pictures of one object each whose last channel says what belongs to it.

They come from a folder of PNGs with transparency for each class; from any set in which objects are drawn (instances,
else masks, else boxes, whose whole rectangle is then taken), of which images for val and test are left alone; or from
'sample:digits'.  A cut-out is cropped to what is there, and no larger than its use needs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow.compute as pc
from PIL import Image, ImageOps

from modicum.core.dataset import MODEL, Dataset
from modicum.core.errors import DataError
from modicum.data.formats import format_of
from modicum.data.formats.digits import digits
from modicum.data.formats.scenes import enlarged
from modicum.data.images import decode
from modicum.data.outlines import unstamp
from modicum.data.read import pixels, read

LEAST, LARGEST = 4, 512  # pixels of a side: what is smaller is refused, what is larger made smaller
MOST = 500  # cut-outs of a class
THERE = 32  # alpha from which on a pixel belongs to the object
_DRAWN = ("instances", "masks", "boxes")
_INK = 32


def cutouts(place: str, names: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """Cut-outs of these classes, uint8 (h,w,4), at most MOST of each; a class without any is left out.

    DataError names the file that is no cut-out: one that is damaged, moves, is empty or smaller than 4 pixels.
    """
    if not place:
        return {}
    data = read(place).data
    rows = np.flatnonzero(~np.isin(data.field("split").astype(str), ("val", "test")))
    kind = next((k for k in _DRAWN if data.of_kind(k).num_rows), "")
    found: dict[str, list[np.ndarray]] = {}
    for name, cutout in _objects(data, kind, rows) if kind else _pictures(data, rows, names):
        if name in names:
            found.setdefault(name, []).append(cutout)
    return {name: of[:: -(-len(of) // MOST)] for name, of in found.items()}


def cropped(picture: np.ndarray, where: object) -> np.ndarray:
    """A picture (h,w,4) without the rim that is transparent, at most LARGEST a side; DataError where little is left."""
    there = picture[..., 3] >= THERE
    if not there.any():
        raise DataError("all of it is transparent", where=where, fix="Cut the object out again, or remove the file.")
    (y, x) = (np.flatnonzero(there.any(axis)) for axis in (1, 0))
    out = picture[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    if min(out.shape[:2]) < LEAST:
        found = f"an object of {out.shape[1]} x {out.shape[0]} pixels"
        raise DataError(found, where=where, fix=f"Cut it out of a larger picture: {LEAST} pixels a side are the least.")
    if max(out.shape[:2]) <= LARGEST:
        return np.ascontiguousarray(out)
    scale = LARGEST / max(out.shape[:2])
    size = max(LEAST, round(out.shape[1] * scale)), max(LEAST, round(out.shape[0] * scale))
    return np.asarray(Image.fromarray(out).resize(size, Image.Resampling.BICUBIC))


def of_digit(digit: np.ndarray) -> np.ndarray:
    """A digit of scikit-learn, uint8 (8,8), as a white cut-out: its ink is what belongs to it."""
    out = np.full((_INK, _INK, 4), 255, np.uint8)
    out[..., 3] = np.rint(255 * enlarged(digit, _INK, _INK))
    return cropped(out, "a digit")


# -- one picture a cut-out ---------------------------------------------------------------------------------------------


def _pictures(data: Dataset, rows: np.ndarray, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    form = format_of(data)
    for row in rows.tolist():
        name = str(data.ids[row])
        cls = data.names[data.cls[row]] if data.cls[row] >= 0 else name.split("/")[0]  # a folder that is the only one
        if cls not in names:
            continue
        if data.reader == "digits":
            yield cls, of_digit(digits()[0][row, ..., 0])
            continue
        stored = form.stored(data, row)
        yield cls, cropped(_opaque(form.pixels(data, row)) if stored is None else opened(stored, name), name)


def opened(stored: bytes, where: object) -> np.ndarray:
    """A file's picture with its transparency, uint8 (h,w,4).  DataError where it is refused, or moves."""
    plain = decode(stored, where)  # refuses what is damaged or too large, in its own words
    with Image.open(io.BytesIO(stored)) as image:
        if getattr(image, "n_frames", 1) > 1:
            fix = "Save the picture that you mean by itself, as PNG."
            raise DataError(f"an animation of {image.n_frames} pictures", where=where, fix=fix)  # type: ignore[attr-defined]
        if image.mode.startswith(("I", "F")):
            return _opaque(plain)
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))


def _opaque(image: np.ndarray) -> np.ndarray:
    """An image (h,w,c) all of which belongs to the object, uint8 (h,w,4)."""
    image = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image
    return np.concatenate([np.repeat(image, 4 - image.shape[2], 2)[..., :3], np.full_like(image[..., :1], 255)], 2)


# -- objects that are drawn in images ----------------------------------------------------------------------------------


def _objects(data: Dataset, kind: str, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Class and cut-out of each object that a person drew; one that is to be ignored, or too small, is left out."""
    said = data.annotations.append_column("by", _who(data))
    said = said.filter(pc.equal(said["kind"].cast("string"), kind)).sort_by("row")
    last, image = -1, np.zeros((0, 0, 3), np.uint8)
    mine = set(rows.tolist())
    for one in said.to_pylist():
        ignored = one["value"] is not None and one["value"] <= 0.5
        if one["row"] not in mine or one["by"] == MODEL or ignored or (one["class"] or 0) < 0 or one["class"] is None:
            continue
        if one["row"] != last:
            last, image = one["row"], _opaque(pixels(data, one["row"]))
        out = image if kind == "boxes" else _masked(image, one["data"], data.ids[last])
        if kind == "boxes":
            x0, y0, x1, y1 = (round(one[c]) for c in ("x0", "y0", "x1", "y1"))
            out = image[max(0, y0) : y1, max(0, x0) : x1]
        if min(out.shape[:2]) >= LEAST:
            try:
                yield data.names[one["class"]], cropped(out, data.ids[last])
            except DataError:
                continue


def _who(data: Dataset) -> list[list[str]]:
    return [data.who().tolist()]


def _masked(image: np.ndarray, mask: bytes, where: object) -> np.ndarray:
    there = unstamp(mask)
    if there.shape != image.shape[:2]:
        raise DataError("a mask of another size than its image", where=where, fix="Draw the image's masks again.")
    out = image.copy()
    out[..., 3] = 255 * there.astype(np.uint8)
    return out
