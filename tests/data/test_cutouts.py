"""Cut-outs: from folders, drawn objects and digits; and hostile ones, which are refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.core.errors import DataError
from modicum.data.cutouts import LARGEST, cropped, cutouts, opened
from modicum.data.formats.digits import digits
from modicum.data.formats.scenes import scene


def picture(height: int = 20, width: int = 30, *, alpha: int = 255) -> np.ndarray:
    """A red rectangle of 8 x 12 in a transparent picture, its left top at (5, 4)."""
    out = np.zeros((height, width, 4), np.uint8)
    out[4:12, 5:17] = (200, 10, 10, alpha)
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.fromarray(picture()).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_a_folder_for_each_class_and_the_rim_is_cut_off(folder: Path) -> None:
    found = cutouts(str(folder), ["dog", "cat"])
    assert {k: len(v) for k, v in found.items()} == {"cat": 2, "dog": 2}
    np.testing.assert_array_equal(found["cat"][0], np.broadcast_to([200, 10, 10, 255], (8, 12, 4)))
    assert list(cutouts(str(folder), ["dog", "horse"])) == ["dog"]


def test_the_only_class_is_found_too(folder: Path) -> None:
    for file in (folder / "dog").iterdir():
        file.unlink()
    assert {k: len(v) for k, v in cutouts(str(folder), ["cat"]).items()} == {"cat": 2}


def test_pictures_without_transparency_are_taken_whole(folder: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(folder / "cat" / "grey.png")
    deep = (np.arange(64).reshape(8, 8) * 1000).astype(np.uint16)
    Image.fromarray(deep).save(folder / "cat" / "high.png")
    *_, plain, high = cutouts(str(folder), ["cat"])["cat"]
    np.testing.assert_array_equal(plain, np.dstack([grey, grey, grey, np.full((8, 8), 255)]))
    np.testing.assert_array_equal(high[..., 0], deep >> 8)


def _bomb() -> bytes:
    """A PNG whose header says 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 6, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("kind", ["huge", "one pixel", "transparent", "moving", "cut short", "no image"])
def test_a_hostile_cut_out_is_refused_by_its_name(folder: Path, kind: str) -> None:
    says = {"huge": "more than the", "one pixel": "1 x 1 pixels", "transparent": "transparent", "moving": "animation",
            "cut short": "cut short|damaged", "no image": "not a readable"}[kind]  # fmt: skip
    file = folder / "cat" / "bad.png"
    if kind == "huge":
        file.write_bytes(_bomb())
    elif kind == "one pixel":
        Image.fromarray(picture()[4:5, 5:6]).save(file)
    elif kind == "transparent":
        Image.fromarray(picture(alpha=0)).save(file)
    elif kind == "moving":
        some = [Image.fromarray(picture()[..., :3] + np.uint8(i)) for i in range(3)]
        some[0].save(file, "PNG", save_all=True, append_images=some[1:])
    elif kind == "cut short":
        file.write_bytes((folder / "cat" / "0.png").read_bytes()[:-30])
    else:
        file.write_bytes(b"GIF87aMZ" + bytes(50))
        says = "not a readable|damaged|cut short"
    with pytest.raises(DataError, match=says) as caught:
        cutouts(str(folder), ["cat"])
    assert "bad.png" in str(caught.value)
    assert "dog" in cutouts(str(folder), ["dog"]), "a class that nobody asked for is not looked at"


def test_a_large_one_is_made_smaller_and_keeps_its_form() -> None:
    wide = np.full((400, 2000, 4), 255, np.uint8)
    assert cropped(wide, "here").shape == (round(400 * LARGEST / 2000), LARGEST, 4)


def test_files_are_set_upright(tmp_path: Path) -> None:
    turned = Image.fromarray(picture())
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "x.png", exif=exif)
    assert opened((tmp_path / "x.png").read_bytes(), "x").shape == (30, 20, 4)


def test_objects_that_are_drawn_are_cut_out_of_training_images_alone() -> None:
    found = cutouts("sample:scenes-plain", [*map(str, range(10))])
    want = {str(c): 0 for c in range(10)}
    for number in range(1000):
        for d in scene(number):
            want[str(d.cls)] += 1
    assert {k: len(v) for k, v in found.items()} == want
    first = scene(0)[0]
    mine = found[str(first.cls)][0]
    assert mine.shape[:2] == first.part.mask.shape
    np.testing.assert_array_equal(mine[..., 3] == 255, first.part.mask)


def test_digits_are_ink() -> None:
    found = cutouts("sample:digits", ["1", "7"])
    pixels, cls = digits()
    assert len(found["1"]) == int((cls == 1).sum()) and (found["7"][0][..., :3] == 255).all()
    ink = pixels[np.flatnonzero(cls == 7)[0], ..., 0]
    assert abs(found["7"][0][..., 3].sum() / 255 / 16 - ink.sum() / 255) < 3, "as much ink, 16 pixels for one"


def test_no_place_is_no_cut_out() -> None:
    assert cutouts("", ["cat"]) == {}
    with pytest.raises(DataError, match="nothing here"):
        cutouts("no-such-folder", ["cat"])
