"""The image files below a folder, in a fixed order, never outside it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modicum.core.errors import DataError
from modicum.data.formats import Fault, leaves
from modicum.data.tiff import SUFFIXES as TIFFS
from modicum.data.tiff import pages

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp", ".gif"))
_BESIDE = frozenset(
    (
        ".md", ".txt", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".xml", ".yaml", ".yml", ".html", ".pdf",
        ".zip", ".gz", ".npy",
    )
)  # fmt: skip
_LABELS = ("labels", "annotations")
_NEVER = frozenset(("thumbs.db", "desktop.ini", "__macosx", "license", "readme"))


def walk(root: Path) -> tuple[list[str], list[Fault]]:
    """Images below a folder as sorted names relative to it (`cat/1.png`, `stack.tif#0`), and what was passed over.

    A TIFF of several pages is as many images.  Hidden files and the usual side files (tables, texts) are ignored; links
    that leave the folder, links to folders, files of other kinds and what is no file at all are faults.
    """
    names: list[str] = []
    faults: list[Fault] = []
    real = root.resolve()
    todo = [""]
    while todo:
        below = todo.pop()
        try:
            with os.scandir(root / below) as entries:
                for entry in entries:
                    _sort(entry, below + entry.name, real, todo, names, faults)
        except OSError as error:
            if not below:
                raise _unreadable(root, error) from None
            faults.append(Fault(below, f"the folder cannot be read: {error.strerror}"))
    names.sort()
    if any(name.lower().endswith(TIFFS) for name in names):
        names = [page for name in names for page in _paged(root, name)]
    return names, sorted(faults, key=lambda f: f.where)


def each(root: Path) -> Iterator[str]:
    """What `walk` finds, images and faults alike, in the same order; memory is that of the largest folder."""
    yield from _each(root, "", root.resolve())


def _each(root: Path, below: str, real: Path) -> Iterator[str]:
    names: list[str] = []
    faults: list[Fault] = []
    folders: list[str] = []
    try:
        with os.scandir(root / below) as entries:
            for entry in entries:
                _sort(entry, below + entry.name, real, folders, names, faults)
    except OSError as error:
        if not below:
            raise _unreadable(root, error) from None
        yield below
        return
    inside = set(folders)
    for name in sorted([*names, *folders, *(f.where for f in faults)]):
        if name in inside:
            yield from _each(root, name, real)
        else:
            yield from _paged(root, name)


def _unreadable(root: Path, error: OSError) -> DataError:
    return DataError(f"the folder cannot be read: {error.strerror}", where=root, fix="Change who may read it.")


def suffix_of(name: str) -> str:
    """The ending of a file's name in small letters, with its dot; '' where there is none."""
    stem, _, ending = name.rpartition(".")
    return "." + ending.lower() if stem and ending else ""


def _sort(
    entry: os.DirEntry[str], name: str, real: Path, todo: list[str], names: list[str], faults: list[Fault]
) -> None:
    """Put one entry of a folder where it belongs: to be opened, an image, a fault, or nothing."""
    suffix = suffix_of(entry.name)
    if entry.name.startswith(".") or entry.name.lower() in _NEVER or suffix in _BESIDE:
        return
    if not (name.isascii() or _is_text(name)):
        faults.append(Fault(ascii(name), "the name is not UTF-8: rename it"))
    elif leaves(name):
        faults.append(Fault(name, "Windows reads this name as a place outside the folder: rename it"))
    elif entry.is_symlink() and (reason := _refused(Path(entry.path), real)):
        faults.append(Fault(name, reason))
    elif entry.is_dir():
        if suffix in SUFFIXES:
            faults.append(Fault(name, "a folder that is named like an image: rename it if it holds images"))
        else:
            todo.append(name + "/")
    elif not entry.is_file():
        faults.append(Fault(name, f"{_kind(entry)}, not a file"))
    elif suffix in SUFFIXES:
        names.append(name)
    else:
        faults.append(Fault(name, f"{suffix or 'a file without ending'} is not read as an image"))


def _paged(root: Path, name: str) -> list[str]:
    """The images of one file."""
    if not name.lower().endswith(TIFFS):
        return [name]
    try:
        found = pages(root / name)
    except OSError:  # which will be said when it is decoded
        return [name]
    return [f"{name}#{number}" for number in found] if len(found) > 1 else [name]


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "something that is gone"
    return {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}.get(stat.S_IFMT(mode), "a device")


def _refused(link: Path, real: Path) -> str:
    try:
        target = link.resolve(strict=True)
    except RuntimeError:
        return "a link that leads in a circle"
    except OSError as error:
        return "a link that leads in a circle" if error.errno == errno.ELOOP else "a link to nothing"
    if not target.is_relative_to(real):
        return "a link that leaves the folder: copy the file here"
    return "a link to a folder" if target.is_dir() else ""


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def texts(root: Path, ending: str, most: int = 0) -> Iterator[str]:
    """Files of one ending (`.xml`) below a folder as relative names, folders for labels first, else by name.

    Hidden ones, links that leave the folder or lead to folders, and what is no file are passed over.  most: how many
    files are looked at, 0 = all.
    """
    real, seen = root.resolve(), 0
    for top, folders, files in os.walk(root):
        folders[:] = sorted((f for f in folders if not f.startswith(".")), key=lambda f: (f.lower() not in _LABELS, f))
        below = Path(top).relative_to(root).as_posix()
        for file in sorted(f for f in files if f.lower().endswith(ending) and not f.startswith(".") and _is_text(f)):
            if within(Path(top, file), real):
                yield file if below == "." else f"{below}/{file}"
        seen += len(files)
        if most and seen > most:
            return


def within(file: Path, real: Path) -> bool:
    """Whether this is a file, or a link to one below a folder that is resolved already."""
    return file.is_file() and not (file.is_symlink() and _refused(file, real))


def has_image(root: Path, depth: int = 4) -> bool:
    """Whether an image file lies below a folder, looking at no more than some thousand entries."""
    todo, seen = [(root, 0)], 0
    while todo:
        folder, level = todo.pop(0)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    seen += 1
                    if suffix_of(entry.name) in SUFFIXES and not entry.name.startswith("."):
                        return True
                    if seen > 5000:
                        return False
                    if level < depth and entry.is_dir(follow_symlinks=False):
                        todo.append((Path(entry.path), level + 1))
        except OSError:
            continue
    return False
