"""The image files below a folder, in a fixed order, never outside it."""

from __future__ import annotations

import os
from pathlib import Path

from modicum.core.errors import DataError
from modicum.data.formats import Fault

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".bmp"))
_BESIDE = frozenset(
    (
        ".md", ".txt", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".xml", ".yaml", ".yml", ".html", ".pdf",
        ".zip", ".gz", ".npy",
    )
)  # fmt: skip
_NEVER = frozenset(("thumbs.db", "desktop.ini", "__macosx", "license", "readme"))


def walk(root: Path) -> tuple[list[str], list[Fault]]:
    """Image files below a folder as sorted names relative to it ('cat/1.png'), and what was passed over.

    Hidden files and the usual side files (tables, texts) are ignored; links that leave the folder, links to folders
    and files of other kinds are faults.
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
                raise DataError(f"the folder cannot be read: {error.strerror}", where=root) from None
            faults.append(Fault(below, f"the folder cannot be read: {error.strerror}"))
    return sorted(names), sorted(faults, key=lambda f: f.where)


def _sort(
    entry: os.DirEntry[str], name: str, real: Path, todo: list[str], names: list[str], faults: list[Fault]
) -> None:
    """Put one entry of a folder where it belongs: to be opened, an image, a fault, or nothing."""
    suffix = Path(entry.name).suffix.lower()
    if entry.name.startswith(".") or entry.name.lower() in _NEVER or suffix in _BESIDE:
        return
    if not _is_text(name):
        faults.append(Fault(ascii(name), "the name is not UTF-8"))
    elif entry.is_symlink() and (reason := _refused(Path(entry.path), real)):
        faults.append(Fault(name, reason))
    elif entry.is_dir():
        todo.append(name + "/")
    elif not entry.is_file():
        faults.append(Fault(name, "not a plain file"))
    elif suffix in SUFFIXES:
        names.append(name)
    else:
        faults.append(Fault(name, f"{suffix or 'a file without ending'} is not read as an image"))


def _refused(link: Path, real: Path) -> str:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return "a link to nothing"
    if not target.is_relative_to(real):
        return "a link that leaves the folder"
    return "a link to a folder" if target.is_dir() else ""


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def has_image(root: Path, depth: int = 4) -> bool:
    """Whether an image file lies below a folder, looking at no more than some thousand entries."""
    todo, seen = [(root, 0)], 0
    while todo:
        folder, level = todo.pop(0)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    seen += 1
                    if Path(entry.name).suffix.lower() in SUFFIXES and not entry.name.startswith("."):
                        return True
                    if seen > 5000:
                        return False
                    if level < depth and entry.is_dir(follow_symlinks=False):
                        todo.append((Path(entry.path), level + 1))
        except OSError:
            continue
    return False
