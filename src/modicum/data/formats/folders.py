"""Class folders: `cat/1.png`, optionally below `train/`, `val/`, `test/`, with images without a class beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import POOLS, SPLITS, Fault, Found, Images, Progress, ordered, pooled
from modicum.data.names import code, fold, name_of, plain, safe
from modicum.data.store import stays, write_images
from modicum.data.walk import has_image, walk

_POOL = "unlabelled"
_NEVER = frozenset((*SPLITS, *POOLS, "__macosx", "license", "readme"))


class Folders(Images):
    """Images in class folders, or a flat folder of images without classes."""

    NAME = "folders"
    LAYOUT = "class folders (cat/1.png), perhaps below train/ val/ test/, with unlabelled/ for images without a class"
    WRITES = "class folders"

    def sniff(self, path: Path) -> tuple[int, str]:
        if not path.is_dir() or not has_image(path):
            return 0, "no image files"
        return 50, "image files"

    def find(self, path: Path) -> Found:
        names, faults = walk(path)
        if not names:
            seen = f"; first fault: {faults[0].where}: {faults[0].reason}" if faults else ""
            raise DataError(f"no image files{seen}", where=path, fix="PNG, JPEG, TIFF, WebP and BMP are read.")
        found = placed(names, self.NAME, str(path.resolve()))
        found.faults = faults
        if found.names:
            found.odd += _empty(path / _wrapper(names), names)
        return found

    def write(self, data: Dataset, folder: Path, progress: Progress) -> list[str]:
        split = data.field("split")
        words = [data.names[c] if c >= 0 else "" for c in data.cls]
        before = [str(i) for i in data.ids]
        if stays(before) and _says(before) == [*zip(split, words)]:
            return write_images(data, folder, before, lambda row, leaf: leaf, progress)
        tops = _folder_names(data.names)

        def place(row: int, leaf: str) -> str:
            top = split[row] if split[row] in SPLITS else ""
            if not words[row]:
                top = {"": "", "train": _POOL}.get(top, f"{top}/{_POOL}")
            return "/".join(filter(None, (top, tops.get(words[row], ""), leaf)))

        return write_images(data, folder, None, place, progress)


def placed(names: Sequence[str], reader: str, root: str) -> Found:
    """Images by their relative names, with the split and class that their folders say."""
    said, faults = places(names)
    words = {w: w for _, w in said if w}
    for word in words:
        try:
            words[word] = name_of(word)
        except ValueError as error:
            words[word] = ""
            faults.append(Fault(f"{word}/", f"{error}: its images are taken as without a class"))
    classes = ordered(w for w in words.values() if w)
    index = {c: i for i, c in enumerate(classes)} | {"": -1}
    cls = np.array([index[words.get(w, "")] for _, w in said], np.int64)
    split = np.array([s for s, _ in said], object)
    return Found(reader, root, names, classes, cls, {"split": split}, by_folder=True, odd=faults)


def places(names: Sequence[str]) -> tuple[list[tuple[str, str]], list[Fault]]:
    """Split and class ('' = none) of each image by its relative name, and what is odd about the folders."""
    skip = len(_wrapper(names))
    said = [place(n[skip:]) for n in names]
    classes = {c for _, c in said if c}
    if len(classes) == 1 and all(c for _, c in said):
        only = Fault(f"{classes.pop()}/", "the only class folder: its images are taken as without a class")
        return [(s, "") for s, _ in said], [only]
    return said, []


def place(name: str) -> tuple[str, str]:
    """Split and class ('' = none) of an image by its relative name; split and pool folders never become classes."""
    split = ""
    parts = name.split("/")[:-1]
    for at, folder in enumerate(parts):
        word = folder.lower()
        if not split and word in SPLITS:
            split = SPLITS[word]
        elif word in POOLS:
            return split or "train", ""
        elif word not in SPLITS:
            after = parts[at + 1].lower() if at + 1 < len(parts) else ""
            return split or SPLITS.get(after, ""), plain(folder)
    return split, ""


def _wrapper(names: Sequence[str]) -> str:
    """Folders that merely wrap the set, as archives do: 'flowers/' where all lies in flowers/rose, flowers/oak, ..."""
    skip = ""
    while True:
        rest = [n[len(skip) :].split("/", 2) for n in names]
        first = rest[0][0]
        if any(len(r) < 3 or r[0] != first for r in rest) or first.lower() in SPLITS or first.lower() in POOLS:
            return skip
        skip += first + "/"


def _empty(root: Path, names: Iterable[str]) -> list[Fault]:
    """Faults for folders that look like classes and hold no image; names: of all images."""
    known = {part for name in names for part in name.split("/")[:-1]}.union(SPLITS, POOLS)
    faults = []
    for top in [root, *(p for p in _folders(root) if p.name.lower() in SPLITS)]:
        for folder in _folders(top):
            if folder.name not in known and folder.name.lower() not in known:
                faults.append(Fault(f"{folder.relative_to(root).as_posix()}/", "no image in this folder"))
    return faults


def _folders(top: Path) -> list[Path]:
    return sorted(p for p in top.iterdir() if p.is_dir() and not p.name.startswith((".", "__")) and not p.is_symlink())


# -- writing -----------------------------------------------------------------------------------------------------------


def _says(names: Sequence[str]) -> list[tuple[str, str]]:
    """Split and class of images with these names, as reading them will say."""
    found = placed(names, "", "")
    split = pooled(found.cls, found.field("split"))
    return [(s, found.names[c] if c >= 0 else "") for s, c in zip(split, found.cls)]


def _folder_names(classes: Iterable[str]) -> dict[str, str]:
    """A folder for each class, unlike any other also without case; `plain` gives the class back."""
    out: dict[str, str] = {}
    taken: set[str] = set()
    for word in classes:
        coded = 0
        while fold(name := _folder_name(word, coded)) in taken:
            coded += 1
        if len(name.encode()) > 255:
            fix = "Write a table (--to table) or Parquet (--to parquet), which hold any name."
            raise DataError("the name of this class is too long for a folder", where=word, fix=fix)
        taken.add(fold(name))
        out[word] = name
    return out


def _folder_name(word: str, coded: int) -> str:
    """The class as a folder, with its first letters coded, and its ending if it could be a file's, as of `a.zip`."""
    start = "".join(code(c) for c in word[:coded])
    name = start + (safe(word[coded:], never=_NEVER if not coded else ()) if word[coded:] else "")
    stem, dot, ending = name.rpartition(".")
    return f"{stem}%2E{ending}" if dot and ending[:1].isalpha() else name
