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
from modicum.data.formats import Fault, Found, Images, Progress, format_of, inside
from modicum.data.names import name_of

_PARTS = {"train": "train", "t10k": "test"}
_FILES = {split: part for part, split in _PARTS.items()}
_NAMES = {
    "FashionMNIST": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "KMNIST": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip
CLASSES = "classes.txt"
_MAGIC = 0x0800  # unsigned bytes; the number of dimensions is added
_LARGEST = 1 << 32
_RATIO, _SLACK = 300, 1 << 20  # how much smaller packing can make pictures; below a megabyte nobody asks
_AGAIN = "Fetch the file again."


class Idx(Images):
    """IDX files of bytes: images of one size and one class an image."""

    NAME = "idx"
    LAYOUT = "the IDX files of MNIST and its kin (FashionMNIST/raw/train-images-idx3-ubyte.gz, ...), packed or not"
    WRITES = "IDX files, as of MNIST: grey 8-bit images of one size, each with a class"

    def sniff(self, path: Path) -> tuple[int, str]:
        found = _raw(path)
        if len(found) != 1:
            return 0, f"IDX files in {len(found)} folders"
        return 95 if found[0] == path else 70, "IDX files"

    def find(self, path: Path) -> Found:
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
            if not any(raw.glob(f"{part}-*-ubyte*")):
                continue
            try:
                cls = _labels(raw, part)
            except DataError as error:
                faults.append(Fault(error.where, error.found))
                continue
            ids += [f"{split}/{i:05d}" for i in range(len(cls))]
            labels.append(cls)
            splits.append(np.full(len(cls), split, object))
        if not ids:
            first = faults[0] if faults else Fault(str(raw), "no file of labels")
            raise DataError(first.reason, where=first.where)
        all_cls = np.concatenate(labels)
        names = _names(raw, all_cls, faults)
        return Found(self.NAME, str(raw), ids, names, all_cls, {"split": np.concatenate(splits)}, faults)

    def write(self, data: Dataset, folder: Path, progress: Progress) -> list[str]:
        form, ids, done = format_of(data), [""] * len(data), 0
        if (unknown := np.flatnonzero(data.cls < 0)).size:
            found = f"{len(unknown)} images have no class, which IDX files cannot say"
            raise DataError(found, where=data.ids[unknown[0]], fix="Write Parquet or class folders.")
        if len(data.names) > 256:
            raise DataError(f"{len(data.names)} classes; IDX files hold 256", where=folder, fix="Write Parquet.")
        test = data.field("split") == "test"
        size: tuple[int, ...] = ()
        for part, rows in (("train", np.flatnonzero(~test)), ("t10k", np.flatnonzero(test))):
            if not len(rows):
                continue
            labels = data.cls[rows].astype(np.uint8)
            (folder / f"{part}-labels-idx1-ubyte").write_bytes(_header(labels.shape) + labels.tobytes())
            with (folder / f"{part}-images-idx3-ubyte").open("wb") as file:
                for number, row in enumerate(rows.tolist()):
                    image = form.pixels(data, row)
                    if not size:
                        size = image.shape
                    if image.shape != size or image.shape[2] != 1 or image.dtype != np.uint8:
                        raise _unfit(image, size, str(data.ids[row]))
                    if not number:
                        file.write(_header((len(rows), *size[:2])))
                    file.write(image.tobytes())
                    ids[row] = f"{_PARTS[part]}/{number:05d}"
                    progress(done := done + 1, len(data))
        (folder / CLASSES).write_text("".join(f"{n}\n" for n in data.names), encoding="utf-8", newline="\n")
        return ids

    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        split, number = _where(data.ids[row])
        images = _images(data.root, split)
        if number >= len(images):
            raise DataError(f"the file holds {len(images)} images", where=data.ids[row])
        return images[number][..., None]

    def stored(self, data: Dataset, row: int) -> None:
        return None

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


def _names(raw: Path, cls: np.ndarray, faults: list[Fault]) -> list[str]:
    """Class names: from classes.txt, one a line; or known ones by the set's name, its folder's; else the numbers."""
    count = int(cls.max(initial=-1)) + 1
    listed = _listed(raw / CLASSES, faults)
    if len(listed) >= count:
        return listed
    if listed:
        faults.append(Fault(CLASSES, f"{len(listed)} names for {count} classes: not used"))
    known = _NAMES.get(raw.parent.name if raw.name == "raw" else raw.name, ())
    return [*known] if len(known) >= count else [*map(str, range(count))]


def _listed(file: Path, faults: list[Fault]) -> list[str]:
    """The names in classes.txt; [] where there is no such file, or none that can be used."""
    if not file.is_file():
        return []
    try:
        with file.open("rb") as stream:
            lines = stream.read(1 << 20).decode("utf-8-sig").splitlines()
        names = [name_of(line) for line in lines if line.strip()]
        if len(set(names)) < len(names):
            raise ValueError("a name stands twice")
        return names
    except (OSError, ValueError) as error:
        faults.append(Fault(CLASSES, f"not used: {error}"))
        return []


def _where(name: str) -> tuple[str, int]:
    split, _, number = str(name).partition("/")
    if split not in _FILES or not number.isdecimal() or len(number) > 18:
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
    shape, body = _opened(file, dimensions, whole=True)
    size = math.prod(shape)
    if len(body) != size:
        more = "longer than its header says" if len(body) > size else "cut short"
        raise DataError(f"{more}: {min(len(body), size)} of {max(len(body), size)} bytes", where=file, fix=_AGAIN)
    return np.frombuffer(body, np.uint8).reshape(shape)


def _opened(file: Path, dimensions: int, whole: bool) -> tuple[tuple[int, ...], bytes]:
    """The shape that the header says, and the bytes behind it: all (one more, if there are more), or none.

    A header may claim no more than the file can hold: so many bytes, or if packed, at most _RATIO times as many.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            head = np.frombuffer(stream.read(4 + 4 * dimensions), ">u4")
            shape = tuple(int(n) for n in head[1:])
            if len(shape) != dimensions or head[0] != _MAGIC + dimensions:
                raise DataError("not an IDX file of bytes", where=file)
            size, held = math.prod(shape), file.stat().st_size
            if size > (held * _RATIO + _SLACK if file.suffix == ".gz" else max(held, _SLACK)) or size > _LARGEST:
                raise DataError(f"claims {size:,} bytes in a file of {held:,}", where=file, fix=_AGAIN)
            return shape, stream.read(size + 1) if whole else b""
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"cannot be unpacked: {error}", where=file, fix=_AGAIN) from None


def _header(shape: tuple[int, ...]) -> bytes:
    return (_MAGIC + len(shape)).to_bytes(4, "big") + np.array(shape, ">u4").tobytes()


def _unfit(image: np.ndarray, size: tuple[int, ...], name: str) -> DataError:
    what = f"{image.shape[1]} x {image.shape[0]} px, {image.shape[2]} channels, {8 * image.itemsize} bits"
    other = f"; the first is {size[1]} x {size[0]} px" if image.shape[:2] != size[:2] else ""
    found = f"{what}{other}: IDX files hold grey 8-bit images of one size"
    return DataError(found, where=name, fix="Write Parquet or class folders.")


def _labels(raw: Path, part: str) -> np.ndarray:
    """Classes of one part, int64; DataError where images are not as many."""
    file = _file(raw, part, "images-idx3")
    shape, _ = _opened(file, 3, whole=False)
    labels = _array(_file(raw, part, "labels-idx1"), 1).astype(np.int64)
    if shape[0] != len(labels):
        raise DataError(f"{shape[0]} images and {len(labels)} labels", where=file)
    return labels


def _images(root: str, split: str) -> np.ndarray:
    file = _file(Path(root), _FILES[split], "images-idx3")
    state = file.stat()
    return _kept(file, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _kept(file: Path, changed: int, size: int) -> np.ndarray:
    """Images of one file, uint8 (n,H,W), kept in memory: unpacking takes a third of a second."""
    return _array(file, 3)
