"""The IDX files of MNIST and its kin, as torchvision keeps them (`FashionMNIST/raw/`), packed (.gz) or not."""

from __future__ import annotations

import functools
import gzip
import math
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import Fault, Format, Read, inside

_PARTS = {"train": "train", "t10k": "test"}
_FILES = {split: part for part, split in _PARTS.items()}
_NAMES = {
    "FashionMNIST": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "KMNIST": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip
_LARGEST = 1 << 32


class Idx(Format):
    """IDX files of bytes: images of one size and one class an image."""

    NAME = "idx"
    LAYOUT = "the IDX files of MNIST and its kin (FashionMNIST/raw/train-images-idx3-ubyte.gz, ...), packed or not"

    def sniff(self, path: Path) -> tuple[int, str]:
        found = _raw(path)
        if len(found) != 1:
            return 0, f"IDX files in {len(found)} folders"
        return 95 if found[0] == path else 70, "IDX files"

    def read(self, path: Path) -> Read:
        found = _raw(path)
        if len(found) != 1:
            fix = "Give the folder that holds them, such as FashionMNIST/raw."
            raise DataError(f"IDX files in {len(found)} folders", where=path, fix=fix)
        raw = found[0].resolve()
        ids: list[str] = []
        labels: list[np.ndarray] = []
        splits: list[np.ndarray] = []
        faults: list[Fault] = []
        for part, split in _PARTS.items():
            try:
                cls = _labels(raw, part)
            except DataError as error:
                faults.append(Fault(error.where, error.found))
                continue
            ids += [f"{split}/{i:05d}" for i in range(len(cls))]
            labels.append(cls)
            splits.append(np.full(len(cls), split, object))
        if not ids:
            raise DataError(faults[0].reason, where=faults[0].where)
        all_cls, all_splits = np.concatenate(labels), np.concatenate(splits)
        names = _names(raw, all_cls)
        return Read(Dataset.build(ids, names, reader=self.NAME, root=str(raw), cls=all_cls, split=all_splits), faults)

    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        split, number = _where(data.ids[row])
        images = _images(data.root, split)
        if number >= len(images):
            raise DataError(f"the file holds {len(images)} images", where=data.ids[row])
        return images[number][..., None]

    def all_pixels(self, data: Dataset) -> np.ndarray | None:
        placed = [_where(i) for i in data.ids]
        split, number = np.array([s for s, _ in placed], object), np.array([n for _, n in placed], np.int64)
        blocks = {s: _images(data.root, s) for s in sorted(set(split))}
        short = [s for s, b in blocks.items() if number[split == s].max() >= len(b)]
        if short or len({b.shape[1:] for b in blocks.values()}) != 1:
            return None
        out = np.empty((len(data), *next(iter(blocks.values())).shape[1:], 1), np.uint8)
        for s, block in blocks.items():
            out[split == s, ..., 0] = block[number[split == s]]
        return out

    def files(self, data: Dataset) -> Iterable[Path]:
        return (_file(Path(data.root), _FILES[s], "images-idx3") for s in sorted({_where(i)[0] for i in data.ids}))


def _raw(path: Path) -> list[Path]:
    """Folders at, or a little below, a path that hold IDX files."""
    if not path.is_dir():
        return []
    for folders in ([path], [path / "raw"], sorted(path.glob("*/raw"))):
        found = [f for f in folders if any(f.glob("*-images-idx3-ubyte*"))]
        if found:
            return found
    return []


def _names(raw: Path, cls: np.ndarray) -> tuple[str, ...]:
    """Class names: known ones by the set's name, which is its folder's, else the numbers."""
    known = _NAMES.get(raw.parent.name if raw.name == "raw" else raw.name, ())
    count = int(cls.max(initial=-1)) + 1
    return known if len(known) >= count else tuple(map(str, range(count)))


def _where(name: str) -> tuple[str, int]:
    split, _, number = str(name).partition("/")
    if split not in _FILES or not number.isdecimal():
        raise DataError("not the name of an image in IDX files", where=name)
    return split, int(number)


def _file(raw: Path, part: str, kind: str) -> Path:
    """The file as it is, or packed."""
    for suffix in ("", ".gz"):
        file = inside(raw, f"{part}-{kind}-ubyte{suffix}")
        if file.is_file():
            return file
    raise DataError("no such file, packed or not", where=raw / f"{part}-{kind}-ubyte")


def _array(file: Path, dimensions: int) -> np.ndarray:
    """The bytes of an IDX file, uint8 with as many dimensions as its header must say."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            head = np.frombuffer(stream.read(4 + 4 * dimensions), ">u4")
            shape = tuple(int(n) for n in head[1:])
            if len(shape) != dimensions or head[0] != 0x0800 + dimensions:
                raise DataError("not an IDX file of bytes", where=file)
            size = math.prod(shape)
            if size > _LARGEST:
                raise DataError(f"claims {size} bytes, more than the 4 GiB allowed", where=file)
            body = stream.read(size)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"cannot be unpacked: {error}", where=file, fix="Fetch the file again.") from None
    if len(body) != size:
        raise DataError(f"cut short: {len(body)} of {size} bytes", where=file, fix="Fetch the file again.")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _labels(raw: Path, part: str) -> np.ndarray:
    """Classes of one part, int64; DataError where images are not as many."""
    file = _file(raw, part, "images-idx3")
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        try:
            images = int.from_bytes(stream.read(8)[4:], "big")
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"cannot be unpacked: {error}", where=file, fix="Fetch the file again.") from None
    labels = _array(_file(raw, part, "labels-idx1"), 1).astype(np.int64)
    if images != len(labels):
        raise DataError(f"{images} images and {len(labels)} labels", where=file)
    return labels


def _images(root: str, split: str) -> np.ndarray:
    file = _file(Path(root), _FILES[split], "images-idx3")
    state = file.stat()
    return _kept(file, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _kept(file: Path, changed: int, size: int) -> np.ndarray:
    """Images of one file, uint8 (n,H,W), kept in memory: unpacking takes a third of a second."""
    return _array(file, 3)
