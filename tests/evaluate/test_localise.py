"""Localisation grades against loops over thresholds and pixels, scikit-learn, and functional/regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score

from modicum.core.errors import DataError
from modicum.evaluate import localise
from modicum.functional import regions


def blobs(n: int, side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps (n,side,side) with a Gaussian in a box each, boxes (n,4), and image (n,)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] + 0.5
    size = rng.integers(side // 6, side // 2, (n, 2))
    corner = (rng.random((n, 2)) * (side - size)).round()
    boxes = np.concatenate([corner, corner + size], 1)
    cx, cy = ((boxes[:, k] + boxes[:, k + 2])[:, None, None] / 2 for k in (0, 1))
    w, h = (size[:, k, None, None] / 3 for k in (0, 1))
    maps = np.exp(-(((x - cx) / w) ** 2 + ((y - cy) / h) ** 2) / 2) + 0.15 * ndimage.gaussian_filter(
        rng.normal(0, 3, (n, side, side)), (0, 2, 2)
    )
    return maps, boxes, np.arange(n)


def one_iou(a: np.ndarray, b: np.ndarray, extra: float = 0.0) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + extra
    height = min(a[3], b[3]) - max(a[1], b[1]) + extra
    both = max(width, 0) * max(height, 0)
    areas = [(q[2] - q[0] + extra) * (q[3] - q[1] + extra) for q in (a, b)]
    return both / (sum(areas) - both) if sum(areas) > both else 0.0


BOXES = st.lists(st.tuples(*[st.integers(0, 9)] * 4), min_size=1, max_size=5).map(
    lambda rows: np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in rows], float)
)


@settings(max_examples=80, deadline=None)
@given(BOXES, BOXES, st.sampled_from([0.0, 1.0]))
def test_iou_is_the_loop_and_counts_pixels(a: np.ndarray, b: np.ndarray, extra: float) -> None:
    found = localise.iou(a, b, extra)
    for i, j in np.ndindex(found.shape):
        assert found[i, j] == pytest.approx(one_iou(a[i], b[j], extra))
        cells = [{(x, y) for x in range(int(q[0]), int(q[2] + extra)) for y in range(int(q[1]), int(q[3] + extra))}
                 for q in (a[i], b[j])]  # fmt: skip
        union = cells[0] | cells[1]
        assert found[i, j] == pytest.approx(len(cells[0] & cells[1]) / len(union) if union else 0)


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("extra", [0.0, 1.0])
def test_overlaps_are_those_of_a_loop_over_thresholds(every: bool, extra: float) -> None:
    maps, boxes, image = blobs(6, 24)
    boxes, image = np.concatenate([boxes, boxes[::2] / 2]), np.concatenate([image, image[::2]])
    taus = np.arange(0, 1, 0.03)
    found = localise.box_overlaps(maps, boxes, image, taus, every=every, extra=extra)
    for i, t in np.ndindex(found.shape):
        grey = np.floor((maps[i] - maps[i].min()) / (maps[i].max() - maps[i].min()) * 255 + 1e-9)
        numbers, count = ndimage.label(grey > np.floor(taus[t] * 255 + 1e-9), np.ones((3, 3)))
        sets = [np.argwhere(numbers == k) for k in range(1, count + 1)]
        sets = sets if every else sorted(sets, key=lambda s: -len(s))[:1]
        cut = [(*s.min(0)[::-1], *(s.max(0)[::-1] + 1)) for s in sets]
        best = max(one_iou(np.array(c, float), b, extra) for c in cut for b in boxes[image == i])
        assert found[i, t] == pytest.approx(best)


def test_a_perfect_map_has_overlap_1_at_every_tau_and_a_constant_one_0() -> None:
    maps = np.zeros((2, 20, 20), np.float32)
    maps[0, 3:9, 4:15] = 1
    maps[1] = 0.3
    found = localise.box_overlaps(maps, np.array([[4, 3, 15, 9], [0, 0, 20, 20]]), np.array([0, 1]))
    assert (found[0] == 1).all() and not found[1].any()


def test_max_box_acc_takes_each_deltas_own_peak_and_tau_from_the_held_out() -> None:
    taus = np.array([0.1, 0.2, 0.3])
    overlaps = np.array([[0.9, 0.4, 0.1], [0.1, 0.6, 0.4], [0.2, 0.6, 0.1], [0.1, 0.2, 0.8]])
    found = localise.max_box_acc(overlaps, taus, (0.3, 0.5))
    assert [s.best for s in found.sweeps] == [0.75, 0.5] and found.best == 0.625 and np.isnan(found.chosen)
    assert [s.tau_best for s in found.sweeps] == [0.2, 0.2]
    held = np.array([False, False, False, True])
    found = localise.max_box_acc(overlaps, taus, (0.3, 0.5), held)
    assert found.best == pytest.approx((1 + 2 / 3) / 2)
    assert [s.tau_chosen for s in found.sweeps] == [0.3, 0.3] and found.chosen == pytest.approx((1 / 3 + 0) / 2)
    assert localise.localised(overlaps[:, 1]) == 0.5
    assert localise.localised(overlaps[:, 1], np.array([1, 0, 1, 1])) == 0.25, "top-1: the class must be right too"
    with pytest.raises(DataError, match="0 of 4 images"):
        localise.max_box_acc(overlaps, taus, held=np.ones(4, bool))


def test_maps_of_objects_beat_maps_of_chance() -> None:
    maps, boxes, image = blobs(40, 32)
    noise = np.random.default_rng(5).random(maps.shape)
    good, chance = (localise.max_box_acc(localise.box_overlaps(m, boxes, image)).best for m in (maps, noise))
    assert good > 0.8 > 0.5 > chance


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pxap_is_scikit_learns_average_precision_of_the_binned_maps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = [rng.random((5, 7)).round(2), rng.random((6, 4))]
    masks = [rng.choice([0, 1, 255], m.shape, p=[0.6, 0.3, 0.1]) for m in maps]
    truth = np.concatenate([m.ravel() for m in masks])
    steps = [np.minimum((localise.scaled(m) * 1000).astype(int), 999).ravel() for m in maps]
    if not (truth == 1).any():
        assert np.isnan(localise.pxap(maps, masks))
        return
    known = truth != 255
    want = average_precision_score(truth[known], np.concatenate(steps)[known])
    assert localise.pxap(maps, masks) == pytest.approx(want)


def test_pxap_ends() -> None:
    mask = np.array([[0, 0, 1, 1]])
    assert localise.pxap([mask.astype(float)], [mask]) == 1
    assert localise.pxap([np.zeros((1, 4))], [mask]) == 0.5, "a constant map: the share of object pixels"
    ignored = np.array([[255, 255, 1, 1]])
    assert localise.pxap([1.0 - mask], [ignored]) == 1, "only object pixels are looked at"


def test_seeds_are_the_loop_over_thresholds_and_pixels() -> None:
    rng = np.random.default_rng(3)
    maps = [rng.random((3, 6, 7)), rng.random((3, 5, 5)), rng.random((3, 8, 4)), rng.random((3, 6, 6))]
    masks = [rng.choice([0, 1, 2, 3, 255], m.shape[1:]) for m in maps]
    present = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]], bool)
    held = np.array([False, True, False, False])
    taus = np.arange(0, 1, 0.05)

    def miou(part: list[int], tau: float) -> tuple[float, list[float], float, float]:
        true, named = [], []
        for i in part:
            found = regions.masks(torch.from_numpy(maps[i][None]), torch.from_numpy(present[i : i + 1]),
                                  masks[i].shape, tau=tau).labels[0].numpy()  # fmt: skip
            known = masks[i] != 255
            true, named = [*true, *masks[i][known]], [*named, *found[known]]
        t, p = np.array(true), np.array(named)
        each = [((t == c) & (p == c)).sum() / ((t == c) | (p == c)).sum() for c in range(4) if (t == c).any()]
        right = ((t == p) & (t > 0)).sum()
        return float(np.mean(each)), each, right / max((p > 0).sum(), 1), right / (t > 0).sum()

    found = localise.seeds(maps, masks, present, taus, held)
    rest = [miou([0, 2, 3], t)[0] for t in taus]
    assert found.miou.curve == pytest.approx(rest)
    assert found.miou.best == pytest.approx(max(rest)) and found.miou.tau_best == taus[int(np.argmax(rest))]
    at = int(np.argmax([miou([1], t)[0] for t in taus]))
    assert found.miou.tau_chosen == taus[at] and found.miou.chosen == pytest.approx(rest[at])
    _, each, precision, recall = miou([0, 2, 3], taus[at])
    assert found.iou == pytest.approx(each) and (found.precision, found.recall) == pytest.approx((precision, recall))
    alone = localise.seeds(maps, masks, present, taus)
    assert alone.miou.best == pytest.approx(max(miou([0, 1, 2, 3], t)[0] for t in taus)) and np.isnan(alone.miou.chosen)


def test_a_pixel_as_high_as_tau_is_background_and_a_class_in_no_mask_does_not_count() -> None:
    heat = np.array([[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]]])
    named = localise.confusions(heat, np.array([[0, 1, 1]]), np.array([True, True]), np.array([0.0, 0.5, 0.9]))
    assert named[:, 1, 1].tolist() == [2, 1, 1] and named[:, 1, 0].tolist() == [0, 1, 1]
    wrong = np.array([[[0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]])
    found = localise.seeds([wrong], [np.array([[0, 1, 0]])], np.array([[True, True]]), np.array([0.5]))
    assert found.iou[:2].tolist() == [1 / 3, 0] and np.isnan(found.iou[2]) and found.miou.best == pytest.approx(1 / 6)


def test_seeds_equal_to_the_masks_are_perfect() -> None:
    mask = np.zeros((6, 6), int)
    mask[:3, :3], mask[4:, 4:] = 1, 2
    heat = np.stack([mask == 1, mask == 2]).astype(float)
    found = localise.seeds([heat], [mask], np.array([[True, True]]))
    assert (found.miou.best, found.precision, found.recall) == (1, 1, 1) and (found.iou == 1).all()


def test_pointing_hits_within_15_pixels_and_shares_ties() -> None:
    maps = np.zeros((4, 60, 60))
    maps[0, 10, 40] = 1  # its centre is at (40.5, 10.5)
    maps[1, 30, 30] = 1
    maps[2] = 0.2
    maps[3, 5, 5] = maps[3, 50, 50] = 1
    boxes = np.array([[0, 0, 25.5, 60], [0, 0, 10, 10], [0, 0, 30, 60], [4, 4, 8, 8]])
    assert localise.pointing(maps, boxes, np.arange(4)).tolist() == [1, 0, 45 / 60, 0.5]
    assert localise.pointing(maps, boxes, np.arange(4), near=0).tolist() == [0, 0, 0.5, 0.5]
    assert localise.over_classes(np.array([1, 0, 0, 0]), np.array([1, 0, 0, 0])) == 0.5


def test_energy_is_the_share_of_mass_in_the_union_of_boxes() -> None:
    maps = np.zeros((3, 4, 4))
    maps[0, 0, 0], maps[0, 3, 3], maps[0, 1, 1] = 3, 1, -5
    maps[1, 2, 2] = 1
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 2, 4]])
    found = localise.energy(maps, boxes, np.array([0, 1, 1, 1, 2]))
    assert found.tolist() == [0.75, 1, 0.5], "overlapping boxes count once; an empty map is spread evenly"


def test_errors_name_the_image() -> None:
    maps = np.zeros((2, 4, 4))
    with pytest.raises(DataError, match="image 1"):
        localise.box_overlaps(maps, np.array([[0, 0, 1, 1]]), np.array([0]))
    maps[1, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"image 1.*not finite"):
        localise.pxap(maps, np.zeros((2, 4, 4)))
    with pytest.raises(DataError, match="2 maps, 1 masks"):
        localise.pxap(maps, np.zeros((1, 4, 4)))
    with pytest.raises(DataError, match="class 4 of 2"):
        localise.seeds([np.random.default_rng(0).random((2, 2, 2))], [np.full((2, 2), 5)], np.ones((1, 2), bool))
