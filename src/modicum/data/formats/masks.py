"""A mask beside each image: `images/a.jpg` and `masks/a.png`, whose pixels are class numbers, as of VOC and CamVid."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.core.kinds import UNKNOWN
from modicum.data.formats import Fault, Found, Images, Progress, format_of
from modicum.data.images import levels, measure
from modicum.data.lines import TableFile, header_of, rows_of
from modicum.data.names import name_of
from modicum.data.objects import IGNORED, Apart, Objects, split_of
from modicum.data.outlines import part_of, stamp
from modicum.data.store import stays, write_images
from modicum.data.walk import SUFFIXES, walk

_PAIRS = {"images": "masks", "jpegimages": "segmentationclass"}
_GROUND = frozenset(("background", "_background_", "bg"))
_TXT, _CSV = "classes.txt", "classes.csv"


class Masks(Images):
    """Images and masks in folders of their own, under the same names."""

    NAME = "masks"
    LAYOUT = (
        "images/ and masks/ (or JPEGImages/ and SegmentationClass/) with a PNG of the same name an image: 0 "
        "background, 1, 2, ... classes, 255 unknown; named by lines of classes.txt; perhaps with train/ val/ test/"
    )
    WRITES = "images, and a PNG of class numbers beside each"

    def sniff(self, path: Path) -> tuple[int, str]:
        for top in (path, *(path / word for word in ("train", "val", "test"))):
            for images, masks in _PAIRS.items():
                pair = [_folder(top, word) for word in (images, masks)]
                if all(pair) and _stems(pair[0]) & _stems(pair[1]):
                    return 80, "a folder of masks beside one of images"
        return 0, "no folder of masks beside one of images"

    def find(self, path: Path) -> Found:
        found, faults = walk(path)
        images, masks = _paired(found)
        if not images:
            raise DataError("no folder images/ beside masks/", where=path, fix=f"Understood is: {self.LAYOUT}.")
        names = _names(path, faults)
        said, most, ones = Objects(), 0, True
        for row, name in enumerate(images.values()):
            if (mask := masks.get([*images][row])) is None:
                continue
            try:
                seen = _read(path, name, mask, len(names), said, row, faults)
            except DataError as error:
                faults.append(Fault(mask, error.found))
                continue
            most, ones = max(most, seen), ones and seen == 0
        faults += [Fault(masks[k], "no image of this name") for k in masks if k not in images]
        if ones and UNKNOWN in said.said["value"]:  # nowhere a class but 255
            most = 1
            faults.append(Fault("masks", "only 0 and 255: 255 is taken for the class, not for unknown"))
        _settled(said, ones)
        names = names or [str(i + 1) for i in range(most)]
        ids = [*images.values()]
        split = np.array([split_of(n) for n in ids], object)
        unknown = np.full(len(ids), -1, np.int64)
        return Found(
            self.NAME, str(path.resolve()), ids, names, unknown, {"split": split}, faults, drawn=said.delta(names)
        )

    def write(self, data: Dataset, folder: Path, progress: Progress) -> list[str]:
        from modicum.data.masks import Painter  # which needs torch

        if len(data.names) > UNKNOWN - 1:
            raise DataError(f"{len(data.names)} classes; masks hold {UNKNOWN - 1}", where=folder, fix="Write COCO.")
        painter, ids = Painter(data), [str(i) for i in data.ids]
        known, size = data.known("masks"), format_of(data)
        apart = Apart("images", data.field("split"))
        keep = ids if stays(ids) and apart.keeps(ids) else None
        names = write_images(data, folder, keep, apart.place, progress)
        for row in np.flatnonzero(known).tolist():
            drawn = painter.whole(row)
            if drawn.shape == (1, 1):  # looked at and empty
                drawn = np.full(size.pixels(data, row).shape[:2], drawn[0, 0])
            file = folder / f"masks{names[row].removeprefix('images').rpartition('.')[0]}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(coloured(drawn))
        (folder / _TXT).write_text("".join(f"{n}\n" for n in data.names), encoding="utf-8", newline="\n")
        return names


def _folder(top: Path, word: str) -> Path | None:
    try:
        return next((p for p in top.iterdir() if p.name.lower() == word and p.is_dir()), None) if top.is_dir() else None
    except OSError:
        return None


def _stems(folder: Path | None, most: int = 5000) -> set[str]:
    """Names without endings of what lies below a folder, of no more than some thousand."""
    out: set[str] = set()
    todo = [folder] if folder is not None else []
    for top in todo:
        with suppress(OSError):
            for entry in top.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    todo.append(entry)
                elif entry.suffix.lower() in SUFFIXES:
                    out.add(entry.stem)
                if len(out) > most:
                    return out
    return out


def _paired(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Images and masks by what their names have in common."""
    images: dict[str, str] = {}
    masks: dict[str, str] = {}
    roles = {**dict.fromkeys(_PAIRS, images), **dict.fromkeys(_PAIRS.values(), masks)}
    for name in names:
        parts = name.split("/")
        at = next((i for i, part in enumerate(parts[:-1]) if part.lower() in roles), None)
        if at is not None:
            key = "/".join([*parts[:at], *parts[at + 1 :]]).rpartition(".")[0]
            roles[parts[at].lower()].setdefault(key, name)
    return images, masks


