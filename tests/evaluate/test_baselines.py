"""Baselines against scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from modicum.core.errors import DataError
from modicum.evaluate.baselines import majority, nearest_centroid, reduced


def test_majority_names_the_commonest() -> None:
    found = majority(np.array([2, 2, 1, -1, -1, -1]), 4, 5)
    assert found.shape == (5, 4) and (found.argmax(1) == 2).all()
    np.testing.assert_allclose(found[0], np.array([1, 2, 3, 1]) / 7)


def test_nearest_centroid_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, y, asked = rng.normal(size=(40, 6)), np.arange(40) % 3, rng.normal(size=(50, 6))
    found = nearest_centroid(np.r_[x, np.zeros((1, 6))], np.r_[y * 2, -1], asked, 6)
    np.testing.assert_array_equal(found.argmax(1), NearestCentroid().fit(x, y * 2).predict(asked))
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found[:, [1, 3, 5]] == 0).all()


def test_one_label_a_class_and_none_at_all() -> None:
    found = nearest_centroid(np.array([[0.0], [10.0]]), np.array([0, 1]), np.array([[1.0], [5.0]]), 2)
    assert found[0, 0] > 0.8 and found[1] == pytest.approx([0.5, 0.5])
    assert nearest_centroid(np.zeros((1, 2)), np.array([1]), np.zeros((1, 2)), 3).tolist() == [[0, 1, 0]]
    with pytest.raises(DataError, match="no labelled"):
        nearest_centroid(np.zeros((2, 2)), np.array([-1, -1]), np.zeros((1, 2)), 3)


def test_reduced_is_an_area_average() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (3, 16, 24), np.uint8)
    slow = pictures.reshape(3, 8, 2, 8, 3).mean((2, 4)).reshape(3, 64)
    np.testing.assert_allclose(reduced(pictures), slow)
    odd = rng.integers(0, 255, (2, 13, 7, 1), np.uint8)
    by_repeat = np.repeat(np.repeat(odd[..., 0], 8, 1), 8, 2).reshape(2, 8, 13, 8, 7).mean((2, 4)).reshape(2, 64)
    np.testing.assert_allclose(reduced(odd), by_repeat)
    colour = np.zeros((1, 8, 8, 3), np.uint8)
    colour[..., 1] = 100
    np.testing.assert_allclose(reduced(colour), 58.7)
    with pytest.raises(DataError, match="shape"):
        reduced(np.zeros((3, 3)))
