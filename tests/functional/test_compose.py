"""The composer: what a sentence names lies where it says, as large as it says, on a ground from which it stands out."""

from __future__ import annotations

import numpy as np
import pytest

from modicum.functional import sentences as s
from modicum.functional.compose import OPEN, brightness, compose, ground, lay, resized

SIDE = 96
NAMES = ("red thing", "green thing")
PURE = ((255, 0, 0), (0, 255, 0))


def cutouts() -> list[list[np.ndarray]]:
    """A full rectangle, twice as high as wide, of one pure colour for each class."""
    return [[np.broadcast_to(np.array([*c, 255], np.uint8), (40, 20, 4)).copy()] for c in PURE]


def where(image: np.ndarray, cls: int) -> np.ndarray:
    """Pixels of a class's colour: its channel high, both others low.  The witness sees pixels alone."""
    others = [c for c in range(3) if c != cls]
    return (image[..., cls] > 200) & (image[..., others] < 40).all(-1)


@pytest.mark.parametrize("place", [*s.PLACES])
@pytest.mark.parametrize("size", ["tiny", "large", "huge"])
def test_an_object_lies_in_its_ninth_and_has_its_size(place: str, size: str) -> None:
    rng = np.random.default_rng([len(place), len(size)])
    sentence = f"A photo of a {size} red thing {place}, on a grey plain ground"
    for _ in range(3):
        image, placed = compose(s.read(sentence, NAMES), cutouts(), SIDE, rng)
        y, x = (np.flatnonzero(where(image, 0).any(axis)) for axis in (1, 0))
        height, width = int(y[-1] - y[0] + 1), int(x[-1] - x[0] + 1)
        assert abs(height / SIDE - s.SIZES[size]) <= 0.1 * s.SIZES[size] + 1.5 / SIDE
        assert abs(width - height / 2) <= 1.5
        middle = np.array([x[0] + x[-1] + 1, y[0] + y[-1] + 1]) / 2 / SIDE
        column, row = (0 if a in place else 2 if b in place else 1 for a, b in (("left", "right"), ("top", "bottom")))
        low = np.array([column, row])
        assert (middle >= low / 3 - 1 / SIDE).all() and (middle <= (low + 1) / 3 + 1 / SIDE).all(), (place, middle)
        (one,) = placed
        assert one.frame == (x[0], y[0], x[-1] + 1, y[-1] + 1) and one.cls == 0


def test_two_things_are_both_there_and_an_unnamed_one_is_not() -> None:
    rng = np.random.default_rng(0)
    both = s.read("A photo of a small green thing at the left and a small red thing at the right", NAMES)
    image, placed = compose(both, cutouts(), SIDE, rng)
    assert where(image, 0).any() and where(image, 1).any() and [p.cls for p in placed] == [1, 0]
    alone, _ = compose(s.read("A photo of a small green thing at the left", NAMES), cutouts(), SIDE, rng)
    assert not where(alone, 0).any() and where(alone, 1).any()


def test_what_is_not_said_is_in_the_middle_large_and_on_a_plain_ground() -> None:
    image, (one,) = compose(s.read("A photo of red thing", NAMES), cutouts(), SIDE, np.random.default_rng(1))
    x0, y0, x1, y1 = one.frame
    assert abs((x0 + x1) / 2 - SIDE / 2) <= 1 and abs((y0 + y1) / 2 - SIDE / 2) <= 1
    assert abs((y1 - y0) / SIDE - OPEN) <= 0.1 * OPEN + 1 / SIDE
    rim = np.concatenate([image[:3].reshape(-1, 3), image[-3:].reshape(-1, 3)]).astype(float)
    assert rim.std(0).max() < 40


@pytest.mark.parametrize("grey", [10, 245])
def test_the_ground_stands_off_from_objects(grey: int) -> None:
    thing = [[np.full((30, 30, 4), (grey, grey, grey, 255), np.uint8)]]
    for seed in range(20):
        scene = s.read(f"A photo of a middling x in the middle, on a grey {s.KINDS[seed % 6]} ground", ("x",))
        image, (one,) = compose(scene, thing, 64, np.random.default_rng(seed))
        out = np.ones((64, 64), bool)
        out[one.frame[1] : one.frame[3], one.frame[0] : one.frame[2]] = False
        assert abs(image[out].mean() - image[~out].mean()) > 60


@pytest.mark.parametrize("kind", s.KINDS)
def test_grounds_are_of_their_hue_and_not_all_alike(kind: str) -> None:
    some = [ground(kind, "red", False, 64, np.random.default_rng(i)) for i in range(5)]
    for one in some:
        r, g, b = one.mean((0, 1))
        assert r > 2 * g and r > 2 * b and one.shape == (64, 64, 3)
    assert all((some[0] != one).any() for one in some[1:])
    assert kind == "plain" or np.mean([one[..., 0].std() for one in some]) > 0.03


def test_an_object_is_laid_by_its_alpha() -> None:
    rng = np.random.default_rng(3)
    image, piece = rng.random((6, 7, 3)), rng.random((3, 2, 4))
    for x, y in ((2, 1), (-1, 4), (6, -2), (9, 9), (-5, 0)):
        want = image.copy()
        for i in range(3):
            for j in range(2):
                if 0 <= y + i < 6 and 0 <= x + j < 7:
                    a = piece[i, j, 3]
                    want[y + i, x + j] = (1 - a) * image[y + i, x + j] + a * 0.9 * piece[i, j, :3]
        out = image.copy()
        lay(out, piece, x, y, 0.9)
        np.testing.assert_allclose(out, want)


def test_litter_is_of_no_class() -> None:
    """Scraps are too small to be an object: the largest piece of a colour is below the least size."""
    for seed in range(10):
        scene = s.read("A photo of a large green thing in the middle, on a grey plain ground with scraps", NAMES)
        image, _ = compose(scene, cutouts(), SIDE, np.random.default_rng(seed))
        red = where(image, 0)
        assert red.sum() < 12 * (0.15 * SIDE) ** 2
        assert not any(red[i : i + 30, j : j + 30].all() for i in range(0, 60, 10) for j in range(0, 60, 10))


def test_brightness_counts_what_belongs_to_the_object() -> None:
    cutout = np.zeros((2, 2, 4), np.uint8)
    cutout[0] = (255, 255, 255, 255)
    assert brightness(cutout) == pytest.approx(1.0)
    cutout[1, :, 3] = 255
    assert brightness(cutout) == pytest.approx(0.5)
    assert resized(np.full((100, 1, 4), 9, np.uint8), 20).shape == (20, 3, 4)
