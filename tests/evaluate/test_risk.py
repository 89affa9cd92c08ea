"""Bounds on the share of wrong guesses: against scipy, by simulation, and in words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from modicum.core.errors import DataError
from modicum.evaluate.risk import bound, least, precision, upper


@pytest.mark.parametrize(("wrong", "count"), [(0, 1), (0, 59), (3, 40), (7, 7), (0, 0)])
def test_the_bound_is_clopper_and_pearsons(wrong: int, count: int) -> None:
    if not count or wrong == count:
        assert upper(wrong, count) == 1.0
    else:
        wanted = binomtest(wrong, count).proportion_ci(0.9, "exact").high
        assert upper(wrong, count) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("risk", "level"), [(0.05, 0.95), (0.1, 0.9), (0.01, 0.99)])
def test_the_least_count_is_the_first_whose_bound_holds(risk: float, level: float) -> None:
    n = least(risk, level)
    assert upper(0, n, level) <= risk < upper(0, n - 1, level)
    assert least(0.05) == 59


def test_it_refuses_below_that_and_says_what_it_would_take() -> None:
    found = bound(np.linspace(0.5, 1, 40), np.ones(40, bool))
    assert found.tau is None and found.needed == 59
    assert "only 40 labels were looked at and 59 are needed" in found.said
    wrong = np.ones(80, bool)
    wrong[-10:] = False
    assert "10 of the 59 surest guesses are wrong" in bound(np.linspace(0, 1, 80), wrong).said


def test_the_threshold_is_a_plain_loops() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        confidence = np.round(rng.random(200), 2)  # with ties
        right = rng.random(200) < 0.75 + 0.27 * confidence
        best = None
        for tau in sorted(set(confidence), reverse=True):
            kept = confidence >= tau
            if kept.sum() < least(0.1):
                continue
            k, n = int((~right[kept]).sum()), int(kept.sum())
            if binom.cdf(k, n, 0.1) > 0.05:  # the data do not speak against a risk above 10 %
                break
            best = tau
        assert bound(confidence, right, 0.1).tau == best


def test_it_errs_as_rarely_as_it_says() -> None:
    rng, failed, tried = np.random.default_rng(1), 0, 2000
    for _ in range(tried):
        confidence = rng.random(150)
        chance = 0.80 + 0.2 * confidence  # of being right: the true risk above tau is 0.1 * (1 - tau)
        found = bound(confidence, rng.random(150) < chance, 0.05)
        failed += found.tau is not None and 0.1 * (1 - found.tau) > 0.05
    assert failed / tried <= 0.05 + 3 * (0.05 * 0.95 / tried) ** 0.5


def test_precision_by_class() -> None:
    guessed, truth = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])
    found = precision(guessed, truth, np.array([1, 1, 1, 1, 0, 0], bool), ["a", "b", "c"])
    assert found["all"] == {"looked": 6, "believed": 4, "right": 3, "precision": found["all"]["precision"]}
    assert [(c["believed"], c["right"]) for c in found["classes"]] == [(3, 2), (1, 1), (0, 0)]
    assert found["classes"][2]["precision"] == [None, 0.0, 1.0]
    low, high = found["classes"][0]["precision"][1:]
    assert 0 < low < 2 / 3 < high < 1


def test_wrong_use_is_refused() -> None:
    with pytest.raises(DataError, match="risk"):
        bound(np.ones(3), np.ones(2, bool))
    with pytest.raises(DataError, match="risk"):
        bound(np.ones(3), np.ones(3, bool), risk=0.0)
