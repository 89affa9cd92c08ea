"""Intervals of a detector's measures hold the measures of all images, where quantiles of resampled images do not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import coverage


@pytest.mark.parametrize(
    ("name", "images", "most"),
    [("one class, AP 0.97", 8, 0.5), ("ten rare classes, AP 0.01", 20, 0.75), ("one class, AP 0.57", 20, 1.0)],
)
def test_the_truth_lies_inside(name: str, images: int, most: float) -> None:
    """most: share of test sets whose quantiles hold it, at most."""
    rows = {k: (truth, value, rest) for k, truth, value, rest in coverage.covered(images, 50, 100, **_of(name))}
    for truth, _, (ours, _, wide, _) in rows.values():
        assert ours >= 0.88 and 0 < wide < 1 and 0 < truth < 1
    ours, theirs = rows["ap50"][2][:2]
    assert theirs <= min(most, ours)


def test_few_images_flatter_average_precision() -> None:
    """Which is why draws of draws do so again."""
    few, many = (
        {k: value - truth for k, truth, value, _ in coverage.covered(n, 60, 2, **_of("ten rare classes, AP 0.42"))}
        for n in (8, 50)
    )
    assert few["ap50"] > 0.06 > 0.04 > many["ap50"] > 0
    assert abs(few["recall"]) < 0.03, "a share does not"


def test_what_is_drawn_is_what_was_asked_for() -> None:
    asked = _of("three classes, AP 0.57")
    each = coverage.drawn(4000, np.random.default_rng(0), **asked)
    assert len(each) == 3
    for m in each:
        assert (m.objects > 0).mean() == pytest.approx(0.5, abs=0.03)
        assert m.objects[m.objects > 0].mean() == pytest.approx(2, abs=0.1)
        assert (np.diff(m.score) <= 0).all() and m.right.sum() < m.objects.sum() and (m.right ^ m.wrong).all()
        for i in range(200):
            mine = m.image == i
            first = m.right[0, mine][0] if mine.any() else 0
            assert np.isnan(m.best[i]) if not m.objects[i] else m.best[i] == first


def _of(name: str) -> dict[str, float]:
    return coverage.POPULATIONS[name]
