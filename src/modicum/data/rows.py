"""Which image a cell of a table means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath
from posixpath import normpath

from modicum.data.names import composed

_LONGEST = 4096  # characters of a path
_DEEP = 64  # folders that an absolute path is taken from its end


class Doubt(Exception):
    """Why a cell is not believed."""


def shown(cell: str) -> str:
    """A cell as an error shows it: quoted, not too long."""
    return repr(cell if len(cell) <= 80 else cell[:77] + "...")


class Rows:
    """Finds the row of an image by what a table calls it.

    By its name below the root, written from the root or from the table's own folder, also with `..`; an absolute path
    that is not below the root is taken from its end, so that a set may have been moved; a bare file name, with or
    without ending, finds the one image of that name in any folder.  An é of one or of two characters is the same é.
    Only images that were found can be named: nothing is looked up on the disk.
    """

    def __init__(self, ids: Sequence[str], root: str = "") -> None:
        self._exact = {str(name): i for i, name in enumerate(ids)}
        self._root = root.replace("\\", "/").rstrip("/") + "/" if root else ""
        self._composed: dict[str, int] | None = None
        self._loose: dict[str, int] = {}

    def find(self, cell: str, folder: str = "") -> int:
        """The image's row; folder: where the table lies below the root, '' or 'labels/'.  Doubt: why there is none."""
        if (row := self._exact.get(folder + cell)) is not None or (row := self._exact.get(cell)) is not None:
            return row
        name = cell.strip().replace("\\", "/")
        if not name:
            raise Doubt("no image is named")
        if len(name) > _LONGEST:
            raise Doubt(f"no image {shown(cell)}")
        windows = PureWindowsPath(name)
        found = self._absolute(name, cell) if windows.root or windows.drive else self._relative(name, folder, cell)
        if found is None:
            raise Doubt(f"no image {shown(cell)}")
        if found < 0:
            raise Doubt(f"several images are called {shown(cell)}")
        return found

    def exact(self, name: str) -> int | None:
        """The row of the image of exactly this name below the root; None where there is none."""
        return self._exact.get(name)

    def _relative(self, name: str, folder: str, cell: str) -> int | None:
        here, above = normpath(folder + name), normpath(name)
        if here == ".." or here.startswith("../"):
            raise Doubt(f"{shown(cell)} leads out of the folder: give the folder that holds both table and images")
        found = self._named(here)
        if found is None:
            found = self._named(above)
        return self._loose.get(composed(above)) if found is None else found

    def _absolute(self, name: str, cell: str) -> int | None:
        name = normpath(name)
        if self._root and name.startswith(self._root):
            return self._named(name[len(self._root) :])
        parts = PureWindowsPath(name).parts[1:][-_DEEP:]
        tails = ("/".join(parts[i:]) for i in range(len(parts)))
        found = next((row for tail in tails if (row := self._named(tail)) is not None), None)
        return self._loose.get(composed(parts[-1])) if found is None and parts else found

    def _named(self, name: str) -> int | None:
        """By the whole name; -1 = several."""
        row = self._exact.get(name)
        if row is None:
            if self._composed is None:
                self._composed = self._index()
            row = self._composed.get(composed(name))
        return row

    def _index(self) -> dict[str, int]:
        """Composed names, and what a bare name may mean; made when the first name is not an exact one."""
        whole: dict[str, int] = {}
        for name, i in self._exact.items():
            full = composed(name)
            whole[full] = -1 if full in whole else i
            path = PurePosixPath(full)
            for word in {path.name, path.stem, full.rpartition(".")[0]}:
                self._loose[word] = -1 if word in self._loose else i
        return whole
