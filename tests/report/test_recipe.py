"""What the report says of a method's settings, read without importing it."""

from __future__ import annotations

from modicum.core import registry
from modicum.report import recipe


def test_settings_of_a_frame_are_known_too() -> None:
    """FixMatch's own file holds no setting: they stand in the frame that it shares with its kin."""
    found = recipe.knobs("fixmatch")
    assert {n: d for n, (d, _) in found.items()} == registry.load("fixmatch")().to_dict()
    assert all(doc for _, doc in found.values()) and "grad_relu" in recipe.knobs("layermatch")
