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
from modicum.report.pictures import rgb


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


def test_colours_rise_evenly_in_lightness() -> None:
    table = pictures.colours().astype(float) / 255
    linear = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    lightness = np.cbrt(linear @ [0.2126, 0.7152, 0.0722])
    steps = np.diff(lightness)
    assert (steps > -1e-3).all() and lightness[-1] - lightness[0] > 0.6
    coarse = np.diff(lightness[::32])
    assert coarse.max() / coarse.min() < 2


PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
EVERYONE = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("eyes", [EVERYONE, PROTANOPIA, DEUTERANOPIA], ids=["all", "protanopia", "deuteranopia"])
def test_colours_can_be_told_apart_by_all(eyes: list[list[float]]) -> None:
    """Machado, Oliveira and Fernandes (2009), table 1 at severity 1, on linear RGB; distances are CIE 1976 Delta E."""
    table = pictures.colours().astype(float) / 255
    linear = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(eyes).T, 0, 1)
    xyz = seen @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    t = xyz / [0.9505, 1.0, 1.089]
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
    assert (np.diff(lab[::8, 0]) > 0).all() and lab[-1, 0] - lab[0, 0] > 65, "lightness alone tells little from much"
    steps = np.linalg.norm(np.diff(lab[::16], axis=0), axis=1)
    assert steps.min() > 4, "sixteenths of the scale differ by more than can just be seen (2.3)"
    far = np.linalg.norm(lab[::32, None] - lab[None, ::32], axis=2)
    assert (far + 1e9 * np.eye(len(far))).min() > 8


def test_overlay_is_bright_where_the_map_is() -> None:
    heat = np.zeros((4, 4))
    heat[0, 3] = 2.0
    shown = decode(pictures.overlay(np.full((64, 64, 1), 128, np.uint8), heat)).astype(float).sum(2)
    assert shown[4, 60] > shown[60, 4] + 150
    np.testing.assert_allclose(shown[40:, :20].std(), 0, atol=1e-9)


def test_sixteen_bits_are_stretched_over_their_own_range() -> None:
    deep = np.array([[1000, 1255], [1000, 1510]], np.uint16)
    assert rgb(deep)[..., 0].tolist() == [[0, 127], [0, 255]]
    assert rgb(np.full((2, 2), 7, np.uint16)).max() == 0
