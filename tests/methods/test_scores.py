"""Scores on planted cases: the direction on the card, and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modicum.core import registry
from modicum.core.errors import DataError

from .toy import logits_of


@pytest.mark.parametrize("name", ["entropy", "margin", "least-confidence"])
def test_the_less_certain_row_scores_higher(name: str) -> None:
    table = logits_of([[0.98, 0.01, 0.01], [0.7, 0.2, 0.1], [0.34, 0.33, 0.33], [1.0, 0.0, 0.0]])
    found = registry.make(name).score(table)
    assert found.argsort().tolist() == [3, 0, 1, 2] and found.dtype == np.float64
    assert registry.card(name).higher == "less certain" and registry.card(name).of == "image"


def test_values() -> None:
    table = logits_of([[0.5, 0.3, 0.2]])
    entropy = -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))
    for name, wanted in (("entropy", entropy), ("margin", 0.8), ("least-confidence", 0.5)):
        assert registry.make(name).score(table).tolist() == pytest.approx([wanted])


@pytest.mark.parametrize("name", ["entropy", "margin", "least-confidence", "self-confidence"])
def test_a_table_without_logits_is_refused(name: str) -> None:
    table = logits_of([[0.5, 0.5]])
    with pytest.raises(DataError, match="no column 'logits'"):
        registry.make(name).score(type(table)(table.data, table.rows))


def test_a_wrong_label_has_the_highest_score() -> None:
    table = logits_of([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5]], [0, 1, 0, -1])
    found = registry.make("self-confidence").score(table)
    assert found[:3].tolist() == pytest.approx([0.1, 0.9, 0.4]) and np.isnan(found[3])
    assert registry.card("self-confidence").higher == "more likely mislabelled"


def test_out_of_fold_outputs_are_preferred() -> None:
    table = logits_of([[1.0, 0.0], [0.0, 1.0]], [0, 1])
    held_out = logits_of([[0.2, 0.8], [0.3, 0.7]]).columns["logits"]
    held_out[1] = np.nan
    for both in (
        type(table)(table.data, table.rows, {**table.columns, "logits_oof": held_out}),
        type(table)(table.data.with_column("logits_oof", held_out), table.rows, table.columns),
    ):
        found = registry.make("self-confidence").score(both)
        assert found[0] == pytest.approx(0.8) and np.isnan(found[1])


def test_flipped_labels_of_digits_are_found() -> None:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import cross_val_predict

    rng = np.random.default_rng(0)
    x, y = load_digits(return_X_y=True)
    x, y = x[:600] / 16, y[:600]
    flipped = rng.random(len(y)) < 0.15
    given = np.where(flipped, (y + rng.integers(1, 10, len(y))) % 10, y)
    probs = cross_val_predict(LogisticRegression(C=0.1, max_iter=200), x, given, cv=4, method="predict_proba")
    score = registry.make("self-confidence").score(logits_of(probs, given.tolist()))
    assert average_precision_score(flipped, score) > 0.85
