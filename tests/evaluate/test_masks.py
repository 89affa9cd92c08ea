"""Class maps against true ones: sums against other libraries and plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from modicum.core.errors import DataError
from modicum.evaluate import masks
from modicum.evaluate.masks import evaluate_masks

NAMES = ("cat", "dog", "owl")


@pytest.fixture
def maps() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Twelve pairs of maps of unlike sizes, three fifths alike; a tenth unknown; no owl anywhere in the true ones."""
    luck = np.random.default_rng(3)
    pred, truth = [], []
    for i in range(12):
        true = luck.integers(0, 3, (5 + i, 20 - i)).astype(np.uint8)
        said = np.where(luck.random(true.shape) < 0.6, true, luck.integers(0, 4, true.shape)).astype(np.uint8)
        true[luck.random(true.shape) < 0.1] = 255
        pred.append(said)
        truth.append(true)
    return pred, truth


def test_it_agrees_with_scikit_learn(maps: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    pred, truth = maps
    found = evaluate_masks(iter(pred), iter(truth), NAMES, resamples=50)
    true, said = (np.concatenate([m.ravel() for m in part]) for part in (truth, pred))
    known = true != 255
    true, said = true[known], said[known]
    assert np.array_equal(found["pixels"]["confusion"], confusion_matrix(true, said, labels=range(4)))
    assert (found["pixels"]["known"], found["pixels"]["unknown"]) == (known.sum(), (~known).sum())
    each = jaccard_score(true, said, labels=range(4), average=None, zero_division=0)
    assert np.allclose([p["iou"][0] for p in found["per_class"][:3]], each[:3])
    assert [p["class"] for p in found["per_class"]] == ["background", *NAMES] and found["per_class"][3]["iou"][
        0
    ] is None
    main = found["arms"]["main"]
    assert main["miou"][0] == pytest.approx(each[:3].mean()), "a class that is nowhere true is no part of the mean"
    assert main["accuracy"][0] == pytest.approx(accuracy_score(true, said))
    right = ((true == said) & (true > 0)).sum()
    assert main["precision"][0] == pytest.approx(right / (said > 0).sum())
    assert main["recall"][0] == pytest.approx(right / (true > 0).sum())
    assert found["test"]["counts"] == [12, 12, 0] and json.loads(json.dumps(found, allow_nan=False)) == found


def test_intervals_hold_a_plain_bootstrap(maps: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    pred, truth = maps
    found = evaluate_masks(pred, truth, NAMES, resamples=2000)["arms"]["main"]["miou"]
    luck, draws = np.random.default_rng(99), []
    for _ in range(400):
        some = luck.integers(0, 12, 12)
        true, said = (np.concatenate([part[i].ravel() for i in some]) for part in (truth, pred))
        known = true != 255
        draws.append(jaccard_score(true[known], said[known], labels=range(3), average="macro"))
    assert found[1] < found[0] < found[2]
    assert np.allclose(found[1:], np.quantile(draws, [0.025, 0.975]), atol=0.01)


def test_an_image_alone_has_no_interval(maps: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    value, low, high = evaluate_masks(maps[0][:1], maps[1][:1], NAMES)["arms"]["main"]["miou"]
    assert 0 < value < 1 and low is None and high is None


def test_baselines_against_plain_loops(maps: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    pred, truth = maps
    arms = evaluate_masks(pred, truth, NAMES, resamples=20)["arms"]
    nothing = evaluate_masks([np.zeros_like(t) for t in truth], truth, NAMES, resamples=20)["arms"]["main"]
    assert {k: v for k, v in arms["all background"].items() if k != "role"} == {
        k: v for k, v in nothing.items() if k != "role"
    }
    scores = []
    for share in np.arange(1, 11) / 10:
        boxes = []
        for true in truth:
            h, w = true.shape
            largest = 1 + np.argmax([(true == 1).sum(), (true == 2).sum(), (true == 3).sum()])
            box = np.zeros_like(true)
            for y in range(h):
                for x in range(w):
                    if max(abs((2 * y + 1) / h - 1), abs((2 * x + 1) / w - 1)) <= share:
                        box[y, x] = largest
            boxes.append(box)
        scores.append(evaluate_masks(boxes, truth, NAMES, resamples=2)["arms"]["main"]["miou"][0])
    assert arms["a box in the middle"]["miou"] == [pytest.approx(max(scores)), None, None]


def test_arms_of_one_seed_draw_the_same_images(maps: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    pred, truth = maps
    a, b = (masks.tally(p, truth, 3).sums for p in (pred, [np.where(t == 255, 0, t) for t in truth]))
    one, two = masks.resampled(a, 30, 5), masks.resampled(b, 30, 5)
    assert np.array_equal(one[:, 1], two[:, 1]) and not np.array_equal(one[:, 0], two[:, 0])
    assert np.allclose(masks.measures(two)["miou"], 1)


def test_perfect_and_empty(maps: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    ground = [np.zeros((4, 4), np.uint8)] * 3
    found = evaluate_masks(ground, ground, NAMES, resamples=10)["arms"]
    assert found["main"]["miou"] == [1, 1, 1] and found["main"]["precision"] == [None, None, None]
    assert found["a box in the middle"]["miou"][0] == 1, "where an image shows nothing, its box is of nothing"


def test_of_no_image_nothing_is_said() -> None:
    found = evaluate_masks([], [], NAMES, unlabelled=7)
    assert not found["arms"] and found["test"]["unlabelled"] == 7 and "no test labels" in found["verdict"]["word"]


@pytest.mark.parametrize(
    ("pred", "truth", "said"),
    [
        ([np.zeros((2, 2))], [np.zeros((2, 3))], "shape"),
        ([np.full((2, 2), 4)], [np.zeros((2, 2))], "4 in a map of 3 classes"),
        ([np.full((2, 2), 255)], [np.zeros((2, 2))], "255 in a map"),
        ([np.zeros((2, 2))], [np.full((2, 2), 9)], "9 in a true map"),
        ([np.zeros((2, 2))], [np.full((2, 2), 255)], "no pixel"),
        ([], [np.zeros((2, 2))], "no map for a true one"),
        ([np.zeros((2, 2))], [], "more maps"),
    ],
)
def test_what_is_refused(pred: list[np.ndarray], truth: list[np.ndarray], said: str) -> None:
    with pytest.raises(DataError, match=said):
        evaluate_masks(pred, truth, NAMES)
