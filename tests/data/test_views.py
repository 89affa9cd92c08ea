"""Views: a pixel lands where its affine says, two ways agree, and every image has its own draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modicum.core import draws
from modicum.core.recipe import PLAIN, STRONG, Augment
from modicum.data.images import square
from modicum.data.views import DRAWS, make_view, place, recolour, way
from modicum.functional import geometry

MOVES = Augment(rotate=25, shift=0.15, zoom=0.3, shear=10, flip=True)
CPU = torch.device("cpu")


def luck(n: int, seed: int = 0) -> torch.Tensor:
    return draws.uniform(seed, torch.arange(n), 0, DRAWS)


def smooth(n: int, height: int, width: int, channels: int = 3, deep: bool = False) -> np.ndarray:
    """Waves that bilinear sampling follows closely."""
    y, x, c = np.mgrid[:height, :width, :channels].astype(np.float64)
    down = np.cos(2 * math.pi * y / height)
    waves = [0.5 + 0.4 * np.sin(2 * math.pi * (x / width + i / 7) + c) * down for i in range(n)]
    return np.rint(np.stack(waves) * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)


def whole(pixels: np.ndarray) -> np.ndarray:
    return np.tile(pixels.shape[1:3], (len(pixels), 1))


@pytest.mark.parametrize("shape", [(16, 16), (20, 12), (9, 31)])
def test_the_plain_view_is_prediction_s_square_pixel_for_pixel(shape: tuple[int, int]) -> None:
    pixels = smooth(3, *shape)
    view = make_view(pixels, whole(pixels), PLAIN, luck(3), 16, CPU)
    wanted = np.stack([square(p, 16, 3) for p in pixels]).transpose(0, 3, 1, 2) / 255
    np.testing.assert_array_equal(view.pixels.numpy(), wanted.astype(np.float32))


def test_without_movement_sampling_gives_the_image_back() -> None:
    """Through the sampler, not past it: an augmentation that only recolours, by nothing at its middle draw."""
    pixels = smooth(2, 16, 16)
    middle = torch.full((2, DRAWS), 0.5)
    for how in ("batch", "images"):
        view = make_view(pixels, whole(pixels), Augment(brightness=0.5), middle, 16, CPU, how)
        np.testing.assert_allclose(view.pixels.numpy(), pixels.transpose(0, 3, 1, 2) / 255, atol=1e-6)
        assert torch.allclose(view.affine, geometry.identity(2), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(24, 24), (40, 24), (24, 33)]), st.sampled_from(["batch", "images"]))
def test_a_marked_spot_lands_where_the_affine_says(seed: int, shape: tuple[int, int], how: str) -> None:
    height, width = shape
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0.35, 0.65) * width, rng.uniform(0.35, 0.65) * height
    v, u = np.mgrid[:height, :width] + 0.5
    spot = np.exp(-((u - x) ** 2 + (v - y) ** 2) / 8)
    pixels = np.rint(255 * spot)[None, :, :, None].astype(np.uint8)
    view = make_view(pixels, whole(pixels), MOVES.but(shift=0.05), luck(1, seed), 24, CPU, how)
    weight = view.pixels[0, 0].double()
    at = torch.arange(24) + 0.5
    found = torch.stack([(weight * at).sum(), (weight * at[:, None]).sum()]) / weight.sum()
    wanted = geometry.warp_points(torch.tensor([[x, y]]).float(), torch.tensor([0]), view.affine)[0]
    assert (found - wanted).abs().max() < 0.35


def test_boxes_follow_a_bright_block() -> None:
    pixels = np.zeros((16, 32, 32, 1), np.uint8)
    box = torch.tensor([[10.0, 12.0, 20.0, 18.0]])
    pixels[:, 12:18, 10:20] = 255
    view = make_view(pixels, whole(pixels), Augment(shift=0.1, zoom=0.2, flip=True), luck(16), 32, CPU)
    moved, kept = geometry.warp_boxes(box.expand(16, 4), torch.arange(16), view.affine, (32, 32))
    assert (kept > 0.99).all() and len({tuple(m.tolist()) for m in moved}) == 16
    for image, (x0, y0, x1, y1) in zip(view.pixels[:, 0], moved.tolist(), strict=True):
        rows, columns = (image > 0.5).any(1).nonzero()[:, 0], (image > 0.5).any(0).nonzero()[:, 0]
        seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert all(abs(float(a) - b) <= 1.0 for a, b in zip(seen, (x0, y0, x1, y1), strict=True))


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (48, 32, 1)])
def test_both_ways_give_the_same_picture(height: int, width: int, channels: int) -> None:
    pixels = smooth(6, height, width, channels)
    a, b = (make_view(pixels, whole(pixels), MOVES, luck(6), 32, CPU, how) for how in ("batch", "images"))
    assert torch.equal(a.affine, b.affine)
    apart = (a.pixels - b.pixels).abs()
    assert apart.mean() < 0.01 and (apart > 0.05).float().mean() < 0.04, "they differ on the rim alone"
    assert (a.pixels == 0).all(1).any(), "and some of the view lies outside"


def test_sixteen_bits_are_not_brought_down_to_eight() -> None:
    deep = np.linspace(30_000, 30_200, 256).reshape(1, 16, 16, 1).astype(np.uint16)
    for augment in (PLAIN, Augment(shift=0.01)):
        view = make_view(deep, whole(deep), augment, torch.full((1, DRAWS), 0.5), 16, CPU)
        np.testing.assert_allclose(view.pixels[0, 0].numpy(), deep[0, :, :, 0] / 65535, atol=1e-6)
        assert len(view.pixels.unique()) > 100
    waves = make_view(smooth(2, 24, 24), whole(smooth(2, 24, 24)), MOVES, luck(2), 24, CPU, "batch")
    same = make_view(smooth(2, 24, 24, deep=True), whole(smooth(2, 24, 24)), MOVES, luck(2), 24, CPU, "images")
    assert (waves.pixels - same.pixels).abs().max() < 0.01


@pytest.mark.parametrize("how", ["batch", "images"])
def test_a_smaller_image_of_a_batch_is_seen_as_if_alone(how: str) -> None:
    small, large = smooth(1, 12, 20), smooth(1, 32, 32)
    both = np.zeros((2, 32, 32, 3), np.uint8)
    both[0, :12, :20], both[1] = small[0], large[0]
    sizes = np.array([[12, 20], [32, 32]])
    for augment in (PLAIN, MOVES, Augment(shift=0.3)):
        together = make_view(both, sizes, augment, luck(2), 16, CPU, how)
        alone = make_view(small, sizes[:1], augment, luck(2)[:1], 16, CPU, how)
        assert torch.allclose(together.pixels[:1], alone.pixels, atol=1e-5)
        assert together.size.tolist() == sizes.tolist() and torch.equal(together.affine[:1], alone.affine)


def test_draws_do_not_depend_on_how_a_batch_is_split() -> None:
    pixels = smooth(7, 16, 16)
    every = make_view(pixels, whole(pixels), STRONG, luck(7), 16, CPU)
    parts = [make_view(pixels[s], whole(pixels[s]), STRONG, luck(7)[s], 16, CPU) for s in (slice(0, 3), slice(3, 7))]
    assert torch.allclose(torch.cat([p.pixels for p in parts]), every.pixels, atol=1e-6)
    assert torch.equal(torch.cat([p.affine for p in parts]), every.affine)


def test_the_affine_is_the_formula_of_its_docstring() -> None:
    d = luck(5, 3)
    found = place(torch.tensor([[20, 30]] * 5), 16, MOVES, d).double()
    for i in range(5):
        s = (2 * d[i].double() - 1).tolist()
        angle, shear = math.radians(25 * s[0]), math.tan(math.radians(10 * s[1]))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        mirror = np.diag([-1.0 if d[i, 3] < 0.5 else 1.0, 1.0])
        linear = turn @ np.array([[1, shear], [0, 1]]) * math.exp(s[2] * math.log1p(0.3)) @ mirror
        scale = np.array([30.0, 20.0])
        for view in ((0.0, 0.0), (16.0, 0.0), (3.5, 11.0)):
            inner = linear @ ((np.array(view) - 8) / 16) + np.array(s[4:6]) * 0.15
            wanted = scale / 2 + scale * inner
            got = found[i, :, :2] @ torch.tensor(view).double() + found[i, :, 2]
            np.testing.assert_allclose(got.numpy(), wanted, atol=1e-4)


def test_colours_stay_within_bounds_and_cutout_is_the_mean() -> None:
    x = torch.rand(8, 3, 16, 16)
    assert recolour(x, PLAIN, luck(8)).equal(x)
    bright = recolour(x, Augment(brightness=1, contrast=1, saturation=1), luck(8))
    assert bright.min() >= 0 and bright.max() <= 1 and not torch.allclose(bright, x)
    cut = recolour(x, Augment(cutout=0.5), luck(8))
    for before, after in zip(x, cut, strict=True):
        changed = (before != after).any(0)
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert changed.sum() == height * width and 3 <= height <= 9 and 3 <= width <= 9
        mean = before.mean((1, 2))[:, None]
        assert torch.allclose(after[:, changed], mean.expand(-1, int(changed.sum())), atol=1e-6)


def test_the_rule_for_the_way() -> None:
    assert (way(96), way(97)) == ("batch", "images")
