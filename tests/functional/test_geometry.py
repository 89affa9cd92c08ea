"""Geometry against plain loops, one point and one pixel at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from modicum.functional import geometry as geo

NUMBERS = st.floats(-20, 20, allow_nan=False, width=32)
SIDES = st.floats(0, 9)


@st.composite
def affines(draw: st.DrawFn, n: int = 2) -> Tensor:
    """Well-conditioned affines: rotation, zoom, shear, mirror, shift."""
    out = []
    for _ in range(n):
        angle, zoom, ratio = draw(st.floats(-math.pi, math.pi)), draw(st.floats(0.3, 3)), draw(st.floats(0.5, 2))
        shear, mirror = draw(st.floats(-1, 1)), draw(st.sampled_from([1.0, -1.0]))
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = turn @ torch.tensor([[zoom * mirror, shear], [0.0, zoom * ratio]])
        out.append(torch.cat([linear, torch.tensor([[draw(NUMBERS)], [draw(NUMBERS)]])], 1))
    return torch.stack(out).double()


def moved(affine: Tensor, x: float, y: float) -> tuple[float, float]:
    (a, b, c), (d, e, f) = affine.tolist()
    return a * x + b * y + c, d * x + e * y + f


@settings(max_examples=50, deadline=None)
@given(affines(), affines(), NUMBERS, NUMBERS)
def test_compose_is_one_after_the_other_and_invert_goes_back(outer: Tensor, inner: Tensor, x: float, y: float) -> None:
    both = geo.compose(outer, inner)
    for i in range(2):
        assert moved(both[i], x, y) == pytest.approx(moved(outer[i], *moved(inner[i], x, y)), abs=1e-9)
    assert torch.allclose(geo.compose(geo.invert(both), both), geo.identity(2, both), atol=1e-9)
    assert torch.allclose(geo.compose(both, geo.invert(both)), geo.identity(2, both), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(affines(3), st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(0, 2)), max_size=6))
def test_points_round_trip_between_view_and_image(affine: Tensor, given_points: list[tuple[float, float, int]]) -> None:
    points = torch.tensor([p[:2] for p in given_points], dtype=torch.float64).reshape(-1, 2)
    image = torch.tensor([p[2] for p in given_points], dtype=torch.int64)
    inside = geo.warp_points(points, image, affine)
    for i, at in enumerate(image.tolist()):
        assert moved(affine[at], *inside[i].tolist()) == pytest.approx(points[i].tolist(), abs=1e-8)
    assert torch.allclose(geo.move_points(inside, image, affine), points, atol=1e-8)


@settings(max_examples=50, deadline=None)
@given(affines(), st.lists(st.tuples(NUMBERS, NUMBERS, SIDES, SIDES, st.integers(0, 1)), max_size=5))
def test_boxes_against_a_loop_over_corners(affine: Tensor, said: list[tuple[float, float, float, float, int]]) -> None:
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h, _ in said], dtype=torch.float64).reshape(-1, 4)
    image = torch.tensor([b[4] for b in said], dtype=torch.int64)
    height, width = 7, 11
    warped, kept = geo.warp_boxes(boxes, image, affine, (height, width))
    assert warped.shape == boxes.shape and kept.shape == image.shape
    back = geo.invert(affine)
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        corners = [moved(back[image[i]], x, y) for x in (x0, x1) for y in (y0, y1)]
        left, right = min(x for x, _ in corners), max(x for x, _ in corners)
        top, bottom = min(y for _, y in corners), max(y for _, y in corners)
        clipped = [min(max(v, 0), e) for v, e in ((left, width), (top, height), (right, width), (bottom, height))]
        assert warped[i].tolist() == pytest.approx(clipped, abs=1e-8)
        area = (right - left) * (bottom - top)
        if area > 1e-6:
            wanted = (clipped[2] - clipped[0]) * (clipped[3] - clipped[1]) / area
            assert kept[i].item() == pytest.approx(wanted, abs=1e-6)
        assert 0 <= kept[i].item() <= 1 + 1e-12


def test_a_mirrored_box_is_where_one_sees_it() -> None:
    mirror = torch.tensor([[[-1.0, 0.0, 10.0], [0.0, 1.0, 0.0]]])
    box, kept = geo.warp_boxes(torch.tensor([[0.0, 1.0, 3.0, 4.0]]), torch.tensor([0]), mirror, (10, 10))
    assert box.tolist() == [[7.0, 1.0, 10.0, 4.0]] and kept.tolist() == [1.0]
    outside = geo.warp_boxes(torch.tensor([[11.0, 1.0, 13.0, 4.0]]), torch.tensor([0]), mirror, (10, 10))
    without_area = geo.warp_boxes(torch.zeros(1, 4), torch.tensor([0]), mirror, (10, 10))
    assert outside[1].tolist() == without_area[1].tolist() == [0.0]


def bilinear(picture: Tensor, x: float, y: float) -> float:
    """Value at an edge coordinate, constant beyond the outermost centres."""
    height, width = picture.shape
    x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
    i, j = min(int(y), height - 2), min(int(x), width - 2)
    v, u = y - i, x - j
    p = picture.tolist()
    return (1 - v) * ((1 - u) * p[i][j] + u * p[i][j + 1]) + v * ((1 - u) * p[i + 1][j] + u * p[i + 1][j + 1])


@settings(max_examples=20, deadline=None)
@given(affines(), st.integers(0, 999))
def test_maps_against_a_loop_over_pixels(affine: Tensor, seed: int) -> None:
    maps = torch.rand(2, 1, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    out = geo.warp_maps(maps, affine, (4, 5), fill=-1.0)
    for b in range(2):
        for i in range(4):
            for j in range(5):
                x, y = moved(affine[b], j + 0.5, i + 0.5)
                if min(abs(x), abs(y), abs(x - 9), abs(y - 6)) < 1e-6:
                    continue
                inside = 0 < x < 9 and 0 < y < 6
                wanted = bilinear(maps[b, 0], x, y) if inside else -1.0
                assert out[b, 0, i, j].item() == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(affines(), st.integers(1, 6), st.integers(1, 6))
def test_grid_is_the_affine_in_torchs_coordinates(affine: Tensor, rows: int, columns: int) -> None:
    points = geo.grid(affine, (rows, columns), (8, 12))
    assert points.shape == (2, rows, columns, 2)
    for i in range(rows):
        for j in range(columns):
            x, y = moved(affine[1], j + 0.5, i + 0.5)
            assert points[1, i, j].tolist() == pytest.approx([2 * x / 12 - 1, 2 * y / 8 - 1], abs=1e-9)


def test_identity_and_mirror_are_exact_and_crops_are_slices() -> None:
    maps = torch.rand(2, 3, 5, 7)
    assert torch.allclose(geo.warp_maps(maps, geo.identity(2), (5, 7)), maps, atol=1e-6)
    mirror = torch.tensor([[-1.0, 0.0, 7.0], [0.0, 1.0, 0.0]]).expand(2, 2, 3)
    assert torch.allclose(geo.warp_maps(maps, mirror, (5, 7)), maps.flip(-1), atol=1e-6)
    crop = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]).expand(2, 2, 3)
    assert torch.allclose(geo.warp_maps(maps, crop, (3, 4)), maps[:, :, 1:4, 2:6], atol=1e-6)


def test_masks_keep_their_class_numbers_and_coarse_maps_their_place() -> None:
    masks = torch.randint(0, 4, (1, 1, 6, 6), dtype=torch.uint8)
    shift = torch.tensor([[[1.0, 0.0, 3.0], [0.0, 1.0, 0.0]]])
    out = geo.warp_maps(masks, shift, (6, 6), mode="nearest", fill=255)
    assert out.dtype == torch.uint8 and torch.equal(out[..., :3], masks[..., 3:]) and (out[..., 3:] == 255).all()
    coarse = torch.rand(1, 1, 4, 4)
    whole = geo.warp_maps(coarse, geo.identity(1), (8, 8), image_hw=(8, 8))
    assert torch.allclose(whole, F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False), atol=1e-6)


def test_maps_of_images_of_unlike_sizes_against_a_loop() -> None:
    """Class numbers squeezed to a square go to views of images that are 10 x 20 and 30 x 6 pixels large."""
    masks = torch.randint(0, 4, (2, 1, 8, 8), dtype=torch.uint8)
    sizes = torch.tensor([[10, 20], [30, 6]])
    affine = torch.tensor([[[2.1, 0.3, 1.0], [-0.2, 1.3, 2.0]], [[0.9, 0.0, -1.0], [0.4, 3.1, 0.0]]])
    out = geo.warp_maps(masks, affine, (9, 7), sizes, mode="nearest", fill=255)
    seen = 0
    for b, (height, width) in enumerate(sizes.tolist()):
        for i in range(9):
            for j in range(7):
                x, y = moved(affine[b], j + 0.5, i + 0.5)
                if min(abs(x), abs(y), abs(x - width), abs(y - height)) < 1e-4:
                    continue
                u, v = x / width * 8, y / height * 8
                if min(u % 1, v % 1, 1 - u % 1, 1 - v % 1) < 1e-4:
                    continue
                inside = 0 < x < width and 0 < y < height
                assert out[b, 0, i, j] == (masks[b, 0, int(v), int(u)] if inside else 255)
                seen += inside
    assert seen > 30
    alone = torch.cat([geo.warp_maps(masks[b : b + 1], affine[b : b + 1], (9, 7), tuple(s), mode="nearest", fill=255)
                       for b, s in enumerate(sizes.tolist())])  # fmt: skip
    assert torch.equal(out, alone)
