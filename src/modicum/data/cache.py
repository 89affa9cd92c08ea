"""The pixel cache: every image decoded once, in one file of bytes with an index, mapped into memory."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError, MachineError
from modicum.core.space import check, writing
from modicum.data.formats import Fault, Progress
from modicum.data.hashes import BYTES
from modicum.data.making import finish, folder_for
from modicum.data.states import states
from modicum.data.stream import Part, refuse, stream

_FORMAT = 2
_BYTES, _INDEX, _SKETCHES, _META = "pixels.bin", "index.npy", "sketches.npy", "meta.json"
_RECORD = np.dtype(
    [
        ("offset", "<i8"), ("height", "<i4"), ("width", "<i4"), ("channels", "i1"), ("bits", "i1"),
        ("whole_height", "<i4"), ("whole_width", "<i4"), ("hash", "S32"),
    ]
)  # fmt: skip
_PLACE = "Free some space, or set MODICUM_CACHE to a folder on a larger disk; a smaller --side needs less."


class Pixels:
    """Images of one set at one size.

    side: the shorter side they were brought down to (0 = as stored; never up).  channels: 1 if all are grey, else 3.
    index: a record an image: offset in the file, size here, channels, bits, size and hash of the image as stored.
    sketches: uint8 (N, BYTES), see data/hashes.py; no rows where the pixels were not read from a set.
    good: bool (N,), False where an image could not be read; `faults` says why.  Sets hold uint8, uint16 or both.
    """

    def __init__(
        self, home: Path, index: np.ndarray, block: np.ndarray, side: int, faults: list[Fault],
        sketches: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.home, self.index, self.side, self.faults = home, index, side, faults
        self.sketches = np.zeros((0, BYTES), np.uint8) if sketches is None else sketches
        self.good = index["height"] > 0
        self.channels = int(index["channels"].max(initial=1))
        self._bytes = block
        kinds = index[["height", "width", "channels", "bits"]][self.good]
        self._even: np.ndarray | None = None
        if len(kinds) and (kinds == kinds[0]).all():
            first = kinds[0]
            values = block.view(np.uint16 if first["bits"] == 16 else np.uint8)
            self._even = values.reshape(-1, first["height"], first["width"], first["channels"])
        self._place = np.cumsum(self.good) - 1

    def __len__(self) -> int:
        return len(self.index)

    # -- reading -----------------------------------------------------------------------------------------------------

    def image(self, row: int) -> np.ndarray:
        """One image, uint8 or uint16 (h,w,c); (0,0,c) where it could not be read."""
        found = self._stored(row)
        return found if found.shape[2] == self.channels else np.repeat(found, self.channels, 2)

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (B,H,W,c), zeros below and right of the smaller images, and sizes int32 (B,2): height, width.

        uint8, or uint16 if any image of the batch has 16 bits (8-bit values are then times 257: white stays white).
        """
        rows = np.asarray(rows, np.int64)
        sizes = np.stack([self.index["height"][rows], self.index["width"][rows]], 1).astype(np.int32)
        if self._even is not None and self.good[rows].all():
            return self._even[self._place[rows]], sizes
        deep = bool((self.index["bits"][rows] == 16).any())
        height, width = sizes.max(0, initial=0)
        out = np.zeros((len(rows), height, width, self.channels), np.uint16 if deep else np.uint8)
        for i, row in enumerate(rows):
            image = self._stored(int(row))
            part = out[i, : image.shape[0], : image.shape[1]]
            part[...] = image
            if deep and image.dtype == np.uint8:
                part *= 257
        return out, sizes

    def _stored(self, row: int) -> np.ndarray:
        at = self.index[row]
        shape = int(at["height"]), int(at["width"]), int(at["channels"]) or self.channels
        start, size = int(at["offset"]), math.prod(shape) * (int(at["bits"]) // 8)
        part = self._bytes[start : start + size]
        return part.view(np.uint16 if at["bits"] == 16 else np.uint8).reshape(shape)

    # -- on disk -----------------------------------------------------------------------------------------------------

    @staticmethod
    def build(
        data: Dataset, folder: str | Path, side: int = 0, progress: Progress | None = None, threads: int = 2,
        strict: bool = False,
    ) -> Pixels:  # fmt: skip
        """The cache of these images below a folder: loaded where it is there, else built.

        Its name holds reader, root, ids, side and the state of the files, so changed images make another cache.  A half
        cache is never seen, and of several processes one builds while the others wait (data/making.py).  strict:
        DataError at the first image that cannot be read.  DataError too if not one can be.
        """
        home = Path(folder) / f"pixels-{_key(data, side)}"
        try:
            found = Pixels.load(home)
        except DataError:
            found = _built(home, data, side, progress, threads, strict)
        if strict:
            refuse(found.faults)
        return found

    @staticmethod
    def load(home: Path) -> Pixels:
        """Map a cache into memory; DataError if it is not there or damaged."""
        try:
            meta = json.loads((home / _META).read_text(encoding="utf-8"))
            index: np.ndarray = np.load(home / _INDEX, mmap_mode="r", allow_pickle=False)
            sketches: np.ndarray = np.load(home / _SKETCHES, mmap_mode="r", allow_pickle=False)
            block: np.ndarray = np.asarray(np.memmap(home / _BYTES, np.uint8, "r"))
            whole = meta["format"] == _FORMAT and index.dtype == _RECORD and sketches.shape == (len(index), BYTES)
            whole = whole and meta["bytes"] == len(block) and meta["images"] == len(index)
            faults = [Fault(where, reason) for where, reason in meta["faults"]]
            side = int(meta["side"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"not a readable pixel cache: {error}", where=home, fix="Delete this folder.") from None
        if not whole:
            raise DataError("a damaged pixel cache, or one of another version", where=home, fix="Delete this folder.")
        return Pixels(home, index, block, side, faults, sketches)


class _Both(Pixels):
    """Two sets of pixels, one behind the other; each stays where it is."""

    def __init__(self, first: Pixels, second: Pixels) -> None:
        index = np.zeros(len(first) + len(second), first.index.dtype)
        for part, of in ((index[: len(first)], first.index), (index[len(first) :], second.index)):
            for name in (n for n in index.dtype.names or () if n in (of.dtype.names or ())):
                part[name] = of[name]
        block, both = np.zeros(0, np.uint8), (first.sketches, second.sketches)
        sketches = np.concatenate(both) if all(map(len, both)) else None
        self._parts = first, second
        super().__init__(first.home, index, block, first.side, [*first.faults, *second.faults], sketches)
        self._even = None

    def _stored(self, row: int) -> np.ndarray:
        first, second = self._parts
        return first._stored(row) if row < len(first) else second._stored(row - len(first))


def join(first: Pixels, second: Pixels) -> Pixels:
    """The images of two sets as those of one, the first set's first.  No pixel is copied."""
    return _Both(first, second)


def of_images(images: np.ndarray) -> Pixels:
    """Images uint8 (N,H,W,c), in memory or mapped into it, as they would come out of a cache."""
    n, height, width, channels = images.shape
    index = np.zeros(n, _RECORD)
    index["offset"] = np.arange(n) * height * width * channels
    known = {"height": height, "width": width, "channels": channels, "bits": 8}
    for name, value in {**known, "whole_height": height, "whole_width": width}.items():
        index[name] = value
    return Pixels(Path(), index, images.reshape(-1), 0, [])


def _key(data: Dataset, side: int) -> str:
    """A name for these pixels: where they are, which they are, how large, and when their files last changed."""
    words = f"{_FORMAT}\0{PIL.__version__}\0{data.reader}\0{data.root}\0{side}\0"
    digest = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=12)
    digest.update("\0".join(map(str, data.ids)).encode("utf-8", "surrogatepass"))
    digest.update(states(data).tobytes())
    return digest.hexdigest()


def _built(home: Path, data: Dataset, side: int, progress: Progress | None, threads: int, strict: bool) -> Pixels:
    """Build it, or take what another process built meanwhile."""
    with writing(home.parent, "the pixel cache", kind=MachineError):
        home.parent.mkdir(parents=True, exist_ok=True)
        with folder_for(home) as making:
            try:
                return Pixels.load(home)
            except DataError:
                shutil.rmtree(home, ignore_errors=True)
            needed = _needed(data, side)
            check(home.parent, needed, "the pixel cache", _PLACE, MachineError)
            with writing(home.parent, "the pixel cache", needed=needed, kind=MachineError):
                _write(data, making, side, progress, threads, strict)
                finish(making, home)
    return Pixels.load(home)


def _needed(data: Dataset, side: int, some: int = 16) -> int:
    """Bytes that a cache of these images takes, by a few of them; a fifth less, as they may differ."""
    rows = np.unique(np.linspace(0, len(data) - 1, min(some, len(data)), dtype=np.int64))
    sizes = [p.nbytes for part in stream(data, rows, side, 1) for p in part.pixels if p is not None]
    return int(0.8 * len(data) * (np.mean(sizes) + _RECORD.itemsize + BYTES)) if sizes else 0


def _write(data: Dataset, making: Path, side: int, progress: Progress | None, threads: int, strict: bool) -> None:
    """Bytes, index, sketches and meta of all images, part by part, in a folder that nobody looks at yet."""
    faults: list[Fault] = []
    with (
        (making / _BYTES).open("wb", buffering=1 << 20) as block, (making / _INDEX).open("wb") as index,
        (making / _SKETCHES).open("wb") as sketches,
    ):  # fmt: skip
        _head(index, _RECORD, (len(data),))
        _head(sketches, np.dtype(np.uint8), (len(data), BYTES))
        for part in stream(data, range(len(data)), side, threads, progress, strict):
            index.write(_records(part, block).tobytes())
            sketches.write(part.sketches.tobytes())
            faults.extend(part.faults)
        size = block.tell()
    if not size:
        first = f"{faults[0].where}: {faults[0].reason}" if faults else "the set is empty"
        found = f"not one of {len(data)} images can be read; the first: {first}"
        raise DataError(found, where=data.root, fix="Save the images again, as PNG or JPEG.")
    meta: dict[str, Any] = {"format": _FORMAT, "reader": data.reader, "root": data.root, "side": side}
    meta |= {"images": len(data), "bytes": size, "faults": [(f.where, f.reason) for f in faults]}
    (making / _META).write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _records(part: Part, block: BinaryIO) -> np.ndarray:
    """Append the pixels of a part to the file of bytes; -> where they are, (k,) of _RECORD."""
    out = np.zeros(len(part.rows), _RECORD)
    for name in ("hash", "bits"):
        out[name] = part.facts[name]
    out["whole_height"], out["whole_width"] = part.facts["height"], part.facts["width"]
    for at, pixels in enumerate(part.pixels):
        if pixels is not None:
            block.write(bytes(-block.tell() % pixels.itemsize))
            out[["offset", "height", "width", "channels"]][at] = block.tell(), *pixels.shape
            block.write(pixels.tobytes())
    return out


def _head(file: BinaryIO, kind: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """The start of an .npy file, whose values are written after it."""
    head = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, head)
