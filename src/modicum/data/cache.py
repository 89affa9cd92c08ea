"""The pixel cache: every image decoded once, in one file of bytes with an index, mapped into memory."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import Fault, format_of
from modicum.data.stream import Look, Progress, stream

_FORMAT = 1
_BYTES, _INDEX, _META = "pixels.bin", "index.npy", "meta.json"
_RECORD = np.dtype(
    [
        ("offset", "<i8"), ("height", "<i4"), ("width", "<i4"), ("channels", "i1"), ("bits", "i1"),
        ("whole_height", "<i4"), ("whole_width", "<i4"), ("hash", "S32"),
    ]
)  # fmt: skip
_STALE = 24 * 3600.0


class Pixels:
    """Images of one set at one size.

    side: the shorter side they were brought down to (0 = as stored; never up).  channels: 1 if all are grey, else 3.
    index: a record an image: offset in the file, size here, channels, bits, size and hash of the image as stored.
    good: bool (N,), False where an image could not be read; `faults` says why.  Sets hold uint8, uint16 or both.
    """

    def __init__(self, home: Path, index: np.ndarray, block: np.ndarray, side: int, faults: list[Fault]) -> None:
        self.home, self.index, self.side, self.faults = home, index, side, faults
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
        data: Dataset, folder: str | Path, side: int = 0, progress: Progress | None = None, threads: int = 2
    ) -> Pixels:
        """The cache of these images below a folder: loaded where it is there, else built.

        Its name holds reader, root, ids, side and the state of the files, so changed images make another cache.  It is
        written under a temporary name, synced and renamed: a half cache is never seen, and of two processes that build
        at once the second to finish takes the first one's.  DataError if not one image can be read.
        """
        home = Path(folder) / f"pixels-{_key(data, side)}"
        if home.is_dir():
            try:
                return Pixels.load(home)
            except DataError:
                shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        _sweep(home.parent)
        making = home.parent / f".making-{os.getpid()}-{uuid.uuid4().hex}"
        making.mkdir()
        try:
            _write(data, making, side, progress, threads)
            try:
                making.rename(home)
                _sync(home.parent)
            except OSError:
                if not home.is_dir():
                    raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return Pixels.load(home)

    @staticmethod
    def load(home: Path) -> Pixels:
        """Map a cache into memory; DataError if it is damaged."""
        try:
            meta = json.loads((home / _META).read_text(encoding="utf-8"))
            index = np.load(home / _INDEX, allow_pickle=False)
            block: np.ndarray = np.asarray(np.memmap(home / _BYTES, np.uint8, "r"))
            whole = meta["format"] == _FORMAT and index.dtype == _RECORD
            whole = whole and meta["bytes"] == len(block) and meta["images"] == len(index)
            faults = [Fault(where, reason) for where, reason in meta["faults"]]
            side = int(meta["side"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"not a readable pixel cache: {error}", where=home, fix="Delete this folder.") from None
        if not whole:
            raise DataError("a damaged pixel cache, or one of another version", where=home, fix="Delete this folder.")
        return Pixels(home, index, block, side, faults)


def _key(data: Dataset, side: int) -> str:
    """A name for these pixels: where they are, which they are, how large, and when their files last changed."""
    digest = hashlib.blake2b(f"{_FORMAT}\0{data.reader}\0{data.root}\0{side}\0".encode(), digest_size=12)
    digest.update("\0".join(map(str, data.ids)).encode("utf-8", "surrogatepass"))
    for file in format_of(data).files(data):
        try:
            state = file.stat()
        except OSError:
            continue
        digest.update(f"\0{state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()


def _write(data: Dataset, making: Path, side: int, progress: Progress | None, threads: int) -> None:
    """Bytes, index and meta of all images, synced, in a folder that nobody looks at yet."""
    index = np.zeros(len(data), _RECORD)
    faults: list[tuple[str, str]] = []
    offset = 0
    with (making / _BYTES).open("wb", buffering=1 << 20) as file:
        for seen in stream(data, range(len(data)), side, threads, progress):
            if seen.pixels is None:
                faults.append((str(data.ids[seen.row]), seen.fault))
                continue
            offset += -offset % (seen.bits // 8)
            file.seek(offset)
            index[seen.row] = _record(seen, offset)
            offset += file.write(seen.pixels.tobytes())
        file.flush()
        os.fsync(file.fileno())
    if not offset:
        where, reason = faults[0] if faults else ("", "the set is empty")
        raise DataError(f"not one of {len(data)} images can be read; the first: {where}: {reason}", where=data.root)
    with (making / _INDEX).open("wb") as file:
        np.save(file, index, allow_pickle=False)
        os.fsync(file.fileno())
    meta: dict[str, Any] = {"format": _FORMAT, "reader": data.reader, "root": data.root, "side": side}
    meta |= {"images": len(index), "bytes": offset, "faults": faults}
    with (making / _META).open("w", encoding="utf-8") as text:
        json.dump(meta, text, indent=1)
        text.flush()
        os.fsync(text.fileno())
    _sync(making)


def _record(seen: Look, offset: int) -> tuple[Any, ...]:
    assert seen.pixels is not None
    height, width, channels = seen.pixels.shape
    return offset, height, width, channels, seen.bits, seen.height, seen.width, seen.hash.encode()


def _sync(folder: Path) -> None:
    """Make a rename last, where the system can (Windows cannot open a folder)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove what killed builds left behind a day ago."""
    for left in folder.glob(".making-*"):
        try:
            age = time.time() - max(p.stat().st_mtime for p in (left, *left.iterdir()))
        except OSError:
            continue
        if age > _STALE:
            shutil.rmtree(left, ignore_errors=True)
