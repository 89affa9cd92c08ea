"""Temperature against a grid, the refusal, the curve."""

from __future__ import annotations

import numpy as np
import pytest

from modicum.core.errors import DataError
from modicum.evaluate import metrics
from modicum.evaluate.calibration import refuse, reliability, soften, temperature

from .test_metrics import draw


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def logits(truth: float, n: int = 600, c: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `truth` times too sharp: classes are drawn from softmax(z / truth)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, c)) * 2
    cls = np.array([rng.choice(c, p=p) for p in softmax(z)])
    return z * truth, cls


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_temperature_is_the_best_of_a_grid_and_near_the_truth(truth: float) -> None:
    z, cls = logits(truth)
    found = temperature(z, cls)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 2000))
    best = grid[np.argmin([metrics.nll(softmax(z / t), cls) for t in grid])]
    assert found.value == pytest.approx(best, rel=5e-3)
    assert found.value == pytest.approx(truth, rel=0.15)
    assert found.labels_used == 600 and found.fitted


def test_too_few_labels_are_refused_with_what_it_takes() -> None:
    z, cls = logits(2.0, n=20)
    found = temperature(z, cls)
    assert found.value == 1.0 and not found.fitted and found.labels_used == 0
    assert found.note == (
        "not calibrated: 20 held-out labels for 5 classes, at least 10 a class are needed; "
        "about 30 more labels would do, 1 minute of work"
    )
    assert refuse(np.array([10, 10])) == "" and "10 minutes" in refuse(np.zeros(30, int))


def test_nothing_to_fit_is_said() -> None:
    cls = np.arange(40) % 2
    right = np.eye(2)[cls] * 5
    assert temperature(right, cls).value == 1.0 and "all held-out images are right" in temperature(right, cls).note
    assert "chance" in temperature(-right, cls).note


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        temperature(np.full((3, 2), np.nan), np.zeros(3, int))
    with pytest.raises(DataError, match="unknown"):
        temperature(np.zeros((3, 2)), np.array([0, -1, 1]))


def test_soften_equals_dividing_logits() -> None:
    z, _ = logits(1.0, n=30)
    np.testing.assert_allclose(soften(softmax(z), 2.5), softmax(z / 2.5), atol=1e-12)


def test_curve_gives_back_the_calibration_error() -> None:
    probs, cls = draw(400, 4)
    curve = reliability(probs, cls)
    assert sum(b["count"] for b in curve) == 400
    total = sum(b["count"] * abs(b["confidence"] - b["accuracy"][0]) for b in curve) / 400
    assert total == pytest.approx(metrics.ece(probs, cls))
    assert all(b["low"] < b["confidence"] <= b["high"] for b in curve)
