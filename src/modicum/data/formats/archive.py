"""Class folders in one .zip or .tar file, read where they lie: nothing is unpacked onto the disk.

An archive is hostile: what could lead elsewhere, deceive or fill the memory is refused, member by member and by name.
"""

from __future__ import annotations

import functools
import io
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import Fault, Found, Images, leaves
from modicum.data.formats.folders import placed
from modicum.data.images import decode
from modicum.data.lines import SUFFIXES as TABLES
from modicum.data.lines import TableFile
from modicum.data.names import fold
from modicum.data.walk import SUFFIXES

_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar")
_NESTED = (*_PACKED, ".zip", ".tar", ".gz", ".bz2", ".xz")
_LARGEST = 1 << 30  # bytes of one member
_RATIO, _SLACK = 200, 1 << 20  # an image is already compressed: this many times smaller, above a megabyte, is a bomb
_TEXTS = (".md", ".txt", ".rst", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".pdf", ".npy", ".db", ".ini")
_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz", 98: "ppmd"}
_LOCAL = 30  # bytes of a zip member's own header, before its name


class Member(NamedTuple):
    """Where a member's bytes lie in the archive.  local: a zip member's own header stands before them."""

    offset: int
    packed: int
    size: int
    deflated: bool = False
    crc: int = -1
    local: bool = False


class Archive(Images):
    """A .zip or .tar file of images, in class folders or not."""

    NAME = "archive"
    LAYOUT = "a .zip or .tar file (not .tar.gz) of images or class folders; it is read without being unpacked"

    def sniff(self, path: Path) -> tuple[int, str]:
        name = path.name.lower()
        if not path.is_file() or not name.endswith((".zip", ".tar", *_PACKED)):
            return 0, "no .zip or .tar file"
        return 90, "an archive"

    def find(self, path: Path) -> Found:
        if path.name.lower().endswith(_PACKED):
            fix = "Unpack it into a folder of its own (tar -xf FILE -C FOLDER) and give that; .zip and .tar are read."
            raise DataError("archives of this kind are not read", where=path, fix=fix)
        members, faults = _members(path)
        names = sorted(n for n in members if n.lower().endswith(tuple(SUFFIXES)))
        if not names:
            seen = f"; first fault: {faults[0].where}: {faults[0].reason}" if faults else ""
            raise DataError(f"no image files in the archive{seen}", where=path, fix="Give one that holds images.")
        found = placed(names, self.NAME, str(path.resolve()))
        found.faults = list(faults)
        return found

    def tables(self, path: Path) -> list[TableFile]:
        """Tables at the top of the archive, or in the folder that wraps everything; none where it is no archive."""
        try:
            members = _members(path)[0] if self.sniff(path)[0] and not path.name.lower().endswith(_PACKED) else {}
        except (DataError, OSError):
            return []
        tops = {n.partition("/")[0] for n in members}
        names = [n for n in members if n.lower().endswith(TABLES) and n.count("/") <= (len(tops) == 1)]
        return [TableFile(n, n[: n.rfind("/") + 1], functools.partial(_open, path, n)) for n in sorted(names)]

    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        return decode(self.stored(data, row), str(data.ids[row]))

    def stored(self, data: Dataset, row: int) -> bytes:
        return _read(Path(data.root), str(data.ids[row]))

    def files(self, data: Dataset) -> Iterable[Path]:
        return (Path(data.root),)


def _open(path: Path, name: str) -> BinaryIO:
    return io.BytesIO(_read(path, name))


def _read(path: Path, name: str) -> bytes:
    """The bytes of a member, no more than it claims; DataError if they are not what the archive says."""
    try:
        member = _members(path)[0].get(name)
        if member is None:
            raise DataError("no such member of the archive", where=name)
        with path.open("rb") as file:
            offset = member.offset
            if member.local:
                file.seek(offset)
                head = file.read(_LOCAL)
                if head[:4] != b"PK\x03\x04" or len(head) < _LOCAL:
                    raise DataError("the archive is damaged", where=name)
                offset += _LOCAL + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
            file.seek(offset)
            content = file.read(member.packed)
        if member.deflated:
            content = zlib.decompressobj(-15).decompress(content, member.size + 1)
    except (OSError, ValueError, OverflowError, zlib.error) as error:
        raise DataError(f"cannot be unpacked: {error}", where=name) from None
    if len(content) != member.size or (member.crc >= 0 and zlib.crc32(content) != member.crc):
        raise DataError("not what the archive says of it: it is damaged", where=name)
    return content


