"""Selections: the budget, distinct, open, best first; k-centre against a plain loop and within twice the best cover."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modicum.core import registry
from modicum.core.dataset import MODEL, Dataset, Table
from modicum.core.errors import DataError, NeedsError, SettingsError
from modicum.methods.active import k_centre

from .toy import logits_of

NAMES = tuple(registry.cards("select"))


def made(n: int = 20, cls: np.ndarray | None = None, seed: int = 0, d: int = 3) -> Table:
    rng = np.random.default_rng(seed)
    data = Dataset.build([f"{i}.png" for i in range(n)], ["a", "b"], cls=cls)
    columns = {"logits": rng.normal(size=(n, 2)), "features": rng.normal(size=(n, d)) + 5}
    return Table(data, np.arange(n), columns)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [0, 1, 5, 14])
def test_the_budget_distinct_and_open(name: str, budget: int) -> None:
    cls = np.where(np.arange(20) % 4 == 0, 1, -1)
    cls[1] = 0
    table = made(cls=cls)
    chosen = registry.make(name).select(table, budget, rng())
    assert chosen.dtype == np.int64 and chosen.shape == (budget,) and len(set(chosen.tolist())) == budget
    assert (cls[chosen] < 0).all()
    assert np.array_equal(chosen, registry.make(name).select(table, budget, rng()))


@pytest.mark.parametrize("name", NAMES)
def test_too_large_a_budget_and_a_negative_one_are_refused(name: str) -> None:
    table = made(cls=np.where(np.arange(20) < 17, 0, -1))
    for budget in (4, -1):
        with pytest.raises(NeedsError, match="3 of 20 have no class from a person") as error:
            registry.make(name).select(table, budget, rng())
        assert "Ask for 0 to 3" in str(error.value)
    assert set(registry.make(name).select(table, 3, rng()).tolist()) == {17, 18, 19}


@pytest.mark.parametrize("name", NAMES)
def test_no_image_and_a_part_of_the_rows(name: str) -> None:
    empty = made(0)
    assert registry.make(name).select(empty, 0, rng()).shape == (0,)
    whole = made(cls=np.where(np.arange(20) < 10, 0, -1))
    rows = np.array([19, 3, 12, 4, 15])
    part = Table(whole.data, rows, {k: v[rows] for k, v in whole.columns.items()})
    assert set(registry.make(name).select(part, 3, rng()).tolist()) == {0, 2, 4}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_model_guessed_is_still_open(name: str) -> None:
    table = made(4)
    guessed = table.data + table.data.delta_class(np.array([0, 0, 1, 1]), source="m", who=MODEL)
    assert len(registry.make(name).select(Table(guessed, table.rows, table.columns), 4, rng())) == 4


def test_random_sample_reaches_every_image_alike() -> None:
    table, draw, method = made(5, cls=np.array([0, -1, -1, -1, -1])), rng(), registry.make("random-sample")
    seen = np.bincount(np.concatenate([method.select(table, 2, draw) for _ in range(2000)]), minlength=5)
    assert seen[0] == 0 and np.abs(seen[1:] / 1000 - 1).max() < 0.12


@pytest.mark.parametrize("score", ["entropy", "margin", "least-confidence"])
def test_uncertainty_sampling_takes_the_least_certain_first(score: str) -> None:
    table = logits_of([[0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0.6, 0.3, 0.1], [0.34, 0.33, 0.33]], [-1, 0, -1, -1])
    assert registry.make("uncertainty-sampling", {"score": score}).select(table, 3, rng()).tolist() == [3, 2, 0]


def test_measures_differ_where_they_should() -> None:
    table = logits_of([[0.5, 0.49, 0.01], [0.6, 0.2, 0.2]])
    for score, first in (("entropy", 1), ("margin", 0)):
        assert registry.make("uncertainty-sampling", {"score": score}).select(table, 1, rng()).tolist() == [first]
    with pytest.raises(SettingsError, match="energy"):
        registry.make("uncertainty-sampling", {"score": "energy"})


def test_equals_are_drawn_by_lot_and_rows_without_output_come_last() -> None:
    table = logits_of([[0.5, 0.5]] * 6)
    method = registry.make("uncertainty-sampling")
    assert {int(method.select(table, 1, np.random.default_rng(s))[0]) for s in range(60)} == set(range(6))
    table.columns["logits"][2] = np.nan
    assert registry.make("uncertainty-sampling").select(table, 6, rng())[-1] == 2


def slow(x: np.ndarray, cls: np.ndarray, budget: int, first: int) -> list[int]:
    centres, chosen = [i for i in range(len(x)) if cls[i] >= 0], []
    if not centres:
        centres, chosen = [first], [first]
    while len(chosen) < budget:
        free = [i for i in range(len(x)) if cls[i] < 0 and i not in chosen]
        far = max(free, key=lambda i: min(sum((x[i] - x[j]) ** 2) for j in centres))
        chosen.append(far)
        centres.append(far)
    return chosen


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 15), st.integers(0, 10**6), st.floats(0, 0.7))
def test_k_centre_is_the_plain_loop(n: int, seed: int, share: float) -> None:
    labels = np.where(np.random.default_rng(seed).random(n) < share, 0, -1)
    labels[0] = -1
    table, budget = made(n, labels, seed), int((labels < 0).sum())
    chosen = registry.make("k-centre").select(table, budget, rng())
    assert chosen.tolist() == slow(table.columns["features"], labels, budget, int(chosen[0]))


def test_k_centre_covers_within_twice_the_best() -> None:
    for seed in range(5):
        table = made(11, None, seed, d=2)
        x = table.columns["features"]
        far = np.linalg.norm(x[:, None] - x[None], axis=2)
        chosen = registry.make("k-centre").select(table, 3, np.random.default_rng(seed))
        best = min(far[:, list(c)].min(1).max() for c in itertools.combinations(range(11), 3))
        assert far[:, chosen].min(1).max() <= 2 * best + 1e-9


def test_k_centre_copies_are_taken_last_and_in_blocks_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.repeat(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 9.0]], np.float32), 3, axis=0)
    table = made(9, np.array([0] + [-1] * 8))
    table.columns["features"] = x
    chosen = registry.make("k-centre").select(table, 8, rng())
    assert chosen[0] in (3, 4, 5) and chosen[1] in (6, 7, 8) and len(set(chosen.tolist())) == 8
    many = made(60, np.where(np.arange(60) % 2, 0, -1))
    whole = registry.make("k-centre").select(many, 10, rng())
    monkeypatch.setattr(k_centre, "BLOCK", 50)
    assert np.array_equal(whole, registry.make("k-centre").select(many, 10, rng()))


def test_k_centre_names_a_row_whose_features_are_not_finite() -> None:
    table = made()
    table.columns["features"][3, 1] = np.inf
    with pytest.raises(DataError, match="row 3"):
        registry.make("k-centre").select(table, 2, rng())
