"""Masks beside images: class numbers, what is unknown, and what is not believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats.masks import coloured
from modicum.data.images import levels
from modicum.data.outlines import unstamp
from modicum.data.read import read

Put = Callable[..., Path]
MASK = np.zeros((4, 5), np.uint8)
MASK[1:3, 1:4], MASK[3, :2], MASK[0, 0] = 2, 1, 255


def save(root: Path, name: str, values: np.ndarray, palette: bool = False) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    if palette:
        (root / name).write_bytes(coloured(values))
    else:
        Image.fromarray(values).save(root / name)


def maps(data: Dataset) -> dict[str, np.ndarray]:
    """Class maps, painted one statement after the other."""
    out = {}
    for row in data.looked["row"].to_pylist():
        mine = [r for r in data.of_kind("masks").to_pylist() if r["row"] == row]
        drawn = np.zeros((4, 5), np.uint8)
        for r in mine:
            mask = unstamp(r["data"])
            y, x = np.nonzero(mask)
            assert (r["x0"], r["y0"], r["x1"], r["y1"]) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
            drawn[mask] = 255 if r["class"] == -1 else r["class"] + 1
            assert (r["value"] == 0) == (r["class"] == -1)
        out[str(data.ids[row])] = drawn
    return out


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("images, masks", [("images", "masks"), ("JPEGImages", "SegmentationClass")])
def test_what_a_mask_says(put: Put, images: str, masks: str, palette: bool) -> None:
    for name in ("train/a", "test/b", "c"):
        root = put(f"{images}/{name}.png")
    save(root, f"{masks}/train/a.png", MASK, palette)
    save(root, f"{masks}/test/b.png", MASK * 0, palette)
    found = read(root)
    data = found.data
    assert found.faults == [] and data.reader == "masks" and data.names == ("1", "2") and len(data) == 3
    drawn = maps(data)
    np.testing.assert_array_equal(drawn.pop(f"{images}/train/a.png"), MASK)
    assert [(k, v.any()) for k, v in drawn.items()] == [(f"{images}/test/b.png", False)]
    split = dict(zip(data.ids, data.field("split")))
    assert split == {f"{images}/train/a.png": "train", f"{images}/test/b.png": "test", f"{images}/c.png": ""}
    assert [str(f) for f in data.facts()] == ["image", "names", "masks:some"]
    assert data.tags is not None and {*map(tuple, data.tags.tolist())} == {(1, 1), (0, 0), (-1, -1)}


@pytest.mark.parametrize("file, text, names", [
    ("classes.txt", "road\ncar\n", ("road", "car")),
    ("classes.txt", "background\nroad\ncar\nbike", ("road", "car", "bike")),
    ("classes.csv", "value,name\n2,car\n1,road\n", ("road", "car")),
    ("classes.csv", "name\nroad\ncar\n", ("road", "car")),
])  # fmt: skip
def test_names(put: Put, file: str, text: str, names: tuple[str, ...]) -> None:
    root = put("images/a.png")
    save(root, "masks/a.png", MASK)
    (root / file).write_text(text)
    found = read(root)
    assert found.data.names == names and found.faults == []
    np.testing.assert_array_equal(maps(found.data)["images/a.png"], MASK)


@pytest.mark.parametrize("text", ["a\na\n", "a\n\nb\n", "a\x1b\n", "\n".join(map(str, range(300)))])
def test_names_that_are_not_used(put: Put, text: str) -> None:
    root = put("images/a.png")
    save(root, "masks/a.png", MASK)
    (root / "classes.txt").write_text(text)
    found = read(root)
    assert found.data.names == ("1", "2") and [f.where for f in found.faults] == ["classes.txt"]


def test_a_number_without_a_name_is_unknown(put: Put) -> None:
    root = put("images/a.png")
    save(root, "masks/a.png", MASK)
    (root / "classes.txt").write_text("road\n")
    found = read(root)
    assert "the number 2, but there are 1 classes" in found.faults[0].reason
    np.testing.assert_array_equal(maps(found.data)["images/a.png"], np.where(MASK == 2, 255, MASK))


def test_masks_of_two_values(put: Put) -> None:
    """0 and 255 alone: the class is white.  One bit a pixel: the class is 1."""
    root = put("images/a.png")
    white = np.where(MASK == 2, 255, 0).astype(np.uint8)
    save(root, "masks/a.png", white)
    found = read(root)
    assert found.data.names == ("1",) and "255 is taken for the class" in found.faults[0].reason
    np.testing.assert_array_equal(maps(found.data)["images/a.png"], white // 255)
    save(root, "masks/a.png", white > 0)
    found = read(root)
    assert found.data.names == ("1",) and found.faults == []
    np.testing.assert_array_equal(maps(found.data)["images/a.png"], white // 255)


@pytest.mark.parametrize("bad, says", [
    (np.zeros((5, 4), np.uint8), "a mask of 4 x 5 pixels for an image of 5 x 4"),
    (np.zeros((4, 5, 3), np.uint8), "RGB colours, not one number a pixel"),
    (np.full((4, 5), 300, np.uint16), "pixels from 300 to 300: class numbers are 0 to 254"),
    (None, "not a readable PNG"),
])  # fmt: skip
def test_a_mask_that_is_left_out(put: Put, bad: np.ndarray | None, says: str) -> None:
    put("images/b.png")
    root = put("images/a.png")
    save(root, "masks/b.png", MASK)
    if bad is None:
        (root / "masks/a.png").write_bytes(b"x")
    else:
        save(root, "masks/a.png", bad)
    save(root, "masks/none.png", MASK)
    found = read(root)
    assert list(maps(found.data)) == ["images/b.png"] and len(found.data) == 2
    assert [f.where for f in found.faults] == ["masks/a.png", "masks/none.png"] and says in found.faults[0].reason


def test_other_folders_are_not_taken_for_masks(put: Put) -> None:
    put("images/a.png")
    root = put("masks/b.png")
    assert read(root).data.reader == "folders"
    with pytest.raises(DataError, match="no folder images/ beside masks/"):
        read(put("x/c.png") / "x", "masks")


def test_the_palette_is_that_of_voc(tmp_path: Path) -> None:
    """Its first colours, as everyone knows them."""
    (tmp_path / "a.png").write_bytes(coloured(np.arange(6, dtype=np.uint8)[None]))
    with Image.open(tmp_path / "a.png") as image:
        colours = np.asarray(image.convert("RGB"))[0].tolist()
    assert colours == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]]
    assert levels(tmp_path / "a.png").tolist() == [[0, 1, 2, 3, 4, 5]]
