"""Where the pages of a TIFF lie: in a microscope's stack every page is an image of its own, named `stack.tif#0`.

After the TIFF 6.0 specification (Adobe, 1992) and the BigTIFF design (2004): a header, then a chain of directories of
tags, one a page.  Pillow decodes; this file only finds the directory of a page, so that a page costs the same wherever
it is in the stack.
"""

from __future__ import annotations

import functools
import io
import struct
from pathlib import Path
from typing import BinaryIO

SUFFIXES = (".tif", ".tiff")
MOST = 1 << 16  # pages of a file; a chain of more is taken for an attack
_KIND = 254  # NewSubfileType: bit 0 a smaller copy of another page, bit 2 a mask of one
_PART = 0b101


def page_of(name: str) -> tuple[str, int]:
    """`dir/stack.tif#3` -> (`dir/stack.tif`, 3); the name itself and -1 where it names a whole file."""
    if "#" in name:
        file, _, number = name.rpartition("#")
        if number.isdecimal() and file.lower().endswith(SUFFIXES):
            return file, int(number)
    return name, -1


def pages(path: str | Path) -> dict[int, int]:
    """Page number, from 0 -> byte at which its directory begins, of the pages that are images of their own.

    Smaller copies and masks of another page are left out.  {} where the file is no TIFF, or damaged before its first
    page.  OSError where it cannot be read.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        found = _chain(file, size)
    own = {number: at for number, (at, kind) in enumerate(found) if not kind & _PART}
    return own or ({0: found[0][0]} if found else {})


def _chain(file: BinaryIO, size: int) -> list[tuple[int, int]]:
    """(offset, kind) of the directories, up to the first that is damaged or was already seen."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    if not order or len(head) < 8 or struct.unpack(order + "H", head[2:4])[0] not in (42, 43):
        return []
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    if big and len(head) < 16:
        return []
    count, width, link = ("Q", 20, "Q") if big else ("H", 12, "I")
    (at,) = struct.unpack_from(order + link, head, 8 if big else 4)
    found: list[tuple[int, int]] = []
    seen: set[int] = set()
    while 0 < at < size and at not in seen and len(found) < MOST:
        seen.add(at)
        file.seek(at)
        start = file.read(struct.calcsize(count))
        if len(start) < struct.calcsize(count):
            break
        (tags,) = struct.unpack(order + count, start)
        if tags * width > size:
            break
        body, end = file.read(tags * width), file.read(struct.calcsize(link))
        if len(end) < struct.calcsize(link):
            break
        found.append((at, _kind(body, order, width)))
        (at,) = struct.unpack(order + link, end)
    return found


def _kind(body: bytes, order: str, width: int) -> int:
    """NewSubfileType of a directory, 0 where it does not say."""
    for at in range(0, len(body), width):
        tag, form = struct.unpack_from(order + "HH", body, at)
        if tag == _KIND and form in (3, 4):
            value = at + (12 if width == 20 else 8)
            return int(struct.unpack_from(order + ("H" if form == 3 else "I"), body, value)[0])
    return 0


@functools.lru_cache(maxsize=64)
def _known(path: str, size: int, changed: int) -> dict[int, int]:
    return pages(path)


class Page(io.FileIO):
    """A TIFF file whose header points at one of its pages, as if that were the first.

    number: as in `pages`.  LookupError where there is no such page.
    """

    def __init__(self, path: str | Path, number: int) -> None:
        state = Path(path).stat()
        at = _known(str(path), state.st_size, state.st_mtime_ns)[number]
        super().__init__(path)
        head = super().read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        self._head = head[:8] + struct.pack(order + "Q", at) if big else head[:4] + struct.pack(order + "I", at)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """As of the file, with the header changed."""
        at = self.tell()
        found = super().read(-1 if size is None else size) or b""
        return self._head[at : at + len(found)] + found[max(0, len(self._head) - at) :]
