"""Crowd labels: a label step turns votes into probabilities, and the labels-only learner trains on those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from modicum.core import registry
from modicum.core.dataset import Dataset, Table
from modicum.core.kinds import facts
from modicum.engine.choose import compose
from modicum.testing import toy

from .conftest import RECIPE, Stand, stand_of


@pytest.fixture
def crowd() -> Stand:
    world = toy.world(facts("image,votes"))
    return stand_of(world.data, toy.pictures(48)[0], world.truth)


def labelled(data: Dataset) -> Dataset:
    return data + registry.make("dawid-skene").label(Table(data, np.arange(len(data))))


def test_the_chain_trains_and_resumes(crowd: Stand, proves: Callable[..., Any]) -> None:
    data = labelled(crowd.data)
    assert data.version == labelled(crowd.data).version, "a pure function"
    stand = crowd.but(data)
    assert stand.info(RECIPE).labelled == 48
    loop, losses = proves(stand, compose("supervised", {}, RECIPE))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert crowd.accuracy(loop.method.deliver(loop.nets)) > 0.6


def test_votes_reach_a_batch_packed(crowd: Stand) -> None:
    rows = np.array([5, 2])
    votes = next(crowd.feed({}).sweep(rows, 2)).labels.votes
    row, annotator, cls = crowd.data.votes
    assert votes is not None
    for i, r in enumerate(rows):
        mine = votes.image == i
        assert votes.annotator[mine].tolist() == annotator[row == r].tolist()
        assert votes.cls[mine].tolist() == cls[row == r].tolist()
