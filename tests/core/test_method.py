"""Roles: what a method is by default, and what it refuses to be."""

from __future__ import annotations

import pytest

from modicum.core import registry
from modicum.core.errors import SettingsError
from modicum.core.method import Learn, Wrap


def test_a_wrapper_without_a_method_says_how_to_name_one() -> None:
    with pytest.raises(SettingsError, match=r"ema wraps another method[\s\S]*wraps=ema"):
        registry.make("ema")
    with pytest.raises(SettingsError, match="wrap wraps another method"):
        Wrap()
    assert Wrap(inner=Learn()).but(inner=Learn()).inner == Learn()