def _read(root: Path, image: str, mask: str, classes: int, said: Objects, row: int, faults: list[Fault]) -> int:
    """What a mask says, into `said`; -> the largest class number in it.  DataError where it cannot be believed."""
    values = levels(root / mask, mask)
    height, width = measure(root / image, image)
    if values.shape != (height, width):
        raise DataError(f"a mask of {values.shape[1]} x {values.shape[0]} pixels for an image of {width} x {height}")
    if values.dtype != bool and not 0 <= values.min() <= values.max() <= UNKNOWN:
        raise DataError(f"pixels from {values.min()} to {values.max()}: class numbers are 0 to 254, 255 is unknown")
    values = values.astype(np.uint8)
    there = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
    nameless = [v for v in there if classes and classes < v < UNKNOWN]
    if nameless:
        faults.append(Fault(mask, f"the number {nameless[0]}, but there are {classes} classes: taken as unknown"))
    for value in there:
        part = part_of(values == value) if value else None
        if part is not None:
            cls = value - 1 if value < UNKNOWN and value not in nameless else -1
            said.add("masks", row, cls, part.frame, stamp(part, height, width), None if cls >= 0 else float(value))
    said.look("masks", row)
    return max((v for v in there if v < UNKNOWN and v not in nameless), default=0)


def _settled(said: Objects, ones: bool) -> None:
    """What is unknown becomes to be ignored, or the only class there is."""
    for at, value in enumerate(said.said["value"]):
        if value is not None:
            alone = ones and value == UNKNOWN
            said.said["class"][at], said.said["value"][at] = (0, None) if alone else (-1, IGNORED)


def _names(root: Path, faults: list[Fault]) -> list[str]:
    """Classes in order, from classes.txt or classes.csv (a column of names, perhaps one of numbers); [] = none told."""
    lines: list[str] = []
    if (root / _TXT).is_file():
        with (root / _TXT).open(encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 20).splitlines()
    elif (root / _CSV).is_file():
        lines = _listed(TableFile.of(root / _CSV), faults)
    try:
        names = [name_of(line) for line in lines]
    except ValueError as error:
        faults.append(Fault(_TXT, f"not used: {error}"))
        return []
    while names and not names[-1]:
        names.pop()
    names = names[1:] if names and names[0].lower() in _GROUND else names
    if len(set(names)) < len(names) or "" in names or len(names) > UNKNOWN - 1:
        faults.append(Fault(_TXT, "not used: a name a line is expected, each once, at most 254"))
        return []
    return names


def _listed(file: TableFile, faults: list[Fault]) -> list[str]:
    heads = [h.strip().lower() for h in header_of(file)]
    name = next((heads.index(w) for w in ("name", "class", "label") if w in heads), 0)
    number = next((heads.index(w) for w in ("index", "value", "id", "number") if w in heads), None)
    rows = [cells for _, cells in rows_of(file, range(len(heads)), faults) if len(cells) > max(name, number or 0)]
    if number is not None:
        rows.sort(key=lambda cells: int(cells[number]) if cells[number].strip().isdecimal() else 1 << 30)
    return [cells[name] for cells in rows]


def mask_files(data: Dataset) -> Callable[[int, bytes], dict[str, Any] | None] | None:
    """(row, its image's bytes) -> its mask as the HuggingFace hub keeps pictures, None where nobody drew one; None for
    a set without masks.  DataError for more classes than a mask holds."""
    from modicum.data.masks import Painter

    known = data.known("masks")
    if not known.any():
        return None
    if len(data.names) > UNKNOWN - 1:
        raise DataError(f"{len(data.names)} classes; masks hold {UNKNOWN - 1}", where="mask", fix="Write COCO.")
    painter = Painter(data)

    def of(row: int, image: bytes) -> dict[str, Any] | None:
        if not known[row]:
            return None
        drawn = painter.whole(row)
        if drawn.shape == (1, 1):  # looked at and empty
            drawn = np.full(measure(image, str(data.ids[row])), drawn[0, 0])
        return {"bytes": coloured(drawn), "path": f"{row}.png"}

    return of


def coloured(drawn: np.ndarray) -> bytes:
    """Class numbers, uint8 (H,W), as a PNG whose palette shows them apart: VOC's, bits of the number spread out."""
    number = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((number >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    image = Image.fromarray(drawn)
    image.putpalette(palette.tobytes())
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
