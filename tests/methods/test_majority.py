"""Majority vote against a loop over images."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modicum.methods.crowd.majority import Majority

from .toy import everything, voted

T, C = 6, 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, T - 1), st.integers(0, 4), st.integers(0, C - 1)), min_size=1, max_size=30))
def test_against_a_loop(votes: list[tuple[int, int, int]]) -> None:
    task, annotator, label = (np.array(v) for v in zip(*votes))
    data = voted(task, annotator, label, T, C)
    after = data + Majority().label(everything(data))
    overall = Counter(label.tolist())
    for t in range(T):
        mine = Counter(k for s, _, k in votes if s == t)
        if not mine:
            assert after.cls[t] == -1 and np.isnan(after.columns["probs"][t]).all() and not after.columns["tied"][t]
            continue
        best = [k for k in range(C) if mine[k] == max(mine.values())]
        assert after.cls[t] == max(best, key=lambda k: (overall[k], -k))
        assert bool(after.columns["tied"][t]) == (len(best) > 1)
        wanted = [mine[k] / sum(mine.values()) for k in range(C)]
        assert after.columns["probs"][t].tolist() == pytest.approx(wanted)


def test_smoothing_adds_votes() -> None:
    data = voted(np.array([0, 0, 0]), np.array([0, 1, 2]), np.array([1, 1, 0]), 1, 2)
    probs = Majority(smoothing=0.5).label(everything(data)).columns["probs"]
    assert probs[0].tolist() == pytest.approx([1.5 / 4, 2.5 / 4])
