"""Measures of uncertainty against loops, and at the ends of their ranges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modicum.functional.uncertainty import MEASURES

ROWS = st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda v: sum(v) > 0.01)


def slow(name: str, p: list[float]) -> float:
    first, second = sorted(p, reverse=True)[:2]
    if name == "entropy":
        return -sum(v * math.log(v) for v in p if v > 0)
    return 1 - (first - second) if name == "margin" else 1 - first


@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_against_loops(rows: list[list[float]]) -> None:
    probs = np.array([[v / sum(row) for v in row] for row in rows])
    for name, measure in MEASURES.items():
        assert measure(probs).tolist() == pytest.approx([slow(name, row) for row in probs.tolist()], abs=1e-12)


@pytest.mark.parametrize(("name", "top"), [("entropy", math.log(5)), ("margin", 1.0), ("least-confidence", 0.8)])
def test_ranges_and_unknown_rows(name: str, top: float) -> None:
    probs = np.array([[1, 0, 0, 0, 0], [0.2] * 5, [np.nan] * 5, [0.5, 0.5, np.nan, 0, 0]])
    found = MEASURES[name](probs)
    assert found[:2].tolist() == pytest.approx([0, top]) and np.isnan(found[2:]).all() and found.dtype == np.float64
    assert MEASURES[name](np.ones((2, 1))).tolist() == [0, 0] and MEASURES[name](np.zeros((0, 3))).shape == (0,)
