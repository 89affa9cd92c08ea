"""The recipe: schedules have their known values, calls are read strictly."""

from __future__ import annotations

import math

import pytest

from modicum.core.errors import SettingsError
from modicum.core.recipe import PLAIN, STRONG, Recipe, parse_call


def test_schedules_have_their_known_values() -> None:
    cosine, seven, flat = (Recipe(schedule=s) for s in ("cosine", "cosine-7/16", "constant"))
    assert (
        cosine.lr_factor(0) == 1
        and cosine.lr_factor(1) == pytest.approx(0)
        and cosine.lr_factor(0.5) == pytest.approx(0.5)
    )
    assert seven.lr_factor(1) == pytest.approx(math.cos(7 * math.pi / 16)) and flat.lr_factor(0.9) == 1


@pytest.mark.parametrize("steps, warmup", [(10, 0.15), (100, 0.1), (7, 1.0), (1, 0.5)])
def test_warmup_rises_from_above_zero_to_at_most_one(steps: int, warmup: float) -> None:
    recipe = Recipe(steps=steps, warmup=warmup, schedule="constant")
    factors = [recipe.lr_factor(i / steps) for i in range(steps)]
    assert factors == sorted(factors) and factors[0] > 0 and max(factors) <= 1


def test_weak_views_are_gentler_and_have_no_cutout() -> None:
    weak = STRONG.scaled(0.3)
    assert weak.rotate == pytest.approx(0.3 * STRONG.rotate) and weak.cutout == 0
    assert STRONG.scaled(1.0) == STRONG


def test_flipped_leaves_the_plain_view_alone() -> None:
    views = Recipe().flipped(True).views
    assert views["weak"].flip and views["strong"].flip and views["plain"] == PLAIN


def test_calls() -> None:
    assert parse_call("ema") == ("ema", {})
    assert parse_call("ema: decay=0.9, other = x=y") == ("ema", {"decay": "0.9", "other": "x=y"})
    for bad in ("ema:0.99", "ema:decay=", "ema:=1"):
        with pytest.raises(SettingsError):
            parse_call(bad)
