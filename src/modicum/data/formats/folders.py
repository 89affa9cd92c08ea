"""Class folders: `cat/1.png`, optionally below `train/`, `val/`, `test/`, with images without a class beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import POOLS, SPLITS, Fault, Format, Read, inside, ordered, pooled
from modicum.data.images import decode
from modicum.data.walk import has_image, walk


class Folders(Format):
    """Images in class folders, or a flat folder of images without classes."""

    NAME = "folders"
    LAYOUT = "class folders (cat/1.png), perhaps below train/ val/ test/, with unlabelled/ for images without a class"

    def sniff(self, path: Path) -> tuple[int, str]:
        if not path.is_dir() or not has_image(path):
            return 0, "no image files"
        return 50, "image files"

    def read(self, path: Path) -> Read:
        names, faults = walk(path)
        if not names:
            seen = f"; first fault: {faults[0].where}: {faults[0].reason}" if faults else ""
            raise DataError(f"no image files{seen}", where=path, fix="PNG, JPEG, TIFF, WebP and BMP are read.")
        placed, odd = places(path, names)
        classes = ordered(c for _, c in placed if c)
        index = {c: i for i, c in enumerate(classes)} | {"": -1}
        cls = np.array([index[c] for _, c in placed])
        split = pooled(cls, [s for s, _ in placed])
        data = Dataset.build(names, classes, reader=self.NAME, root=str(path.resolve()), cls=cls, split=split)
        return Read(data, faults + odd)

    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        name = str(data.ids[row])
        return decode(inside(data.root, name), name)


def places(root: Path, names: list[str]) -> tuple[list[tuple[str, str]], list[Fault]]:
    """Split and class ('' = none) of each image below a folder, and what is odd about the folders."""
    skip = _wrapper(names)
    placed = [place(n[len(skip) :]) for n in names]
    classes = ordered(c for _, c in placed if c)
    if len(classes) == 1 and all(c for _, c in placed):
        only = Fault(f"{classes[0]}/", "the only class folder: its images are taken as without a class")
        return [(s, "") for s, _ in placed], [only]
    return placed, _empty(root / skip, classes) if classes else []


def place(name: str) -> tuple[str, str]:
    """Split and class ('' = none) of an image by its relative name; split and pool folders never become classes."""
    split = ""
    for folder in name.split("/")[:-1]:
        word = folder.lower()
        if not split and word in SPLITS:
            split = SPLITS[word]
        elif word in POOLS:
            return split or "train", ""
        elif word not in SPLITS:
            return split or _second(name, folder), folder
    return split, ""


def _second(name: str, folder: str) -> str:
    """The split where it lies below the class: cat/train/1.png."""
    parts = name.split("/")[:-1]
    after = parts[parts.index(folder) + 1 :]
    return SPLITS.get(after[0].lower(), "") if after else ""


def _wrapper(names: list[str]) -> str:
    """Folders that merely wrap the set, as archives do: 'flowers/' where all lies in flowers/rose, flowers/oak, ..."""
    skip = ""
    while True:
        rest = [n[len(skip) :].split("/") for n in names]
        first = rest[0][0]
        if any(len(r) < 3 or r[0] != first for r in rest) or first.lower() in SPLITS or first.lower() in POOLS:
            return skip
        skip += first + "/"


def _empty(root: Path, classes: list[str]) -> list[Fault]:
    """Faults for folders that look like classes and hold no image."""
    known = {*classes, *SPLITS, *POOLS}
    faults = []
    for top in [root, *(p for p in _folders(root) if p.name.lower() in SPLITS)]:
        for folder in _folders(top):
            if folder.name not in known and folder.name.lower() not in known:
                faults.append(Fault(f"{folder.relative_to(root).as_posix()}/", "no image in this folder"))
    return faults


def _folders(top: Path) -> list[Path]:
    return sorted(p for p in top.iterdir() if p.is_dir() and not p.name.startswith((".", "__")) and not p.is_symlink())
