"""Regions against a flood fill and plain loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from modicum.core.errors import SettingsError
from modicum.functional import regions


def flood(inside: np.ndarray) -> list[list[tuple[int, int]]]:
    """8-connected sets of pixels, in reading order of their first pixel."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(inside))}
    out = []
    while left:
        todo, mine = [min(left)], []
        left.discard(todo[0])
        while todo:
            y, x = todo.pop()
            mine.append((y, x))
            for near in [(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]:
                if near in left:
                    left.discard(near)
                    todo.append(near)
        out.append(sorted(mine))
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 9),
    st.integers(2, 9),
    st.sampled_from([0.0, 0.3, 0.5, 0.7]),
    st.booleans(),
)
def test_boxes_are_those_of_a_flood_fill(seed: int, height: int, width: int, tau: float, every: bool) -> None:
    maps = torch.from_numpy(np.random.default_rng(seed).integers(-3, 4, (2, 2, height, width))).float()
    found = regions.boxes(maps, (height, width), tau, every=every)
    expected = []
    for i in range(2):
        for t in range(2):
            heat = maps[i, t].numpy().astype(np.float64)
            spread = heat.max() - heat.min()
            heat = (heat - heat.min()) / spread if spread else 0 * heat
            sets = flood(heat > np.float32(tau))
            for mine in sets if every else sorted(sets, key=lambda s: -len(s))[:1]:
                y, x = np.array(mine).T
                box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
                expected.append((*box, i, t, heat[box[1] : box[3], box[0] : box[2]].mean()))
    rows = np.column_stack([found.xyxy, found.image, found.target, found.confidence]).reshape(-1, 7)
    assert rows == pytest.approx(np.array(expected).reshape(-1, 7), abs=1e-6)


def test_touching_corners_are_one_and_a_pixel_has_a_width() -> None:
    maps = torch.zeros(1, 1, 5, 8)
    maps[0, 0, 1, 1] = maps[0, 0, 2, 2] = 1
    maps[0, 0, 4, 6] = 1
    found = regions.boxes(maps, (5, 8), 0.5)
    assert found.xyxy.tolist() == [[1, 1, 3, 3], [6, 4, 7, 5]]
    assert found.confidence.tolist() == [0.5, 1]
    assert regions.boxes(maps, (5, 8), 0.5, least=2).xyxy.tolist() == [[1, 1, 3, 3]]
    assert not len(regions.boxes(maps, (5, 8), 0.5, every=False, least=3).xyxy)


@pytest.mark.parametrize("value", [0.0, 0.7, float("nan"), float("inf")])
def test_a_map_that_says_nothing_has_no_box_and_no_pixel(value: float) -> None:
    maps = torch.full((1, 2, 4, 4), value)
    assert not len(regions.boxes(maps, (16, 16), 0.0).xyxy)
    found = regions.masks(maps, torch.ones(1, 2, dtype=torch.bool), (16, 16), tau=0.0)
    assert not found.labels.any() and not found.confidence.any()


def test_maps_are_brought_to_size_before_they_are_cut() -> None:
    maps = torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(1))
    heat = F.interpolate(maps, (28, 33), mode="bilinear", align_corners=False)
    low, high = heat.amin((2, 3), keepdim=True), heat.amax((2, 3), keepdim=True)
    assert torch.allclose(regions.at_size(maps, (28, 33)), (heat - low) / (high - low), atol=1e-5)
    coarse, fine = torch.zeros(1, 1, 4, 4), (32, 32)
    coarse[0, 0, 1, 1] = 1
    (box,) = regions.boxes(coarse, fine, 0.5).xyxy.tolist()
    assert box == [8, 8, 16, 16], "half of the height of a tent over one cell: the cell"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0.5, 1.0, 4.0]))
def test_masks_are_the_highest_present_class_or_background(seed: int, alpha: float | None) -> None:
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.random((2, 3, 4, 5)))
    present = torch.from_numpy(rng.random((2, 3)) < 0.6)
    found = regions.masks(maps, present, (4, 5), tau=0.4, alpha=alpha)
    heat = np.stack([[(m - m.min()) / (m.max() - m.min()) for m in each] for each in maps.numpy()])
    for i in range(2):
        given_to: dict[int, list[float]] = {}
        for y, x in np.ndindex(4, 5):
            shown = [heat[i, t, y, x] if present[i, t] else 0.0 for t in range(3)]
            ground = 0.4 if alpha is None else (1 - max(shown)) ** alpha
            best = max(range(3), key=lambda t: shown[t])
            want = best + 1 if present[i, best] and shown[best] > ground else 0
            assert found.labels[i, y, x] == want
            given_to.setdefault(want, []).append(shown[best])
        for t in range(3):
            assert found.confidence[i, t] == pytest.approx(np.mean(given_to.get(t + 1, [0.0])), abs=1e-6)


def test_more_alpha_means_less_background() -> None:
    maps, present = (
        torch.rand(1, 2, 9, 9, generator=torch.Generator().manual_seed(0)),
        torch.ones(1, 2, dtype=torch.bool),
    )
    ground = [int((regions.masks(maps, present, (9, 9), alpha=a).labels == 0).sum()) for a in (0.25, 1, 4, 16)]
    assert ground == sorted(ground, reverse=True) and ground[0] > ground[-1]


def test_settings_outside_their_range_are_refused() -> None:
    maps, present = torch.rand(1, 1, 4, 4), torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(SettingsError, match="tau 1"):
        regions.boxes(maps, (4, 4), 1.0)
    with pytest.raises(SettingsError, match="alpha 0"):
        regions.masks(maps, present, (4, 4), alpha=0)
    with pytest.raises(SettingsError, match="shape"):
        regions.boxes(maps[0], (8, 8))
