"""Registered methods on the stand: FixMatch, LayerMatch, and wrappers around them, trained, killed and resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from modicum.core import registry
from modicum.core.recipe import Recipe
from modicum.engine.choose import compose

from .conftest import RECIPE, Stand

SET: dict[str, Any] = {"mu": 2, "trust": "fixed:tau=0.5"}


@pytest.mark.parametrize("wraps", [(), ("ema:decay=0.8",)])
def test_it_trains_and_resumes(shapes: Stand, proves: Callable[..., Any], wraps: tuple[str, ...]) -> None:
    loop, losses = proves(shapes, compose("fixmatch", SET, Recipe(wraps=wraps)))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert shapes.accuracy(loop.method.deliver(loop.nets)) > 0.6


def test_layermatch_trains_and_resumes(shapes: Stand, proves: Callable[..., Any]) -> None:
    given = {**SET, "clustering": "head", "average": 0.9}
    loop, losses = proves(shapes, compose("layermatch", given, Recipe(wraps=())))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert shapes.accuracy(loop.method.deliver(loop.nets)) > 0.6


def test_imwa_around_ema_around_fixmatch_trains_and_resumes(shapes: Stand, proves: Callable[..., Any]) -> None:
    wraps = ("ema:decay=0.8", "imwa:models=2,episodes=3")
    loop, losses = proves(shapes, compose("fixmatch", SET, RECIPE.but(wraps=wraps)), steps=18)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert shapes.accuracy(loop.method.deliver(loop.nets)) > 0.6


def test_imwa_lanes_differ_in_an_episode_and_their_momenta_are_averaged_after_it(shapes: Stand) -> None:
    method = compose("supervised", {}, RECIPE.but(wraps=("imwa:models=2,episodes=3",)))
    before, _ = shapes.run(method, kill=12, steps=18)
    after, _ = shapes.run(method, kill=13, steps=18)
    first, second = (before.nets[f"copy{m}"]["net"].head.weight for m in (0, 1))
    assert not first.equal(second)
    momenta = [o.state_dict()["state"][0]["momentum_buffer"] for (o,) in after.optimisers.values()]
    assert not momenta[0].equal(momenta[1]), "lane 0 has gone on, lane 1 holds the mean"
    trains = [i for i, p in enumerate(after.program) if hasattr(p, "turns")]
    assert [after.clock(after.program[i], i, 0).done for i in trains] == [0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3]  # type: ignore[arg-type]


def test_without_weight_the_unlabelled_stream_is_not_drawn(shapes: Stand) -> None:
    method = registry.load("fixmatch").of({**SET, "weight": 0.0})
    assert list(method.program(shapes.info(shapes.recipe))[0].streams) == ["l"]
