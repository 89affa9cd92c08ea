"""Regions and boxes against plain loops written from the papers, and pictures whose objects are known."""

from __future__ import annotations

import itertools
import sys
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from modicum.core.errors import MachineError, SettingsError
from modicum.evaluate.localise import iou
from modicum.functional import proposals as pr


def picture(height: int = 14, width: int = 17, seed: int = 0) -> np.ndarray:
    """Noise on two squares and a ground."""
    luck = np.random.default_rng(seed)
    out = np.full((height, width, 3), 60.0)
    out[2:8, 3:9], out[7:12, 10:15] = (200, 90, 60), (60, 90, 210)
    return (out + luck.normal(0, 8, out.shape)).clip(0, 255).astype(np.uint8)


def plain_segments(pixels: np.ndarray, scale: float, sigma: float, least: int) -> np.ndarray:
    """The paper's algorithm with sets of pixels instead of trees."""
    h, w, _ = pixels.shape
    soft = gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0))
    cells = list(itertools.product(range(h), range(w)))
    edges = [((y, x), (y + 1, x)) for y, x in cells if y + 1 < h] + [
        ((y, x), (y, x + 1)) for y, x in cells if x + 1 < w
    ]
    weights = [float(np.linalg.norm(soft[a] - soft[b])) for a, b in edges]
    edges = [edges[k] for k in np.argsort(weights, kind="stable")]
    weights.sort()
    of = {cell: frozenset([cell]) for cell in cells}
    inside = {of[cell]: 0.0 for cell in cells}
    for merging in (True, False):
        for (p, q), weight in zip(edges, weights, strict=True):
            a, b = of[p], of[q]
            if a == b:
                continue
            fits = weight <= min(inside[a] + scale / len(a), inside[b] + scale / len(b))
            if fits if merging else min(len(a), len(b)) < least:
                both = a | b
                inside[both] = weight
                of.update(dict.fromkeys(both, both))
    names = {region: k for k, region in enumerate(set(of.values()))}
    return np.array([names[of[cell]] for cell in cells]).reshape(h, w)


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two maps part the pixels in the same way."""
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return len(pairs) == len(set(a.ravel().tolist())) == len(set(b.ravel().tolist()))


@pytest.mark.parametrize(("scale", "least"), [(10, 1), (100, 1), (100, 9), (400, 5)])
def test_segments_agree_with_the_plain_loop(scale: float, least: int) -> None:
    pixels = picture()
    ours = pr.segments(pixels, scale, 0.8, least)
    assert alike(ours, plain_segments(pixels, scale, 0.8, least))
    counts = np.bincount(ours.ravel())
    assert counts.min() >= least and 1 < len(counts) < pixels[..., 0].size
    for k in range(len(counts)):
        assert label(ours == k)[1] == 1, "a region is in one piece"


def test_a_flat_picture_is_one_region_and_one_box() -> None:
    flat = np.full((9, 12, 1), 7, np.uint8)
    assert pr.segments(flat).max() == 0
    assert pr.propose(flat).tolist() == [[0, 0, 12, 9]]
    assert pr.propose(np.zeros((1, 1, 3), np.uint8), narrow=1).tolist() == [[0, 0, 1, 1]]
    assert pr.propose(np.zeros((1, 1, 3), np.uint8)).shape == (0, 4)


def plain_merged(labels: np.ndarray, pixels: np.ndarray) -> list[tuple[list[int], float]]:
    """Boxes and how alike each was to what it joined, comparing all neighbours anew at every step."""
    regions = {k: labels == k for k in range(labels.max() + 1)}
    joined = dict.fromkeys(regions, -1.0)
    boxes = {}

    def hist(mask: np.ndarray) -> np.ndarray:
        parts = [np.histogram(pixels[mask][:, c], pr.BINS, (0, 256))[0] for c in range(pixels.shape[2])]
        return np.concatenate(parts) / (mask.sum() * pixels.shape[2])

    def frame(mask: np.ndarray) -> list[int]:
        y, x = np.nonzero(mask)
        return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]

    def touch(a: np.ndarray, b: np.ndarray) -> bool:
        return bool((a[1:] & b[:-1] | b[1:] & a[:-1]).any() or (a[:, 1:] & b[:, :-1] | b[:, 1:] & a[:, :-1]).any())

    boxes = {k: frame(m) for k, m in regions.items()}
    while len(regions) > 1:
        found = []
        for a, b in itertools.combinations(sorted(regions), 2):
            if touch(regions[a], regions[b]):
                x0, y0, x1, y1 = frame(regions[a] | regions[b])
                size, other = regions[a].sum(), regions[b].sum()
                terms = 2 - (size + other) / labels.size - ((x1 - x0) * (y1 - y0) - size - other) / labels.size
                found.append((np.minimum(hist(regions[a]), hist(regions[b])).sum() + terms - 2, a, b))
        value, a, b = max(found)
        new = max(boxes) + 1
        regions[new] = regions.pop(a) | regions.pop(b)
        joined[a] = joined[b] = float(value)
        boxes[new], joined[new] = frame(regions[new]), -1.0
    return [(boxes[k], joined[k]) for k in sorted(boxes)]


def test_merging_agrees_with_the_plain_loop() -> None:
    pixels = picture(seed=1)
    labels = pr.segments(pixels, 10, 0.5, 4)
    boxes, lost = pr.merged(labels, pixels)
    want = plain_merged(labels, pixels)
    assert len(want) == 2 * labels.max() + 1 > 15
    assert boxes.tolist() == [box for box, _ in want]
    assert lost == pytest.approx([value for _, value in want])
    assert boxes[-1].tolist() == [0, 0, 17, 14]


def test_objects_of_even_colour_are_among_the_first_boxes() -> None:
    big = np.kron(picture(), np.ones((5, 5, 1))).astype(np.uint8)
    true = np.array([[15, 10, 45, 40], [50, 35, 75, 60]])
    grey = big.mean(2, keepdims=True).astype(np.uint8)
    for image in (big, big.astype(np.uint16) * 257, grey):
        first = pr.propose(image)[:12]
        assert iou(true, first).max(1).min() > 0.85
    assert np.array_equal(pr.propose(grey), pr.propose(np.repeat(grey, 3, 2))), "grey in three channels is grey"
    every = pr.propose(big, narrow=12, most=10_000)
    assert len(np.unique(every, axis=0)) == len(every) and (every[:, 2:] - every[:, :2]).min() >= 12
    assert np.array_equal(pr.propose(big, narrow=12, most=7), every[:7])


@pytest.fixture
def opencv() -> None:
    """Skips where OpenCV's extra modules are not installed."""
    if not hasattr(pytest.importorskip("cv2"), "ximgproc"):
        pytest.skip("opencv-contrib-python-headless is not installed")


