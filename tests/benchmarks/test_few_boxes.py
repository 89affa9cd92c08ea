"""How far boxes move between two moments, by hand and against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.few_boxes import moved

from modicum.engine.dense import Located


def found(*rows: tuple[float, float, float, float, int, float]) -> Located:
    at = np.array(rows, np.float32).reshape(-1, 6)
    return Located(at[:, :4], at[:, 4].astype(np.int64), at[:, 5])


def test_what_stays_has_not_moved_and_what_comes_or_goes_has() -> None:
    here = found((0, 0, 10, 10, 0, 0.9), (20, 20, 30, 40, 1, 0.8))
    assert moved([here, found()], [here, found()]) == 0
    assert moved([here], [found()]) == moved([found()], [here]) == 1
    other = found((0, 0, 10, 10, 1, 0.9), (20, 20, 30, 40, 1, 0.4))
    assert moved([here], [other]) == 1, "of another class, or not sure of"
    half = found((0, 5, 10, 10, 0, 0.9), (20, 20, 30, 40, 1, 0.8))
    assert moved([here], [half]) == pytest.approx((0.5 + 0 + 0.5 + 0) / 4)
    assert moved([], []) == 0 and moved([found()], [found()]) == 0


def test_each_box_counts_once_with_its_nearest() -> None:
    one = found((0, 0, 10, 10, 0, 0.9))
    two = found((0, 0, 10, 10, 0, 0.9), (0, 0, 10, 5, 0, 0.9))
    assert moved([one], [two]) == pytest.approx((0 + 0 + 0.5) / 3)
