"""Rows by words, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from modicum.core.dataset import Dataset
from modicum.core.errors import SettingsError

CLS = np.array([0, -1, 1, -1, 0])
SPLIT = ["train", "train", "test", "", "train"]
TRUST = np.array([0.1, 0.5, 0.9, 0.5, 1.0])


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset.build(
        [f"{i}.png" for i in range(5)], ["a", "b"], cls=CLS, split=SPLIT, domain=["", "source", "", "source", ""],
        columns={"trust": TRUST, "probs": np.array([[np.nan] * 2, [0.3, 0.7], [np.nan] * 2, [np.nan] * 2, [1, 0]])},
    )  # fmt: skip


@pytest.mark.parametrize(
    "expression, rule",
    [
        ("all", lambda i: True), ("", lambda i: True), ("class", lambda i: CLS[i] >= 0),
        ("~class", lambda i: CLS[i] < 0),
        ("labelled", lambda i: CLS[i] >= 0 or i == 1), ("probs", lambda i: i in (1, 4)),
        ("split:train & class", lambda i: SPLIT[i] == "train" and CLS[i] >= 0),
        ("split:train & ~class", lambda i: SPLIT[i] == "train" and CLS[i] < 0),
        ("@source", lambda i: i in (1, 3)), ("~@source", lambda i: i not in (1, 3)),
        ("domain:source", lambda i: i in (1, 3)),
        ("trust > 0.5", lambda i: TRUST[i] > 0.5), ("trust>=5e-1", lambda i: TRUST[i] >= 0.5),
        ("trust == 0.5 & class", lambda i: False), ("~trust <= .5", lambda i: TRUST[i] > 0.5),
        ("trust > -1", lambda i: True), ("split:", lambda i: SPLIT[i] == ""),
        ("image", lambda i: True), ("boxes", lambda i: False),
    ],
)  # fmt: skip
def test_expressions_against_loops(data: Dataset, expression: str, rule: object) -> None:
    assert data.rows(expression).tolist() == [i for i in range(5) if rule(i)]  # type: ignore[operator]


@pytest.mark.parametrize(
    "bad, says", [("clas", "clas"), ("trst > 1", "'trust'"), ("class |", "class |"), ("spit:train", "spit")]
)
def test_a_bad_term_is_named(data: Dataset, bad: str, says: str) -> None:
    with pytest.raises(SettingsError) as error:
        data.rows(bad)
    assert says in str(error.value)
