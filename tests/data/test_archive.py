"""Archives are read where they lie, and every trick that one can play is refused by name."""

from __future__ import annotations

import io
import re
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.core.errors import DataError
from modicum.data.convert import convert
from modicum.data.formats import Read
from modicum.data.read import pixels, read


def png(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("L", (3, 2), value).save(out, "PNG")
    return out.getvalue()


GOOD = {"set/cat/1.png": png(1), "set/dog/2.png": png(2), "set/test/dog/3.png": png(3)}


@pytest.fixture(params=["zip", "stored", "tar"])
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """An archive of each kind with the members given."""

    def write(members: dict[str, bytes]) -> Path:
        file = tmp_path / ("a.tar" if request.param == "tar" else "a.zip")
        if request.param == "tar":
            with tarfile.open(file, "w") as tar:
                for name, content in members.items():
                    tar.addfile(tar_info(name, len(content)), io.BytesIO(content))
        else:
            method = zipfile.ZIP_DEFLATED if request.param == "zip" else zipfile.ZIP_STORED
            with zipfile.ZipFile(file, "w", method) as archive:
                for name, content in members.items():
                    archive.writestr(zipfile.ZipInfo(name), content, method)
        return file

    return write


def tar_info(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def reasons(found: Read) -> dict[str, str]:
    return {f.where: f.reason for f in found.faults}


def test_class_folders_in_an_archive(pack: Callable[..., Path]) -> None:
    file = pack(
        {**GOOD, "set/README.md": b"x", "set/.DS_Store": b"x", "__MACOSX/set/cat/._1.png": b"x", "set/x.czi": b"x"}
    )
    found = read(file)
    data = found.data
    assert data.reader == "archive" and data.names == ("cat", "dog") and data.cls.tolist() == [0, 1, 1]
    assert data.ids.tolist() == sorted(GOOD) and data.field("split").tolist() == ["", "", "test"]
    assert [int(pixels(data, r)[0, 0, 0]) for r in range(3)] == [1, 2, 3]
    assert reasons(found) == {"set/x.czi": ".czi is not read as an image"}
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_table_in_an_archive(pack: Callable[..., Path]) -> None:
    found = read(pack({**GOOD, "set/labels.csv": b"image,group\ncat/1.png,g\nset/dog/2.png,h\nnone,g\n"}))
    assert found.data.field("group").tolist() == ["g", "h", ""] and found.data.reader == "archive"
    assert reasons(found) == {"set/labels.csv: row 4": "no image 'none'"}


@pytest.mark.parametrize("name, says", [
    ("../x.png", "leads out"), ("/etc/x.png", "leads out"), ("cat/../../x.png", "leads out"), ("C:/x.png", "leads out"),
    ("cat\\x.png", "backslash|leads out"), ("cat/inner.zip", "archive within"), ("cat/inner.tar.gz", "archive within"),
    ("set/CAT/1.png", "only in capitals"), ("set/cat/1.PNG", "only in capitals"), ("cat/\x1b[2J.png", "not text"),
])  # fmt: skip
def test_names_that_are_refused(pack: Callable[..., Path], name: str, says: str) -> None:
    found = read(pack({**GOOD, name: png(9)}))
    assert len(found.data) == 3 and len(found.faults) == 1
    assert re.search(says, found.faults[0].reason) and found.faults[0].where.isprintable()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_not_read_at_all(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, value in (("a.png", 1), ("b.png", 2), ("a.png", 3)):
            archive.writestr(name, png(value))
    found = read(tmp_path / "a.zip")
    assert found.data.ids.tolist() == ["b.png"] and reasons(found) == {
        "a.png": "its name stands several times in the archive"
    }


def test_links_and_devices(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tar_info("a.png", len(png())), io.BytesIO(png()))
        for name, kind in (
            ("s.png", tarfile.SYMTYPE),
            ("h.png", tarfile.LNKTYPE),
            ("d.png", tarfile.CHRTYPE),
            ("f.png", tarfile.FIFOTYPE),
        ):
            tar.addfile(tar_info(name, kind=kind, link="/etc/passwd"))
    found = read(tmp_path / "a.tar")
    assert found.data.ids.tolist() == ["a.png"]
    assert reasons(found) == {
        "s.png": "a link",
        "h.png": "a link",
        "d.png": "not a plain file",
        "f.png": "not a plain file",
    }
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", png())
        info = zipfile.ZipInfo("s.png")
        info.external_attr, info.create_system = 0o120777 << 16, 3
        archive.writestr(info, "/etc/passwd")
    assert reasons(read(tmp_path / "a.zip")) == {"s.png": "a link"}


def test_bombs(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", png())
        archive.writestr("zeros.png", bytes(50 << 20))
    started = time.process_time()
    found = read(tmp_path / "a.zip")
    assert found.data.ids.tolist() == ["a.png"] and "a bomb" in reasons(found)["zeros.png"]
    assert time.process_time() - started < 2


def test_a_member_that_is_larger_than_it_claims_is_not_unpacked(tmp_path: Path) -> None:
    """The claim in the central directory is small, the stream is not."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", png())
        archive.writestr("z.png", bytes(40 << 20))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    at = content.rindex(b"PK\1\2")
    struct.pack_into("<I", content, at + 24, 1000)
    (tmp_path / "a.zip").write_bytes(content)
    data = read(tmp_path / "a.zip").data
    with pytest.raises(DataError, match=r"z\.png: not what the archive says"):
        pixels(data, data.ids.tolist().index("z.png"))


def test_overlapping_members(tmp_path: Path) -> None:
    """Two entries of the directory that lead to the same bytes, as in bombs without nesting."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", png(1))
        archive.writestr("b.png", png(2))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    second = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
    struct.pack_into("<I", content, second + 42, 0)
    (tmp_path / "a.zip").write_bytes(content)
    found = read(tmp_path / "a.zip")
    assert found.data.ids.tolist() == ["a.png"] and "overlaps" in reasons(found)["b.png"]


def test_what_is_packed_otherwise_or_encrypted(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", png())
        archive.writestr("b.png", png(), zipfile.ZIP_BZIP2)
        archive.writestr("c.png", png())
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert reasons(read(tmp_path / "a.zip")) == {
        "b.png": "packed in a way that is not read (bzip2)", "c.png": "it is encrypted"
    }  # fmt: skip


def test_damage(pack: Callable[..., Path]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 9000, np.uint8).tobytes()
    file = pack({"a.png": png(), "b.png": noise, "c.png": png()})
    content = bytearray(file.read_bytes())
    content[content.index(noise[4000:4100]) + 50] ^= 255
    file.write_bytes(content)
    data = read(file).data
    with pytest.raises(DataError, match=r"b\.png"):
        pixels(data, 1)
    assert pixels(data, 2).shape == (2, 3, 1)
    file.write_bytes(content[:400])
    with pytest.raises(DataError, match=r"not a readable archive|no image files"):
        read(file)
    file.write_bytes(zlib.compress(b"x" * 99))
    with pytest.raises(DataError, match="not a readable archive"):
        read(file)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.7z", "a.rar", "a.tar.xz"])
def test_other_archives_say_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"not read\nUnpack it into a folder of its own"):
        read(tmp_path / name)


def test_an_archive_without_images(pack: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"no image files in the archive; first fault: x\.czi"):
        read(pack({"x.czi": b"x"}))


def test_unpacking_is_converting(pack: Callable[..., Path], tmp_path: Path) -> None:
    file = pack({**GOOD, "../evil.png": png(), "set/labels.csv": b"image,group\ncat/1.png,g\n"})
    done = convert(file, tmp_path / "out", "folders")
    assert not done.lost and len(done.faults) == 1 and done.data.field("group").tolist() == ["g", "", ""]
    written = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert written == [file.name, *(f"out/{n}" for n in ["labels.csv", *sorted(GOOD)])]


def test_omniglot(shared_data: Path) -> None:
    found = read(shared_data / "omniglot" / "images_background_small1.zip")
    assert len(found.data) == 2720 and not found.faults and len(found.data.names) > 4
    assert pixels(found.data, 2719).shape == (105, 105, 1)
