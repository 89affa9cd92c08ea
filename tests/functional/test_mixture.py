"""Two Gaussians over scores, against scikit-learn and a plain loop."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from modicum.functional.mixture import FEW, LEAST, lines, mixed


def scores(seed: int) -> Tensor:
    """Three classes: two heaps, two that overlap, and one heap with few scores; 0 elsewhere."""
    luck = np.random.default_rng(seed)
    heaps = [
        np.concatenate([luck.normal(0.15, 0.04, 60), luck.normal(0.7, 0.1, 30)]),
        np.concatenate([luck.normal(0.3, 0.1, 40), luck.normal(0.5, 0.15, 60)]),
        luck.uniform(0.05, 0.9, 7),
    ]
    out = np.zeros((3, 100))
    for row, heap in zip(out, heaps, strict=True):
        row[luck.permutation(100)[: len(heap)]] = heap.clip(0.05, 1)
    return torch.from_numpy(out)


def theirs(x: np.ndarray, rounds: int) -> GaussianMixture:
    var = ((x.max() - x.min()) / 4) ** 2 + LEAST
    model = GaussianMixture(
        2, weights_init=[0.5, 0.5], means_init=[[x.min()], [x.max()]], precisions_init=np.full((2, 1, 1), 1 / var),
        reg_covar=LEAST, max_iter=rounds, tol=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it has not converged
        return model.fit(x[:, None])


@pytest.mark.parametrize(("seed", "rounds"), [(0, 1), (0, 20), (1, 5), (2, 60)])
def test_the_mixture_is_that_of_scikit_learn(seed: int, rounds: int) -> None:
    given = scores(seed)
    found = mixed(given, rounds)
    for c, row in enumerate(given.numpy()):
        model = theirs(row[row > 0], rounds)
        assert found.mean[c].numpy() == pytest.approx(model.means_[:, 0], rel=1e-6)
        assert found.var[c].numpy() == pytest.approx(model.covariances_[:, 0, 0], rel=1e-6)
        assert found.share[c].numpy() == pytest.approx(model.weights_, rel=1e-6)


@pytest.mark.parametrize("strict", [False, True])
def test_the_line_against_a_plain_loop(strict: bool) -> None:
    given = scores(3)
    found = lines(given, 0.5, strict).tolist()
    for c, row in enumerate(given.numpy()):
        x = row[row > 0]
        model, best = theirs(x, 20), (-math.inf, math.inf)
        for s in x.tolist():
            one, two = (
                w * math.exp(-((s - m) ** 2) / (2 * v)) / math.sqrt(v)
                for w, m, v in zip(model.weights_, model.means_[:, 0], model.covariances_[:, 0, 0], strict=True)
            )
            if two > one and s > model.means_[0, 0]:
                best = max(best, (one + two if strict else -s, s))
        assert found[c] == pytest.approx(best[1], rel=1e-9)
    assert found[0] == pytest.approx(0.7, abs=0.05) if strict else 0.25 < found[0] < 0.6


def test_few_equal_and_no_scores() -> None:
    given = torch.zeros(4, 10)
    given[1, : FEW - 1] = torch.tensor([0.1, 0.9, 0.8])
    given[2, :6] = 0.4
    given[3, : FEW] = torch.tensor([0.1, 0.1, 0.1, 0.9])
    found = lines(given, 0.5)
    assert found[:2].tolist() == [0.5, 0.5] and found[2] == math.inf and found[3] == pytest.approx(0.9)
    assert all(t.isfinite().all() for t in mixed(given))
