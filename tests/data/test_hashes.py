"""Sketches against plain loops, hashes against SciPy's cosine transform, the search against brute force."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from modicum.data import hashes
from modicum.data.hashes import BYTES, MOST, SIDE, SURE, Index, areas, colour, hashed, luma, mirrored, sketch, sketches


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """Two photographs cut into parts of 200 px: uint8 (12,200,200,3)."""
    return np.stack(
        [p[y : y + 200, x : x + 200] for p in load_sample_images().images for y in (0, 200) for x in (0, 200, 400)]
    )


def looped(image: np.ndarray) -> np.ndarray:
    """The mean of each of 32 x 32 parts, pixel by pixel, a pixel on a border counting with its share."""
    height, width = image.shape
    out = np.zeros((SIDE, SIDE))
    for i in range(SIDE):
        for j in range(SIDE):
            total = 0.0
            for y in range(height):
                down = min((i + 1) * height / SIDE, y + 1) - max(i * height / SIDE, y)
                for x in range(width) if down > 0 else ():
                    across = min((j + 1) * width / SIDE, x + 1) - max(j * width / SIDE, x)
                    total += image[y, x] * max(0.0, down) * max(0.0, across)
            out[i, j] = total * SIDE * SIDE / (height * width)
    return out


@pytest.mark.parametrize("shape", [(28, 28), (40, 33), (5, 70)])
def test_a_sketch_is_the_mean_of_each_part(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 1), np.uint8)
    assert abs(luma(sketch(image)[None])[0] - looped(image[..., 0])).max() <= 0.501
    np.testing.assert_array_equal(sketch(image), sketches(image[None])[0])
    assert (colour(sketch(image)[None]) == 0).all()


def test_colour_is_blue_and_red_less_grey() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32], image[:, 32:] = (200, 0, 0), (0, 0, 200)
    found = colour(sketch(image)[None])[0]
    assert found[1, :, 0].mean() > 90 and found[0, :, -1].mean() > 90 and found[0, :, 0].mean() < -20


def test_a_reduced_decode_gives_nearly_the_same_sketch(photographs: np.ndarray) -> None:
    whole = np.ascontiguousarray(load_sample_images().images[0])
    file = io.BytesIO()
    Image.fromarray(whole).save(file, "JPEG", quality=95)
    draft = Image.open(file)
    draft.draft("RGB", (160, 107))
    smaller = np.asarray(draft)
    assert smaller.shape[0] < 0.6 * whole.shape[0]
    apart = abs(sketch(whole).astype(int) - sketch(smaller).astype(int))
    assert apart.mean() < 2 and np.bitwise_count(hashed(sketch(whole)[None]) ^ hashed(sketch(smaller)[None]))[0] <= 2


def test_sixteen_bits_are_stretched_over_their_range() -> None:
    eight = np.random.default_rng(1).integers(0, 256, (50, 60, 1), np.uint8)
    dark = 1000 + 3 * eight.astype(np.uint16)
    assert np.corrcoef(luma(sketch(eight)[None]).ravel(), luma(sketch(dark)[None]).ravel())[0, 1] > 0.999
    assert luma(sketch(dark)[None]).max() == 255 and luma(sketch(dark)[None]).min() == 0
    assert (sketch(np.full((40, 40, 1), 700, np.uint16)) == sketch(np.full((40, 40, 1), 9, np.uint16))).all()


def test_no_pixels_no_sketch() -> None:
    assert sketch(np.zeros((0, 0, 3), np.uint8)).tolist() == [0] * BYTES


@given(st.integers(1, 90), st.floats(0, 0.45), st.floats(0.55, 1))
def test_shares_of_cells_sum_to_one(length: int, first: float, last: float) -> None:
    np.testing.assert_allclose(areas(length, first, last).sum(1), 1, rtol=1e-5)


def test_bits_are_signs_of_the_cosine_transform(photographs: np.ndarray) -> None:
    found = np.array([sketch(p) for p in photographs])
    whole = scipy.fft.dctn(luma(found), axes=(1, 2), norm="ortho")
    bits = np.unpackbits(hashed(found)[:, None].view(np.uint8), axis=1, bitorder="little").astype(bool)
    assert sorted(hashes._FREQUENCIES)[:8] == [(0, h) for h in range(1, 8)] + [(1, 0)]
    assert len(set(hashes._FREQUENCIES)) == 64
    for k, (v, h) in enumerate(hashes._FREQUENCIES):
        assert (bits[:, k] == (whole[:, v, h] > 0)).all()


def test_a_mirrored_hash_is_that_of_the_mirrored_image(photographs: np.ndarray) -> None:
    found = np.array([sketch(p) for p in photographs])
    turned = np.array([sketch(np.ascontiguousarray(p[:, ::-1])) for p in photographs])
    assert np.bitwise_count(mirrored(hashed(found)) ^ hashed(turned)).max() <= 2


def test_a_part_has_the_hash_of_the_cropped_image(photographs: np.ndarray) -> None:
    found = np.array([sketch(p) for p in photographs])
    cropped = np.array([sketch(np.ascontiguousarray(p[20:190, 10:180])) for p in photographs])
    apart = np.bitwise_count(hashed(found, (0.1, 0.95, 0.05, 0.9)) ^ hashed(cropped))
    assert apart.max() <= 6 and np.bitwise_count(hashed(found) ^ hashed(cropped)).mean() > 2 * apart.mean()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(0, 12))
def test_the_search_finds_what_brute_force_finds(seed: int, count: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(1 << 64, size=count, dtype=np.uint64)
    asked = table[rng.integers(count, size=40)].copy()
    for k in range(40):
        for bit in rng.permutation(64)[: rng.integers(12)]:
            asked[k] ^= np.uint64(1) << np.uint64(bit)
    place, row, distance = Index(table).near(asked, most)
    apart = np.bitwise_count(asked[:, None] ^ table)
    found = list(zip(place.tolist(), row.tolist()))
    assert len(found) == len(set(found)) and (apart[place, row] == distance).all()
    assert set(zip(*np.nonzero(apart <= min(most, SURE)))) <= set(found) <= set(zip(*np.nonzero(apart <= most)))
    assert found == sorted(found, key=lambda p: (p[0], apart[p], p[1]))


def test_thousands_alike_stay_cheap() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(1 << 64, size=(4, 6000), dtype=np.uint64)
    alike = np.uint64(0x123456789ABCDEF) ^ (noise[0] & noise[1] & noise[2] & noise[3])
    place = Index(alike).near(alike, 9)[0]
    count = np.bincount(place, minlength=6000)
    assert count.max() <= MOST and (count > 1).mean() > 0.9
