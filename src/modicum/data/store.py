"""Writing images into a folder: what each file is called, its bytes, and a folder that is whole or not there."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.disk import sync
from modicum.core.errors import DataError, MachineError
from modicum.data.formats import format_of
from modicum.data.names import fold, safe
from modicum.data.tiff import page_of
from modicum.data.walk import SUFFIXES

_MAGIC = (
    (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"II+\0", ".tif"),
    (b"MM\0+", ".tif"), (b"RIFF", ".webp"), (b"BM", ".bmp"), (b"GIF8", ".gif"),
)  # fmt: skip
_STALE = 24 * 3600.0
_LONGEST = 240  # bytes of one part of a path: every system takes 255, and a number may come behind it


def write_images(
    data: Dataset, folder: Path, names: Sequence[str] | None, place: Callable[[int, str], str],
    progress: Callable[[int, int], None],
) -> list[str]:  # fmt: skip
    """Every image into a file of its own below a folder, as it is stored or as PNG; -> their names there.

    names: what they are called, or None: then each is called as `place(row, leaf)` says, where leaf is the last part of
    its id as a file name, and a number is put behind it where that name is taken.
    """
    taken, out, made = set[str](), [], set[Path]()
    for row, name in enumerate(map(str, data.ids)):
        image = image_of(data, row)
        if names is None:
            name = _free(place(row, file_name(name.rpartition("/")[2], image)), taken)
        file = folder / name
        if file.parent not in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            made.add(file.parent)
        file.write_bytes(image)
        out.append(name)
        progress(row + 1, len(data))
    return out


def image_of(data: Dataset, row: int) -> bytes:
    """The image of a row as it is stored, or as PNG without loss where it is a page of a file, or bare pixels."""
    form, name = format_of(data), str(data.ids[row])
    stored = form.stored(data, row)
    if stored is None and page_of(name)[1] < 0 and (file := Path(data.root, name)).is_file():
        return file.read_bytes()  # a large one
    return png(form.pixels(data, row)) if stored is None else stored


def file_name(leaf: str, image: bytes) -> str:
    """A name that every system can hold and that ends as image files do; image: its bytes."""
    stem, dot, ending = leaf.rpartition(".")
    if not stem or f".{ending.lower()}" not in SUFFIXES:
        found = (e for mark, e in _MAGIC if image.startswith(mark))
        stem, dot, ending = leaf, "", next(found, ".png")
    while len(safe(stem).encode()) > _LONGEST:
        stem = stem[:-1]
    return f"{safe(stem) or 'image'}{dot}{ending}"


def stays(names: Sequence[str]) -> bool:
    """Whether all of these are names of image files that every system holds, also in one folder without case."""
    spelt: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        if "." + parts[-1].rpartition(".")[2].lower() not in SUFFIXES:
            return False
        if any(not p or safe(p.replace("%", "_")) != p.replace("%", "_") or len(p.encode()) > 255 for p in parts):
            return False
        for end in range(1, len(parts) + 1):
            path = "/".join(parts[:end])
            if spelt.setdefault(fold(path), path) != path:
                return False
    return len(set(names)) == len(names)


def png(pixels: np.ndarray) -> bytes:
    """An image (H,W,c), uint8 or uint16 grey, as PNG without loss."""
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG")
    return out.getvalue()


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where another file has it, also if only in capitals."""
    stem, dot, ending = name.rpartition(".")
    count = 1
    while fold(name) in taken:
        count += 1
        name = f"{stem}-{count}{dot}{ending}"
    taken.add(fold(name))
    return name


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Yields an empty folder beside `place`, which takes that name on leaving; after an exception nothing is there.

    DataError if something is at `place` already, other than an empty folder, or if it cannot be written.
    """
    making, above = place.with_name(f".{place.name}.{os.getpid()}.tmp"), list[Path]()
    try:
        if place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
            raise DataError("there is something here already", where=place, fix="Choose another name, or remove it.")
        above = [p for p in place.parents if not p.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        for left in place.parent.glob(f".{place.name}.*.tmp"):
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left, ignore_errors=True)
        making.mkdir()
        yield making
        _settle(making)
        if place.is_dir():
            place.rmdir()
        making.rename(place)
        sync(place.parent)
    except OSError as error:
        fix = "Free some space, or choose another place."
        found = f"cannot be written: {error.strerror or error}"
        raise MachineError(found, where=error.filename or place, fix=fix) from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
        if not place.exists():
            for folder in above:
                with suppress(OSError):
                    folder.rmdir()


def _settle(folder: Path) -> None:
    """Everything below a folder on the disk: at one stroke where the system can, since a sync a file takes minutes."""
    if hasattr(os, "sync"):
        os.sync()
        return
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())
