"""Pictures: what comes out of a data URI, the colours, the numbers about maps."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modicum.core.errors import DataError
from modicum.report import pictures
from modicum.report.pictures import beside, rgb


def decode(uri: str) -> np.ndarray:
    head, data = uri.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)), formats=["PNG"]).convert("RGB"))


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (28, 20, 2), (17, 23, 3), (9, 9, 5)])
def test_small_pictures_survive_unchanged(shape: tuple[int, ...]) -> None:
    given = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    shown = decode(pictures.thumbnail(given))
    three = given.reshape(*shape[:2], -1)
    np.testing.assert_array_equal(shown, three[..., :3] if three.shape[2] >= 3 else np.repeat(three[..., :1], 3, 2))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 600), st.integers(1, 600))
def test_thumbnails_fit_and_keep_their_shape(height: int, width: int) -> None:
    small = pictures.shrink(np.zeros((height, width, 3), np.uint8), 64)
    assert max(small.shape[:2]) == min(64, max(height, width))
    if max(height, width) > 64:
        assert abs(small.shape[0] / 64 - height / max(height, width)) <= 1 / 64


def test_what_is_no_picture_is_refused() -> None:
    for bad in (np.zeros((4, 4)), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(DataError):
            pictures.thumbnail(bad)


def test_colours_rise_evenly_in_lightness_and_survive_red_green_blindness() -> None:
    table = pictures.colours().astype(float) / 255
    linear = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    lightness = np.cbrt(linear @ [0.2126, 0.7152, 0.0722])
    steps = np.diff(lightness)
    assert (steps > -1e-3).all() and lightness[-1] - lightness[0] > 0.6
    coarse = np.diff(lightness[::32])
    assert coarse.max() / coarse.min() < 2
    # Viénot, Brettel and Mollon (1999), deuteranopia: red and green become one mixture, which must still rise.
    blind = linear @ np.array([0.29275, 0.70725, 0.0])
    assert (np.diff(blind[::16]) > 0).all()


def test_overlay_is_bright_where_the_map_is() -> None:
    heat = np.zeros((4, 4))
    heat[0, 3] = 2.0
    shown = decode(pictures.overlay(np.full((64, 64, 1), 128, np.uint8), heat)).astype(float).sum(2)
    assert shown[4, 60] > shown[60, 4] + 150
    np.testing.assert_allclose(shown[40:, :20].std(), 0, atol=1e-9)


def test_evidence_is_the_positive_part() -> None:
    np.testing.assert_allclose(pictures.evidence(np.array([[-3.0, 1.0], [np.nan, 2.0]])), [[0, 0.5], [0, 1]])
    assert pictures.evidence(-np.ones((2, 2))).sum() == 0
    assert np.isnan(pictures.border_share(-np.ones((2, 2)))) and np.isnan(pictures.half_area(np.zeros((2, 2))))


def test_shares_of_even_and_of_central_maps() -> None:
    for size in (5, 7, 10, 14):
        assert pictures.border_share(np.ones((size, size))) == pytest.approx(0.36)
    middle = np.zeros((10, 10))
    middle[4, 4] = 1
    assert pictures.border_share(middle) == pytest.approx(0) and pictures.half_area(middle) == 0.01
    assert pictures.half_area(np.ones((10, 10))) == pytest.approx(0.5, abs=0.02)
    corner = np.zeros((10, 10))
    corner[0, 0] = 1
    assert pictures.border_share(corner) == pytest.approx(1)


def test_sixteen_bits_are_stretched_over_their_own_range() -> None:
    deep = np.array([[1000, 1255], [1000, 1510]], np.uint16)
    assert rgb(deep)[..., 0].tolist() == [[0, 127], [0, 255]]
    assert rgb(np.full((2, 2), 7, np.uint16)).max() == 0


def test_beside_is_a_file_with_the_picture_and_its_map() -> None:
    pixels = np.zeros((8, 8, 1), np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[3, 3] = 1
    with Image.open(io.BytesIO(beside(pixels, heat, side=64))) as file:
        picture = np.asarray(file.convert("RGB")).astype(int)
    assert picture.shape == (64, 128, 3) and picture[:, :64].max() == 0
    right = picture[:, 64:].sum(2)
    assert right[48:, 48:].mean() > right[:32, :32].mean()
