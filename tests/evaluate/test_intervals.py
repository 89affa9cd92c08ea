"""Intervals against slow loops, closed forms and coverage by simulation."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import stats

from modicum.core.errors import DataError
from modicum.evaluate import intervals, metrics
from modicum.evaluate.intervals import averaged, bootstrap, difference, paired, paired_t, tossed, weights, wilson

from .test_metrics import draw


@pytest.mark.parametrize("stratified", [False, True])
def test_bootstrap_equals_a_slow_loop(stratified: bool) -> None:
    probs, cls = draw(60, 4, classes=3)
    found = bootstrap(probs, cls, resamples=50, seed=3, stratified=stratified)
    for r, w in enumerate(np.concatenate(list(weights(cls, 50, 3, stratified)))):
        rows = np.repeat(np.arange(60), w.astype(int))
        slow = metrics.measure(probs[rows], cls[rows])
        for name, value in slow.items():
            assert found.draws[name][r] == pytest.approx(value, abs=1e-12)
    low, high = np.quantile(found.draws["nll"], [0.025, 0.975])
    assert found.metrics["nll"] == pytest.approx((metrics.nll(probs, cls), low, high))


def test_weights_draw_as_many_as_there_are_and_classes_if_stratified() -> None:
    cls = np.array([0] * 30 + [1] * 5)
    plain = np.concatenate(list(weights(cls, 400, 0)))
    assert (plain.sum(1) == 35).all() and plain[:, 30:].sum(1).std() > 1
    assert plain.mean(0) == pytest.approx(1, abs=0.25) and plain.var() == pytest.approx(1 - 1 / 35, abs=0.05)
    strict = np.concatenate(list(weights(cls, 400, 0, stratified=True)))
    assert (strict[:, :30].sum(1) == 30).all() and (strict[:, 30:].sum(1) == 5).all()


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(weights(np.zeros(20, int), 30, 1)))
    monkeypatch.setattr(intervals, "_CHUNK", 70)
    np.testing.assert_array_equal(whole, np.concatenate(list(weights(np.zeros(20, int), 30, 1))))


def test_value_lies_within_and_perfect_is_not_certain() -> None:
    probs, cls = draw(40, 3)
    found = bootstrap(probs, cls)
    assert all(i.low <= i.value <= i.high for i in found.metrics.values())
    perfect = bootstrap(np.eye(3)[np.arange(30) % 3], np.arange(30) % 3)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert perfect.metrics[name] == pytest.approx((1.0, wilson(30, 30).low, 1.0))
    assert perfect.per_class["f1"][0].low == pytest.approx(wilson(10, 10).low)
    assert math.isnan(bootstrap(np.eye(3)[[0, 1]], np.array([0, 1])).per_class["recall"][2].value)


def test_difference_of_an_arm_with_itself_is_zero() -> None:
    probs, cls = draw(50, 3)
    assert difference(bootstrap(probs, cls), bootstrap(probs, cls), "nll") == (0.0, 0.0, 0.0)


def test_wilson_against_scipy() -> None:
    for right, count in ((0, 10), (10, 10), (3, 17), (250, 500)):
        expected = stats.binomtest(right, count).proportion_ci(method="wilson")
        assert wilson(right, count) == pytest.approx((right / count, expected.low, expected.high))
    assert wilson(0, 0).low == 0 and wilson(0, 0).high == 1


def test_paired_agrees_with_its_formula_and_is_antisymmetric() -> None:
    a, b = np.array([1] * 12 + [0] * 8, bool), np.array([1] * 6 + [0] * 6 + [1] * 2 + [0] * 6, bool)
    found, back = paired(a, b), paired(b, a)
    middle, half = 4 / 22, 1.959963985 * math.sqrt(6.5 + 2.5 - 16 / 22) / 22
    assert found == pytest.approx((0.2, middle - half, middle + half))
    assert back == pytest.approx((-found.value, -found.high, -found.low))
    same = paired(a, a)
    assert same.value == 0 and same.low < 0 < same.high
    with pytest.raises(DataError, match="same, non-empty"):
        paired(a, b[:3])


@pytest.mark.parametrize(("only_a", "only_b"), [(0.02, 0.01), (0.1, 0.05), (0.005, 0.005)])
def test_paired_covers(only_a: float, only_b: float) -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(1000):
        u = rng.random(300)
        found = paired(u >= only_b, u < 1 - only_a)
        hits += found.low <= only_a - only_b <= found.high
    assert hits / 1000 >= 0.93


def test_paired_t_against_scipy() -> None:
    d = np.array([1.0, 2.0, 4.0, 0.5])
    expected = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert paired_t(d) == pytest.approx((d.mean(), expected.low, expected.high))
    assert math.isnan(paired_t(np.array([1.0])).low)
    assert paired_t(np.array([1.0])).json() == [1.0, None, None]


def test_quick_enough() -> None:
    probs, cls = draw(10_000, 10)
    bootstrap(probs[:50], cls[:50])
    start = time.process_time()
    bootstrap(probs, cls)
    assert time.process_time() - start < 4


def test_averaged_is_the_bootstrap_of_a_mean() -> None:
    values = np.random.default_rng(0).random(30)
    found = averaged(values, resamples=200, seed=4)
    slow = [np.repeat(values, w.astype(int)).mean() for w in np.concatenate(list(weights(np.zeros(30), 200, 4)))]
    assert found == pytest.approx((values.mean(), *np.quantile(slow, [0.025, 0.975])))
    assert averaged(np.ones(20)) == wilson(20, 20) and averaged(np.zeros(20)).high > 0.1
    with pytest.raises(DataError, match="no numbers"):
        averaged(np.zeros(0))


def test_averaged_draws_whole_groups() -> None:
    """Two images, of three numbers and of one: each resample is one, the other, or both."""
    values, image = np.array([1.0, 2.0, 3.0, 10.0]), np.array([7, 7, 7, 9])
    found = averaged(values, image, resamples=500)
    assert (found.value, found.low, found.high) == (4.0, 2.0, 10.0)
    both = averaged(np.stack([values, -values], 1), image, lambda means: means.max(1), resamples=500)
    assert (both.value, both.low, both.high) == (4.0, 2.0, 10.0)


def test_tosses_of_a_coin_get_the_interval_of_a_coin() -> None:
    """Draws that waver as a share of m tosses does, and lie evenly about the value."""
    for value, m in ((0.3, 40), (0.92, 25), (0.5, 700)):
        draws = value + np.array([-1, 1]) * math.sqrt(value * (1 - value) / m)
        whole, part = (tossed(value, draws, 1e9, groups) for groups in (1e9, 5))
        assert whole == pytest.approx(wilson(value * m, m))
        assert part == pytest.approx(wilson(value * m * 0.8, m * 0.8)), "five images waver by a fifth too little"
        assert tossed(value, draws, m / 2, 1e9) == pytest.approx(wilson(value * m / 2, m / 2)), "so many objects"
        assert tossed(value, draws, m, 1) == (value, 0, 1), "one image says nothing of others"
        raised = tossed(value, draws + 0.05, 1e9, 1e9)
        lower = wilson((value - 0.05) * m, m)
        assert (raised.low, raised.high) == pytest.approx((lower.low, max(lower.high, value)))
    assert tossed(0.9, np.full(5, 0.9), 30, 1e9) == pytest.approx(wilson(27, 30)), "draws that do not waver"
    assert tossed(0.01, np.full(5, 0.2), 1e9, 1e9).high == 0.01, "the value is never left out"


def test_tosses_of_nothing() -> None:
    assert np.isnan(tossed(math.nan, np.ones(3), 5, 5)).all()
    none = tossed(0.5, np.full(3, math.nan), 5, 5)
    assert none.value == 0.5 and math.isnan(none.low) and math.isnan(none.high)
    assert tossed(0.5, np.array([0.4, math.nan, 0.6]), 1e9, 1e9) == tossed(0.5, np.array([0.4, 0.6]), 1e9, 1e9)