def _members(path: Path) -> tuple[dict[str, Member], list[Fault]]:
    state = path.stat()
    return _listed(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _listed(path: Path, changed: int, size: int) -> tuple[dict[str, Member], list[Fault]]:
    """Members that may be read, by name, and why others may not."""
    members: dict[str, Member] = {}
    faults: list[Fault] = []
    folds: dict[str, str] = {}
    try:
        entries = list(_tar(path) if path.name.lower().endswith(".tar") else _zip(path))
    except DataError:
        raise
    except Exception as error:  # a hostile archive may raise anything
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(f"not a readable archive: {reason}", where=path, fix="Fetch or make it again.") from None
    often = Counter(name for name, _, _ in entries)
    for name, member, reason in entries:
        reason = reason or ("its name stands several times in the archive" if often[name] > 1 else _odd(name, member))
        if _aside(name) and not name.lower().endswith(_NESTED):
            continue
        if not reason and (other := folds.setdefault(fold(name), name)) != name:
            reason = f"its name differs from {other!r} only in capitals or in how an accent is written"
        if reason:
            faults.append(Fault(name, reason))
        elif not name.lower().endswith((*SUFFIXES, *TABLES)):
            faults.append(Fault(name, f"{Path(name).suffix or 'a file without ending'} is not read as an image"))
        elif member.offset + member.packed > size:
            faults.append(Fault(name, "the archive is cut short before its end"))
        else:
            members[name] = member
    return members, list(dict.fromkeys(faults))


def _aside(name: str) -> bool:
    """What is passed over without a word: hidden files, texts and the like."""
    parts = name.lower().split("/")
    hidden = any((p.startswith(".") and p != "..") or p == "__macosx" for p in parts)
    return hidden or parts[-1] in ("license", "readme") or parts[-1].endswith(_TEXTS)


def _odd(name: str, member: Member) -> str:
    """Why a plain member is refused; '' = it is not."""
    if leaves(name) or name.startswith("/"):
        return "its name leads out of the folder"
    if "\\" in name:
        return "a backslash in its name"
    if not name.isprintable() and any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in name):
        return "its name is not text"
    if name.lower().endswith(_NESTED):
        return "an archive within an archive is not opened"
    if member.size > _LARGEST:
        return f"it claims {member.size:,} bytes; at most {_LARGEST:,} are read"
    if member.size > _SLACK and member.size > _RATIO * member.packed:
        return f"{member.packed:,} bytes that claim to be {member.size:,}: a bomb"
    return ""


def _zip(path: Path) -> Iterator[tuple[str, Member, str]]:
    """Name, place and '' or why it is refused, of each file in a zip."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    ends = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        name, kind = info.orig_filename.removeprefix("./"), info.external_attr >> 28
        overlaps = info.header_offset < ends
        ends = max(ends, info.header_offset + _LOCAL + info.compress_size)
        if name.endswith("/") and not info.file_size:
            continue
        reason = ""
        if overlaps:
            reason = "it overlaps another member: a bomb"
        elif kind not in (0, 8):
            reason = "a link" if kind == 10 else "not a plain file"
        elif info.flag_bits & 1:
            reason = "it is encrypted"
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            reason = f"packed in a way that is not read ({_METHODS.get(info.compress_type, info.compress_type)})"
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        yield name, Member(info.header_offset, info.compress_size, info.file_size, deflated, info.CRC, True), reason


def _tar(path: Path) -> Iterator[tuple[str, Member, str]]:
    """The same of a tar file."""
    with tarfile.open(path, "r:") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps them all
            name = info.name.removeprefix("./")
            if info.isdir():
                continue
            plain = info.isreg() and not info.issparse()
            reason = "" if plain else "a link" if info.issym() or info.islnk() else "not a plain file"
            yield name, Member(info.offset_data, info.size, info.size), reason
