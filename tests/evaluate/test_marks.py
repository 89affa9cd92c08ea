"""Numbers about a map, against closed forms; and that a sentence says what they are and no more."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modicum.evaluate.marks import (
    FLAT,
    NINTHS,
    NOT_FINITE,
    NOTHING,
    Rival,
    border_share,
    evidence,
    half_area,
    marks,
    overlap,
    sentence,
)


def spot(y: int, x: int, size: int = 9, value: float = 1.0) -> np.ndarray:
    heat = np.zeros((size, size), np.float32)
    heat[y, x] = value
    return heat


def test_evidence_is_the_positive_part() -> None:
    np.testing.assert_allclose(evidence(np.array([[-3.0, 1.0], [np.nan, 2.0]])), [[0, 0.5], [0, 1]])
    assert evidence(-np.ones((2, 2))).sum() == 0
    assert np.isnan(border_share(-np.ones((2, 2)))) and np.isnan(half_area(np.zeros((2, 2))))


def test_shares_of_even_and_of_central_maps() -> None:
    for size in (5, 7, 10, 14):
        assert border_share(np.ones((size, size))) == pytest.approx(0.36)
    assert border_share(spot(4, 4, 10)) == pytest.approx(0) and half_area(spot(4, 4, 10)) == 0.01
    assert half_area(np.ones((10, 10))) == pytest.approx(0.5, abs=0.02)
    assert border_share(spot(0, 0, 10)) == pytest.approx(1)


@pytest.mark.parametrize("place", range(9))
def test_a_spot_is_found_in_its_ninth(place: int) -> None:
    row, column = divmod(place, 3)
    found = marks(spot(3 * row + 1, 3 * column + 1) - 0.25)
    assert (found.place, found.held, found.energy) == (NINTHS[place], pytest.approx(1), pytest.approx(1))
    assert (found.y, found.x) == (pytest.approx((row + 0.5) / 3), pytest.approx((column + 0.5) / 3))
    assert found.half == found.area == pytest.approx(1 / 81)


def test_ninths_of_maps_that_three_does_not_divide() -> None:
    """Against the same map in many small cells, each of which lies in one ninth."""
    heat = np.random.default_rng(0).random((7, 4))
    fine = np.repeat(np.repeat(heat, 3, 0), 3, 1).reshape(3, 7, 3, 4).sum((1, 3)) / heat.sum() / 9
    found = marks(heat)
    assert found.held == pytest.approx(fine.max()) and found.place == NINTHS[int(fine.argmax())]


def test_area_and_energy_above_half_of_the_peak() -> None:
    found = marks(np.array([[4.0, 2.0], [1.0, -3.0]]))
    assert found.area == 0.5 and found.energy == pytest.approx(6 / 7) and found.half == 0.25


def test_overlap_is_of_the_cells_that_hold_half() -> None:
    a, b = spot(0, 0) + spot(0, 1), spot(0, 1) + spot(0, 2)
    assert overlap(a, a) == 1 and overlap(a, spot(8, 8)) == 0
    assert overlap(a, b) == pytest.approx(1 / 3), "equal values go in together"
    assert math.isnan(overlap(a, np.zeros((9, 9))))


@pytest.mark.parametrize(
    ("heat", "fault", "says"),
    [
        (np.full((3, 3), np.nan), NOT_FINITE, "the map has values that are not numbers"),
        (np.zeros((3, 3)), NOTHING, "nothing in the map speaks for it"),
        (-spot(0, 0), NOTHING, "nothing in the map speaks for it"),
        (np.full((3, 3), 0.1), FLAT, "the map is the same everywhere and marks no place"),
    ],
)
def test_a_map_that_marks_no_place_says_so(heat: np.ndarray, fault: str, says: str) -> None:
    found = marks(heat)
    assert found.fault == fault and all(math.isnan(v) for v in found if isinstance(v, float))
    assert sentence("cat", 0.9, found, Rival("dog", 0.1, math.nan)) == f"cat (0.90): {says}. Next is dog (0.10)."


def test_a_sentence_says_the_numbers() -> None:
    heat = spot(0, 0, 3) + 0.05
    assert sentence("cat", 0.9, marks(heat), Rival("dog", 0.1, 0.25)) == (
        "cat (0.90): half of its evidence lies in 11 % of the image; of nine fields the upper left holds the most "
        "(72 %). 46 % lies in the outer frame, which is 36 % of the area. Next is dog (0.10); the halves of both "
        "overlap by 25 %."
    )
    even = marks(1 + 0.01 * np.random.default_rng(0).random((9, 9)))
    assert "no one of nine fields holds more than 11 %" in sentence("cat", 0.9, even)
    assert sentence("cat", math.nan, even).startswith("cat: ") and "Next" not in sentence("cat", 0.9, even)
    assert sentence("a", 0.5, even, Rival("b", 0.2, math.nan)).endswith("Next is b (0.20), whose map marks no place.")
    assert "More probable is b (0.70); the halves" in sentence("a", 0.3, even, Rival("b", 0.7, 0.5))
    assert "by less than 1 %" in sentence("a", 0.5, even, Rival("b", 0.2, 0.001))
