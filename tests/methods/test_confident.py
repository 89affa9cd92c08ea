"""Confident predictions label what is above the threshold, open, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modicum.core.dataset import MODEL, Table
from modicum.methods.guess.confident import Confident

from .toy import logits_of

PROBS = [[0.97, 0.02, 0.01], [0.5, 0.3, 0.2], [0.02, 0.97, 0.01], [0.94, 0.05, 0.01], [0.0, 0.0, 1.0]]


def test_open_and_sure_rows_get_a_class_with_its_confidence() -> None:
    table = logits_of(PROBS, [-1, -1, 0, -1, -1])
    delta = Confident().label(table)
    after = table.data + delta
    assert after.cls.tolist() == [0, -1, 0, -1, 2]
    assert delta.annotations["confidence"].to_numpy() == pytest.approx([0.97, 1.0]) and set(delta.who()) == {MODEL}


def test_the_threshold_is_inclusive_and_its_ends_work() -> None:
    table = logits_of([[0.5, 0.5], [1.0, 0.0], [0.4, 0.6]])
    assert (table.data + Confident(least=0.0).label(table)).cls.tolist() == [0, 0, 1]
    assert (table.data + Confident(least=1.0).label(table)).cls.tolist() == [-1, 0, -1]
    assert len(Confident().label(logits_of([[0.5, 0.5]])).annotations) == 0


def test_temperature_is_that_of_the_logits() -> None:
    table = logits_of([[0.8, 0.2]])
    hot = Confident(least=0.5, temperature=2.0).label(table).annotations["confidence"].to_numpy()[0]
    assert hot == pytest.approx(0.8**0.5 / (0.8**0.5 + 0.2**0.5))


def test_rows_of_a_table_and_outputs_that_are_not_finite() -> None:
    table = logits_of(PROBS)
    part = Table(table.data, np.array([4, 2]), {"logits": table.columns["logits"][[4, 2]]})
    assert (table.data + Confident().label(part)).cls.tolist() == [-1, -1, 1, -1, 2]
    broken = replace(table, columns={"logits": np.full((5, 3), np.nan)})
    assert (table.data + Confident().label(broken)).cls.tolist() == [-1] * 5
