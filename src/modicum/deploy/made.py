"""What `predict` writes, known again: it is not taken for photographs, nor a person's work for it and written over."""

from __future__ import annotations

from pathlib import Path

from modicum.core.errors import SettingsError
from modicum.data.walk import SUFFIXES, suffix_of

LABELS, RESULTS, PICTURES = "instances.json", "results.json", "pictures"
CLASSES, GROUND = "classes.txt", "background"
HEAD = '{"info": {"description": "boxes that a network found"'  # how instances.json begins
MARK = "Modicum predict"  # the Software that a PNG of masks names


def aside(folder: Path) -> bool:
    """Whether pictures in this folder are no photographs: boxes drawn by predict, or masks, whoever made them."""
    return _has(folder / LABELS, HEAD) or _has(folder / CLASSES, f"{GROUND}\n")


def by_network(folder: Path) -> bool:
    """Whether the boxes or masks in this folder are as predict wrote them."""
    first = next(iter(sorted(folder.glob("*.png"))), folder)
    return _has(folder / LABELS, HEAD) or (_has(folder / CLASSES, f"{GROUND}\n") and _has(first, MARK, 512))


def _has(path: Path, text: str, within: int = 0) -> bool:
    """Whether a file begins with a text, or holds it in its first bytes."""
    try:
        with path.open("rb") as file:
            return text.encode() in file.read(within or len(text.encode()))
    except OSError:
        return False


def refuse_others(folder: Path, masks: bool = False) -> None:
    """SettingsError for a folder that holds what predict would write over and did not write: tables of boxes, or with
    `masks` pictures."""
    if not folder.is_dir():
        return
    if masks:
        there = [p for p in folder.iterdir() if suffix_of(p.name) in SUFFIXES and not _has(p, MARK, 512)]
    else:
        there = [p for p in (folder / LABELS, folder / RESULTS) if p.exists() and not _has(folder / LABELS, HEAD)]
    if there:
        found = f"{min(p.name for p in there)} lies there, and predict did not write it"
        raise SettingsError(found, where=folder, fix="Choose a new folder, so that nothing is written over.")
