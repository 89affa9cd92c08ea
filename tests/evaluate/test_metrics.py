"""Metrics against scikit-learn and torchmetrics."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as witness

from modicum.core.errors import DataError
from modicum.evaluate import metrics


def draw(n: int, c: int, classes: int | None = None, skill: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a middling classifier; only the first `classes` classes occur."""
    rng = np.random.default_rng(0)
    cls = rng.integers(0, classes or c, n)
    z = rng.normal(size=(n, c))
    z[np.arange(n), cls] += skill
    p = np.exp(z)
    return p / p.sum(1, keepdims=True), cls


@pytest.mark.parametrize(("n", "c", "classes"), [(300, 5, 5), (40, 7, 4), (9, 3, 2), (1, 4, 1)])
def test_agree_with_scikit_learn(n: int, c: int, classes: int) -> None:
    probs, cls = draw(n, c, classes=classes)
    pred, found = probs.argmax(1), metrics.measure(probs, cls)
    labels = np.arange(c)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": witness.accuracy_score(cls, pred),
            "balanced_accuracy": witness.balanced_accuracy_score(cls, pred),
            "macro_f1": witness.f1_score(cls, pred, average="macro"),
            "nll": witness.log_loss(cls, probs, labels=labels),
        }
        parts = witness.precision_recall_fscore_support(cls, pred, labels=labels, zero_division=np.nan)
    assert {k: found[k] for k in expected} == pytest.approx(expected, abs=1e-12)
    s = metrics.sums(probs, cls)
    np.testing.assert_allclose(metrics.class_precision(s), parts[0])
    np.testing.assert_allclose(metrics.class_recall(s), parts[1])
    seen = (s.true + s.named) > 0
    np.testing.assert_allclose(metrics.class_f1(s)[seen], np.nan_to_num(parts[2][seen]))
    np.testing.assert_array_equal(s.true, parts[3])
    np.testing.assert_array_equal(metrics.confusion(probs, cls), witness.confusion_matrix(cls, pred, labels=labels))


def test_agree_with_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    peers = pytest.importorskip("torchmetrics.classification")
    probs, cls = draw(500, 6)
    p, y = torch.from_numpy(probs), torch.from_numpy(cls)
    expected = peers.MulticlassCalibrationError(6, n_bins=metrics.BINS, norm="l1")(p, y)
    assert metrics.ece(probs, cls) == pytest.approx(float(expected), abs=1e-6)
    assert metrics.macro_f1(probs, cls) == pytest.approx(float(peers.MulticlassF1Score(6)(p, y)), abs=1e-6)


def test_brier_and_ece_by_hand() -> None:
    probs, cls = np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1])
    assert metrics.brier(probs, cls) == pytest.approx((0.01 + 0.01 + 0.36 + 0.36) / 2)
    assert metrics.ece(probs, cls) == pytest.approx((0.1 + 0.6) / 2)
    probs, cls = draw(200, 4)
    slow = np.mean([((probs[i] - np.eye(4)[cls[i]]) ** 2).sum() for i in range(200)])
    assert metrics.brier(probs, cls) == pytest.approx(slow)


def test_certain_and_wrong_is_finite() -> None:
    assert metrics.nll(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(metrics.TINY))
    assert metrics.ece(np.array([[1.0, 0.0]]), np.array([1])) == 1.0


@pytest.mark.parametrize(
    ("probs", "cls", "found"),
    [
        (np.array([[0.5, 0.5], [np.nan, 0.5]]), [0, 1], "row 1"),
        (np.array([[2.0, 0.5]]), [0], "row 0"),
        (np.array([[0.5, 0.5]]), [2], "class 2 of 2"),
        (np.array([[0.5, 0.5]]), [-1], "class -1"),
        (np.zeros((0, 2)), [], "no labelled"),
        (np.ones(3), [0, 0, 0], "shape"),
    ],
)
def test_bad_rows_are_named(probs: np.ndarray, cls: list[int], found: str) -> None:
    with pytest.raises(DataError, match=found):
        metrics.measure(probs, np.array(cls, int))
