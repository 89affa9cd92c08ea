"""Generated scenes: what is said of them is right to the pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import format_of
from modicum.data.formats.digits import digits
from modicum.data.formats.scenes import GROUNDS, SIDE, TEST, TRAIN, enlarged, paint, scene
from modicum.data.outlines import unstamp
from modicum.data.read import pixels, read
from modicum.data.samples import sample


@pytest.fixture(scope="module")
def data() -> Dataset:
    return sample("scenes")


def objects(data: Dataset, kind: str) -> list[dict[str, object]]:
    return [r for r in data.of_kind(kind).to_pylist() if r["row"] % 13 == 0]


def test_what_there_is(data: Dataset) -> None:
    assert len(data) == TRAIN + TEST and data.names == tuple("0123456789") and (data.cls == -1).all()
    split, domain = data.field("split"), data.field("domain")
    assert (split[:TRAIN] == "train").all() and (split[TRAIN:] == "test").all()
    assert [*domain[:4]] == [*GROUNDS, "plain"]
    counts = np.bincount(data.of_kind("boxes")["row"].to_numpy(), minlength=len(data))
    assert counts.min() == 1 and counts.max() == 3
    assert {str(f) for f in data.facts()} >= {"tags", "points", "boxes", "masks", "instances", "scribbles", "text"}
    found = {r["kind"]: r for r in data.looked.to_pylist()}
    assert set(found) == {"tags", "points", "boxes", "masks", "instances"}
    assert data.looked.num_rows == 5 * len(data)


def test_captions_say_where_the_boxes_are(data: Dataset, tmp_path: Path) -> None:
    said = {r["row"]: r["data"].decode() for r in data.of_kind("text").to_pylist()}
    assert sorted(said) == [*range(len(data))]
    middle = {(r["row"], r["class"]): r["x0"] + r["x1"] for r in data.of_kind("boxes").to_pylist()}
    assert {w for text in said.values() for w in text.split()} - {*"0123456789"} <= {"a", "an", "left", "above", "of"}
    assert sum(" left of " in text for text in said.values()) > 700
    for row, text in said.items():
        digits = [int(w) for w in text.split() if w.isdigit()]
        places = [middle.pop((row, c)) for c in digits]
        assert places == sorted(places) and ("an 8" in text) == (8 in digits) and "a 8" not in text
        assert text.count(" above ") == len(places) - len({*places})
    assert not middle, "every digit is in its caption"
    data.save(tmp_path / "kept")
    kept = Dataset.load(tmp_path / "kept")
    assert kept.of_kind("text").equals(data.of_kind("text")) and "text" in map(str, kept.facts())


def test_masks_boxes_points_and_scribbles_agree(data: Dataset) -> None:
    masks = {(r["row"], r["class"]): unstamp(r["data"]) for r in objects(data, "instances")}  # type: ignore[arg-type]
    assert len(masks) > 150
    covered: dict[object, np.ndarray] = {}
    for (row, _), mask in masks.items():
        assert mask.shape == (SIDE, SIDE) and not (covered.get(row, np.zeros_like(mask)) & mask).any()
        covered[row] = covered.get(row, np.zeros_like(mask)) | mask
    for r in objects(data, "masks"):
        np.testing.assert_array_equal(unstamp(r["data"]), masks[r["row"], r["class"]])  # type: ignore[arg-type]
    for r in objects(data, "boxes"):
        y, x = np.nonzero(masks[r["row"], r["class"]])
        assert (r["x0"], r["y0"], r["x1"], r["y1"]) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
    for r in objects(data, "points"):
        assert masks[r["row"], r["class"]][int(r["y0"]), int(r["x0"])]  # type: ignore[call-overload]
    for r in objects(data, "scribbles"):
        stroke, mask = unstamp(r["data"]), masks[r["row"], r["class"]]  # type: ignore[arg-type]
        assert not (stroke & ~mask).any() and (stroke.sum(1) == mask.any(1)).all()
    assert data.tags is not None
    for row in range(0, len(data), 13):
        assert [*np.flatnonzero(data.tags[row] == 1)] == sorted(c for r, c in masks if r == row)
        assert set(data.tags[row]) <= {0, 1}


def test_ink_is_where_the_mask_is(data: Dataset) -> None:
    """On plain ground the object is brighter than what surrounds it: each pixel of the mask, and only they."""
    for number in range(0, 60, 3):
        image = pixels(data, number).astype(float).sum(2)
        mask = np.zeros((SIDE, SIDE), bool)
        for d in scene(number):
            x0, y0, x1, y1 = d.part.frame
            mask[y0:y1, x0:x1] |= d.part.mask
        middle = (np.quantile(image[mask], 0.9) + np.median(image[~mask])) / 2
        assert ((image > middle) == mask).mean() > 0.97


def test_train_and_test_share_no_digit() -> None:
    """The ink of a scene is an enlarged digit of its own people."""
    known, cls = digits()
    for number in (3, 500, TRAIN, TRAIN + 250):
        pool = known[:1347] if number < TRAIN else known[1347:]
        labels = cls[:1347] if number < TRAIN else cls[1347:]
        for d in scene(number):
            same = [np.array_equal(enlarged(k[..., 0], *d.ink.shape), d.ink) for k in pool]
            assert any(same) and labels[same.index(True)] == d.cls


def test_enlarging_keeps_what_is_flat_and_straight() -> None:
    """Cubic convolution gives constants and straight lines back, away from the rim."""
    np.testing.assert_allclose(enlarged(np.full((8, 8), 100, np.uint8), 21, 16), 100 / 255, atol=1e-6)
    ramp = np.tile(np.arange(0, 80, 10, dtype=np.uint8), (8, 1))
    at = (np.arange(24) + 0.5) / 3 - 0.5
    np.testing.assert_allclose(enlarged(ramp, 16, 24)[:, 6:-6] * 255, np.tile(at[6:-6] * 10, (16, 1)), atol=1e-4)


def test_a_scene_is_a_function_of_its_number(data: Dataset) -> None:
    for ground in GROUNDS:
        one = sample(f"scenes-{ground}")
        assert set(one.field("domain")) == {ground} and len(one) == len(data)
        assert one.annotations.num_rows == data.annotations.num_rows
        row = GROUNDS.index(ground)
        np.testing.assert_array_equal(pixels(one, row), pixels(data, row))
    few = data.take(np.array([7, 2]))
    block = format_of(few).all_pixels(few)
    assert block is not None and block.dtype == np.uint8 and block.shape == (2, SIDE, SIDE, 3)
    np.testing.assert_array_equal(block[1], paint("clutter", 2))
    assert (paint("plain", 4) != paint("clutter", 4)).any()


def test_the_pixels_are_those_that_were_measured() -> None:
    """Benchmarks rest on them: a change of numpy's draws or of this code must be seen; a rounding may differ."""
    total = [int(paint(g, n).astype(np.int64).sum()) for g in GROUNDS for n in (0, 1234)]
    np.testing.assert_allclose(total, [702363, 661622, 831775, 677970, 983699, 678710], atol=60)


def test_an_unknown_ground_is_refused() -> None:
    with pytest.raises(DataError, match="scenes-x"):
        read("sample:scenes-x")
