"""FixMatch, the registered one: guesses on a weak view teach the strong view; alone, and inside the EMA wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from modicum.core import registry
from modicum.core.recipe import Recipe
from modicum.engine.choose import compose

from .conftest import Stand

SET: dict[str, Any] = {"mu": 2, "trust": "fixed:tau=0.5"}


@pytest.mark.parametrize("wraps", [(), ("ema:decay=0.8",)])
def test_it_trains_and_resumes(shapes: Stand, proves: Callable[..., Any], wraps: tuple[str, ...]) -> None:
    loop, losses = proves(shapes, compose("fixmatch", SET, Recipe(wraps=wraps)))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert shapes.accuracy(loop.method.deliver(loop.nets)) > 0.6


def test_without_weight_the_unlabelled_stream_is_not_drawn(shapes: Stand) -> None:
    method = registry.load("fixmatch").of({**SET, "weight": 0.0})
    assert list(method.program(shapes.info(shapes.recipe))[0].streams) == ["l"]
