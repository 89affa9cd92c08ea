"""Files that a set must survive: each is an image or a fault that names it, and reading goes on."""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from modicum.core.errors import DataError
from modicum.data.cache import Pixels
from modicum.data.formats import Read
from modicum.data.images import decode, glimpse
from modicum.data.looks import look
from modicum.data.read import read

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
Put = Callable[..., Path]
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (24, 40, 3), np.uint8)


def packed(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def reasons(found: Read) -> dict[str, str]:
    """What is said of each file, by reading or by decoding."""
    return {f.where: f.reason for f in (*found.faults, *look(found.data).faults)}


@pytest.fixture
def root(put: Put) -> Path:
    """A good image, to which the tests add bad ones."""
    return put("good.png", size=(40, 24))


def good(found: Read) -> list[str]:
    return found.data.ids[look(found.data).facts["height"] > 0].tolist()


PNG, JPEG = packed(Image.fromarray(RGB), "PNG"), packed(Image.fromarray(RGB), "JPEG")
FILES = {
    "empty.png": (b"", "the file is empty"),
    "cut.png": (PNG[:-60], "the file is cut short"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "the file is cut short"),
    "cut.tif": (packed(Image.fromarray(RGB), "TIFF")[:200], "the file is cut short"),
    "head.jpg": (JPEG[:20], "the file is "),
    "noise.png": (bytes(RNG.integers(0, 256, 500, np.uint8)), "not a readable PNG"),
    "text.jpg": (b"404 not found", "not a readable PNG"),
    "page.jpg": (b"<html>log in</html>", "not a readable PNG, JPEG, TIFF, WebP, BMP or GIF image but a web page"),
    "photo.jpg": (b"\0\0\0\x18ftypheic" + bytes(50), "but a HEIC photograph: save it as PNG or JPEG"),
    "zip.png": (b"PK\x03\x04" + bytes(50), "but a zip archive"),
    "wide.bmp": (b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
                 "2147483647 x 2147483647 pixels, more than the 89,478,485 allowed: MODICUM_MAX_PIXELS raises"),
    "flat.bmp": (b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 0, 5, 1, 24, 0, 0, 0, 0, 0, 0), "damaged"),
    "crc.png": (PNG[:45] + b"\0\0\0\0" + PNG[49:], "the file is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_a_fault_and_reading_goes_on(root: Path, name: str) -> None:
    (root / name).write_bytes(FILES[name][0])
    found = read(root)
    assert good(found) == ["good.png"] and list(reasons(found)) == [name]
    assert FILES[name][1] in reasons(found)[name]


def test_strict_stops_at_the_first_fault(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("cache")
    (root / "cut.png").write_bytes(PNG[:-60])
    found = read(root, strict=True)
    for stop in (
        lambda: look(found.data, strict=True), lambda: look(found.data, home=home, strict=True),
        lambda: Pixels.build(found.data, home, strict=True),
    ):  # fmt: skip
        with pytest.raises(DataError, match=r"cut\.png: the file is cut short.*\n.*--strict") as error:
            stop()
        assert error.value.exit_code == 3
    kept = Pixels.build(found.data, home)  # also where it was built before
    with pytest.raises(DataError, match=r"cut\.png"):
        Pixels.build(found.data, home, strict=True)
    assert kept.good.tolist() == [False, True]
    os.mkfifo(root / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: a pipe, not a file\n"):
        read(root, strict=True)


def test_a_zip_behind_an_image_is_an_image(root: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("../../evil.sh", "rm -rf /")
    (root / "both.jpg").write_bytes(JPEG + inner.getvalue())
    assert zipfile.is_zipfile(root / "both.jpg") and not reasons(read(root))
    np.testing.assert_array_equal(decode(root / "both.jpg"), decode(JPEG))


def test_what_is_no_file_is_not_opened(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    os.mkfifo(root / "pipe.png")  # whoever opens it waits for ever
    (root / "folder.jpg").mkdir()
    shutil.copy(root / "good.png", root / "folder.jpg" / "inside.png")
    short = Path(tempfile.mkdtemp())  # a socket's path may be 108 bytes long
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(short / "s"))
    (short / "s").rename(root / "socket.png")
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.png").write_bytes(PNG)
    (root / "out.png").symlink_to(outside / "secret.png")
    (root / "device.png").symlink_to("/dev/zero")
    (root / "circle.png").symlink_to(root / "circle.png")
    (root / "nothing.png").symlink_to(root / "gone.png")
    (root / "same.png").symlink_to("good.png")
    (root / "all").symlink_to(root)
    found = read(root)
    server.close()
    shutil.rmtree(short)
    assert reasons(found) == {
        "all": "a link to a folder", "circle.png": "a link that leads in a circle",
        "device.png": "a link that leaves the folder: copy the file here",
        "folder.jpg": "a folder that is named like an image: rename it if it holds images",
        "nothing.png": "a link to nothing", "out.png": "a link that leaves the folder: copy the file here",
        "pipe.png": "a pipe, not a file", "socket.png": "a socket, not a file",
    }  # fmt: skip
    assert good(found) == ["good.png", "same.png"]
    for name in ("pipe.png", "device.png"):
        with pytest.raises(DataError, match="not a plain file"):
            decode(root / name)


@pytest.mark.skipif(not hasattr(os, "mknod") or os.getuid() != 0, reason="only root can make a device")
def test_a_device_is_not_opened(root: Path) -> None:
    os.mknod(root / "zero.png", 0o20666, os.makedev(1, 5))
    assert reasons(read(root)) == {"zero.png": "a device, not a file"}


@pytest.fixture
def nobody() -> Iterator[None]:
    """For a test that root would pass by: root may read all."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.fixture
def closed() -> Iterator[Path]:
    """A set of which a file, a folder and the files of a folder may not be read, where not only root can go."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "set")
        for name in ("a/1.png", "a/closed.png", "b/2.png", "c/3.png"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(PNG)
        reasons(read(root))  # imports what it needs
        Path(place).chmod(0o755)
        modes = {"a/closed.png": 0, "b": 0, "c": 0o444}
        for name, mode in modes.items():
            (root / name).chmod(mode)
        yield root
        for name in modes:
            (root / name).chmod(0o755)


@pytest.mark.usefixtures("nobody")
def test_what_may_not_be_read_is_a_fault(closed: Path) -> None:
    found = read(closed)
    said = {(f.where, f.reason) for f in (*found.faults, *look(found.data).faults)}
    assert said - {("b/", "no image in this folder")} == {
        ("a/closed.png", "the file may not be read: change its permissions"),
        ("b/", "the folder cannot be read: Permission denied"),
        ("c/3.png", "the file may not be read: change its permissions"),
    }
    assert good(found) == ["a/1.png"]


def test_files_that_change_between_reading_and_decoding(root: Path) -> None:
    for name in ("gone.png", "cut.png", "pipe.png"):
        shutil.copy(root / "good.png", root / name)
    found = read(root)
    for name in ("gone.png", "pipe.png"):
        (root / name).unlink()
    os.mkfifo(root / "pipe.png")
    (root / "cut.png").write_bytes(b"")
    assert reasons(found) == {
        "cut.png": "the file is empty: fetch or save it again", "gone.png": "no such file: scan the folder again",
        "pipe.png": "not a plain file",
    }  # fmt: skip
    assert good(found) == ["good.png"]


NAMES = [
    "a b.png", "ü.png", unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "é.png"), "日本.jpg",
    "a:b.jpg", "12:30:00.png", "con.png", "aux/1.png", "what?.png", "a*b.png", 'say "hi".png', "dot..png", "a;b.png",
    "new\nline.png", "tab\t.png", "\x1b[31mred.png", "‮gnp.exe.png", "#1.png", "50%.png", "x#0.png", "-rf.png",
    "A.png", "a.png", "a.PNG", "🙂" * 60 + ".png", "COM1.jpg", "..png", "a\\b.png",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_read_or_named(root: Path, name: str) -> None:
    file = root / name
    file.parent.mkdir(exist_ok=True)
    try:
        file.write_bytes(PNG)
    except OSError:
        pytest.skip("this system cannot hold the name")
    found = read(root)
    hidden = name.startswith(".")
    outside = name == "a:b.jpg"  # a drive on Windows
    assert good(found) == sorted(["good.png"] + [name] * (not (hidden or outside)))
    assert (
        list(reasons(found).values()) == ["Windows reads this name as a place outside the folder: rename it"] * outside
    )


def test_a_name_that_is_not_utf8(root: Path) -> None:
    try:
        (root / os.fsdecode(b"caf\xe9.png")).write_bytes(PNG)
    except OSError:
        pytest.skip("this system cannot hold the name")
    assert reasons(read(root)) == {r"'caf\udce9.png'": "the name is not UTF-8: rename it"}


# -- mutated bytes -----------------------------------------------------------------------------------------------------


def seeds() -> Iterator[bytes]:
    """A small file of every kind, with what decoders trip over: EXIF, palettes, several frames, profiles, text."""
    rgb, exif = Image.fromarray(RGB), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    deep = Image.fromarray(RNG.integers(0, 65536, (24, 40)).astype(np.uint16))
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"):
        yield packed(rgb, kind, **({} if kind in ("BMP", "GIF") else {"exif": exif}))
        yield packed(rgb.convert("L"), kind)
    yield packed(rgb, "JPEG", progressive=True, icc_profile=bytes(300))
    yield packed(rgb.convert("CMYK"), "JPEG")
    yield packed(rgb.convert("P"), "PNG", transparency=bytes(range(100)))
    yield packed(rgb.convert("RGBA"), "PNG", optimize=True)
    yield packed(deep, "PNG")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        yield packed(rgb, "TIFF", compression=compression)
    yield packed(Image.fromarray(RGB[..., 0] / np.float32(255)), "TIFF")
    for kind in ("PNG", "GIF", "WEBP", "MPO"):
        yield packed(rgb, kind, save_all=True, append_images=[rgb.rotate(90)])


SEEDS = list(seeds())
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "drop", "put", "copy"]), st.floats(0, 1), st.binary(min_size=1, max_size=8)
    ),
    min_size=1, max_size=6,
)  # fmt: skip


def changed(whole: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Bytes overwritten, cut off, left out, put in or repeated; half of all places lie in the first 5 per cent."""
    for what, share, some in changes:
        at = int(len(whole) * (share / 10 if share < 0.5 else 2 * share - 1))
        before, after = whole[:at], whole[at:]
        whole = {
            "set": before + some + after[len(some) :], "cut": before, "drop": before + after[len(some) :],
            "put": before + some + after, "copy": before + whole[max(0, at - 32) : at] + after,
        }[what]  # fmt: skip
    return whole


def survives(whole: bytes) -> None:
    """Decoded whole and reduced, to an image of the same size or to an error with a reason."""
    ends = []
    for side in (0, 8):
        try:
            array, height, width = glimpse(whole, side)
        except DataError as error:
            assert error.found and "\n" not in error.found and len(error.found) < 250
            ends.append(None)
        else:
            assert array.ndim == 3 and array.size and array.shape[2] in (1, 3) and array.dtype in (np.uint8, np.uint16)
            ends.append((height, width))
    assert ends[0] == ends[1]


@given(st.sampled_from(SEEDS), CHANGES)
@settings(max_examples=150, deadline=None)
def test_changed_bytes_end_in_an_image_or_an_error(whole: bytes, changes: list[tuple[str, float, bytes]]) -> None:
    survives(changed(whole, changes))


@pytest.mark.slow
@given(st.sampled_from(SEEDS), CHANGES)
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_very_many_changed_bytes(whole: bytes, changes: list[tuple[str, float, bytes]]) -> None:
    survives(changed(whole, changes))


@given(st.sampled_from(sorted({whole[:8] for whole in SEEDS})), st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_noise_behind_a_good_start(start: bytes, noise: bytes) -> None:
    survives(start + noise)
