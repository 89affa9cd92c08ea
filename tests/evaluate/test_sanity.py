"""The sanity check on maps that do and do not know the network, and rank correlation against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from modicum.core.errors import DataError
from modicum.evaluate import sanity


def test_rank_correlation_is_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (6, 4, 4)), rng.random((6, 4, 4))
    want = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b)]
    assert sanity.rank_correlation(a, b) == pytest.approx(want)
    flat = np.zeros((1, 4, 4))
    assert sanity.rank_correlation(flat, flat + 1) == 1 and sanity.rank_correlation(flat, b[:1]) == 0


def test_a_map_of_the_picture_fails_and_a_map_of_the_network_passes() -> None:
    """A network of one linear layer, its maps in closed form: weights times pixels, and the picture's own edges."""
    rng = np.random.default_rng(1)
    images = rng.random((12, 1, 8, 8)).astype(np.float32)
    weights = rng.normal(size=(2, 8, 8))
    knows = sanity.sanity(images[:, 0] * weights[0], images[:, 0] * weights[1])
    assert knows.passed and knows.correlation < 0.3 and "anew changes the maps" in knows.said
    edges = sanity.edge_maps(images)
    blind = sanity.sanity(edges, edges * 1.01)
    assert not blind.passed and blind.correlation == pytest.approx(1)
    assert "hardly changes" in blind.said and "they show the picture" in blind.said and "12 maps" in blind.said
    assert not sanity.sanity(edges, -edges).passed, "the negative marks the same places"
    assert not sanity.sanity(np.zeros((2, 4, 4)), np.zeros((2, 4, 4))).passed


def test_what_does_not_pair_up_is_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        sanity.sanity(np.zeros((2, 4, 4)), np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match="at least one"):
        sanity.sanity(np.zeros((0, 4, 4)), np.zeros((0, 4, 4)))
    with pytest.raises(DataError, match="not finite"):
        sanity.sanity(np.zeros((1, 4, 4)), np.full((1, 4, 4), np.nan))


def test_naive_maps_know_nothing_of_the_network() -> None:
    centre = sanity.centre_maps(3, (6, 9))
    assert centre.shape == (3, 6, 9) and np.allclose(centre, centre[:, ::-1, ::-1])
    assert centre[0].argmax() // 9 in (2, 3) and centre[0].argmax() % 9 == 4
    noise = sanity.random_maps(2, (5, 5), seed=3)
    assert (noise == sanity.random_maps(2, (5, 5), seed=3)).all() and (noise[0] != noise[1]).any()
    step = np.zeros((2, 3, 6, 6), np.float32)
    step[0, ..., 3:] = 1
    edges, none = sanity.edge_maps(step)
    assert (edges[:, 2:4] == 4).all() and not edges[:, :2].any() and not edges[:, 4:].any()
    assert not none.any(), "the image beside it leaves no trace"
