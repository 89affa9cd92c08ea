"""Outlines as masks, against plain loops over pixels, points and bits."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from modicum.data.outlines import Part, filled, packed, part_of, rolled, stamp, unpacked, unrolled, unstamp

sides = st.integers(1, 20)
masks = st.tuples(sides, sides).flatmap(lambda s: arrays(bool, s))
coordinates = st.one_of(st.integers(-4, 24).map(float), st.floats(-4, 24).map(lambda v: round(v, 2)))
polygons = st.lists(
    st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9).map(np.array), min_size=1, max_size=3
)


def whole(part: Part | None, height: int, width: int) -> np.ndarray:
    out = np.zeros((height, width), bool)
    if part is not None:
        x0, y0, x1, y1 = part.frame
        out[y0:y1, x0:x1] = part.mask
    return out


def within(points: np.ndarray, x: float, y: float) -> bool:
    """By counting the edges that a ray to the left crosses."""
    inside = False
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, 0)):
        if (ay <= y) != (by <= y) and ax + (y - ay) * ((bx - ax) / (by - ay)) <= x:
            inside = not inside
    return inside


@settings(max_examples=150, deadline=None)
@given(masks)
def test_a_mask_is_framed_stamped_and_rolled(mask: np.ndarray) -> None:
    height, width = mask.shape
    part = part_of(mask)
    assert (part is None) == (not mask.any())
    counts = rolled(mask)
    assert counts.sum() == mask.size and (counts[1:] > 0).all()
    flat = [bool(i % 2) for i, n in enumerate(counts.tolist()) for _ in range(n)]
    assert flat == mask.T.ravel().tolist()
    np.testing.assert_array_equal(whole(unrolled(counts, height, width), height, width), mask)
    np.testing.assert_array_equal(unpacked(packed(counts)), counts)
    if part is not None:
        assert part.mask[0].any() and part.mask[-1].any() and part.mask[:, 0].any() and part.mask[:, -1].any()
        data = stamp(part, height, width)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert image.mode == "1" and image.size == (width, height)
            np.testing.assert_array_equal(np.asarray(image), mask)
        np.testing.assert_array_equal(unstamp(data), mask)


@settings(max_examples=150, deadline=None)
@given(polygons, sides, sides)
def test_a_pixel_belongs_to_a_polygon_that_holds_its_centre(
    outlines: list[np.ndarray], height: int, width: int
) -> None:
    truth = [[any(within(p, x + 0.5, y + 0.5) for p in outlines) for x in range(width)] for y in range(height)]
    np.testing.assert_array_equal(whole(filled(outlines, height, width), height, width), np.array(truth))


def text_of(counts: list[int]) -> str:
    """COCO's string, one bit at a time, from its description."""
    out = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            digit = value % 32
            value = (value - digit) // 32
            last = (value == 0 and digit < 16) or (value == -1 and digit >= 16)
            out += chr(48 + digit + (0 if last else 32))
            if last:
                break
    return out


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2**31), max_size=12))
def test_packed_run_lengths(counts: list[int]) -> None:
    text = text_of(counts)
    assert packed(np.array(counts, np.int64)) == text and unpacked(text).tolist() == counts


def test_a_string_as_coco_writes_it() -> None:
    """A 3 x 4 image whose second column is the object: counts 3 3 6, each a digit above `0`."""
    assert packed(np.array([3, 3, 6])) == "336"
    mask = whole(unrolled(unpacked("336"), 3, 4), 3, 4)
    assert mask.astype(int).tolist() == [[0, 1, 0, 0]] * 3


@pytest.mark.parametrize("text", ["P", "~~", "é", "/", "P" * 9 + "0", "\x00"])
def test_text_that_is_no_run_lengths(text: str) -> None:
    with pytest.raises(ValueError, match="run length"):
        unpacked(text)


@pytest.mark.parametrize("counts", [[5], [7], [-1, 7], [2, 2, 1], [2**62] * 2, [0] * 8])
def test_run_lengths_of_another_image(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        unrolled(np.array(counts, np.int64), 2, 3)


def test_outlines_that_are_none() -> None:
    with pytest.raises(ValueError, match="2 points"):
        filled([np.zeros((2, 2))], 4, 4)
    with pytest.raises(ValueError, match="nan"):
        filled([np.array([[0, 0], [1, np.nan], [2, 2]])], 4, 4)
    zigzag = np.array([[i % 7, 30_000 * (i % 2)] for i in range(3000)], float)
    with pytest.raises(ValueError, match="rows of pixels"):
        filled([zigzag], 30_000, 7)
    assert filled([np.array([[0, 0], [0.2, 0], [0, 0.2]])], 4, 4) is None
    assert filled([np.array([[90, 90], [99, 90], [90, 99.0]])], 4, 4) is None
    assert unrolled(np.array([6]), 2, 3) is None and unrolled(np.array([], np.int64), 0, 0) is None
