"""Tags measured: against scikit-learn and plain counting."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from modicum.core.errors import DataError
from modicum.evaluate.tags import average_precision, evaluate_tags

CLASSES = ("ant", "bee", "cat")


def drawn(seed: int = 0, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties, and tags that they tell something of."""
    luck = np.random.default_rng(seed)
    tags = (luck.random((n, 3)) < (0.2, 0.5, 0.7)).astype(np.int8)
    return np.round((0.4 * tags + 0.7 * luck.random((n, 3))).clip(0, 1), 1), tags


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_scikit_learn_also_with_weights(seed: int) -> None:
    probs, tags = drawn(seed)
    weight = np.random.default_rng(seed).integers(0, 3, (5, len(tags))).astype(float)
    for c in range(3):
        found = average_precision(probs[:, c], tags[:, c] == 1, weight)
        for r in range(5):
            assert found[r] == pytest.approx(average_precision_score(tags[:, c], probs[:, c], sample_weight=weight[r]))
    assert np.isnan(average_precision(probs[:, 0], np.zeros(len(tags), bool), weight)).all()


def test_measures_and_their_intervals() -> None:
    probs, tags = drawn()
    found = evaluate_tags({"net": probs, "same": np.full_like(probs, 0.5)}, tags, CLASSES, main="net", resamples=200)
    value, low, high = found["arms"]["net"]["map"]
    parts = [average_precision_score(tags[:, c], probs[:, c]) for c in range(3)]
    assert value == pytest.approx(np.mean(parts)) and low < value < high
    assert [r["average_precision"][0] for r in found["per_class"]] == pytest.approx(parts)
    assert found["arms"]["net"]["f1"][0] == pytest.approx(f1_score(tags.ravel(), probs.ravel() > 0.5))
    assert found["arms"]["net"]["exact"][0] == pytest.approx(((probs > 0.5) == tags).all(1).mean())
    assert found["arms"]["same"]["map"][0] == pytest.approx(tags.mean(0).mean()) and found["lead"] == "map"
    assert found["test"]["counts"] == tags.sum(0).tolist() and found["arms"]["same"]["role"] == "baseline"


def test_unknown_tags_are_left_out() -> None:
    probs, tags = drawn()
    some = tags.copy()
    some[:40], some[50, 1] = -1, -1
    found = evaluate_tags({"net": probs}, some, CLASSES, main="net", resamples=20)
    keep = (np.arange(len(tags)) >= 40) & (np.arange(len(tags)) != 50)
    assert found["per_class"][1]["average_precision"][0] == pytest.approx(
        average_precision_score(tags[keep, 1], probs[keep, 1])
    )
    assert (found["test"]["images"], found["test"]["unlabelled"]) == (80, 40)


def test_nothing_is_said_where_nothing_is_known() -> None:
    probs, tags = drawn()
    none = evaluate_tags({"net": probs}, np.full_like(tags, -1), CLASSES, main="net")
    absent = evaluate_tags({"net": probs}, np.zeros_like(tags), CLASSES, main="net")
    assert not none["arms"] and not absent["arms"] and "nothing can be said" in absent["verdict"]["word"]
    with pytest.raises(DataError, match="no arm 'nett'"):
        evaluate_tags({"net": probs}, tags, CLASSES, main="nett")