@pytest.mark.usefixtures("opencv")
def test_opencvs_boxes_hold_the_objects_in_one_order() -> None:
    big = np.kron(picture(), np.ones((5, 5, 1))).astype(np.uint8)
    true = np.array([[15, 10, 45, 40], [50, 35, 75, 60]])
    for image in (big, big.astype(np.uint16) * 257, big.mean(2, keepdims=True).astype(np.uint8)):
        boxes = pr.selective(image)
        assert iou(true, boxes).max(1).min() > 0.85 and boxes.dtype == np.float32
        assert np.array_equal(boxes, pr.selective(image)), "OpenCV's own order is chance"
        sides = boxes[:, 2:] - boxes[:, :2]
        assert sides.min() >= 6 and boxes.min() >= 0 and (boxes[:, 2:] <= [85, 70]).all()
        assert (np.diff(sides.prod(1)) <= 0).all() and len(np.unique(boxes, axis=0)) == len(boxes) > 5
        few = pr.selective(image, 4)
        assert len(few) == 4 and few[[0, -1]].tolist() == boxes[[0, -1]].tolist()
    assert pr.selective(np.zeros((1, 1, 3), np.uint8)).shape == (0, 4)
    assert pr.selective(np.zeros((9, 12, 1), np.uint8)).tolist() == [[0, 0, 12, 9]]


class Plain:
    """OpenCV as it comes without its extra modules."""


@pytest.mark.parametrize(("module", "said"), [(None, "is not installed"), (Plain, "without its extra modules")])
def test_a_missing_opencv_is_named(monkeypatch: pytest.MonkeyPatch, module: type | None, said: str) -> None:
    monkeypatch.setitem(sys.modules, "cv2", module)
    with pytest.raises(MachineError, match=said) as error:
        pr.selective(np.zeros((9, 9, 3), np.uint8))
    assert "pip install opencv-contrib-python-headless" in error.value.fix


def test_time() -> None:
    """Four hierarchies of 64 px take some 30 ms of one core; the best of several, and room for a busy one."""
    luck, side = np.random.default_rng(0), 64
    rough = np.kron(luck.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))) + luck.normal(0, 20, (side, side, 3))
    image, taken = rough.clip(0, 255).astype(np.uint8), []
    for _ in range(5):
        start = time.process_time()
        pr.propose(image)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.12


def test_grid_covers_the_image_with_boxes_of_its_shapes() -> None:
    boxes = pr.grid((40, 60), (0.25, 0.5), (1, 4), 0.5)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert {tuple(s) for s in sides.round(3).tolist()} == {(10, 10), (20, 5), (20, 20), (40, 10)}
    assert boxes.min() == 0 and boxes[:, 2].max() == 60 and boxes[:, 3].max() == 40
    small = boxes[(sides == 10).all(1)]
    assert len(small) == len(np.unique(small, axis=0)) == 11 * 7
    assert np.diff(np.unique(small[:, 0])).max() <= 5
    assert pr.grid((10, 10), (1,), (0.1, 1), 1).max() == 10, "what is longer than the image is cut to it"
    with pytest.raises(SettingsError, match="above 0"):
        pr.grid((10, 10), (0.5,), (1,), 0)


def test_column_pads_with_nan() -> None:
    some = [np.ones((2, 4), np.float32), np.empty((0, 4), np.float32), np.zeros((1, 4), np.float32)]
    found = pr.column(some)
    assert found.shape == (3, 2, 4) and found.dtype == np.float32
    assert (~np.isnan(found)).sum((1, 2)).tolist() == [8, 0, 4] and np.array_equal(found[0], some[0])
    assert pr.column([]).shape == (0, 0, 4)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(SettingsError, match="an image of shape"):
        pr.propose(image)
