"""What `fit` would choose: situations are what they say they are, and the table is the planner's word."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modicum.core import registry

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import choices


@pytest.fixture(scope="module")
def found() -> list[choices.Choice]:
    return list(choices.choices())


@pytest.mark.parametrize(("labels", "tail"), [(1, 1), (10, 10), (100, 100), (25, 10), (1000, 100)])
def test_labels_fall_off_as_said(labels: int, tail: int) -> None:
    data = choices._data(labels, tail, True)
    counts = data.counts().tolist()
    assert max(counts) == labels and labels / tail <= min(counts) < labels / tail + 1
    assert counts == sorted(counts, reverse=True) and len(data) == sum(counts) * (1 + choices.LACK)


def test_situations_have_the_traits_that_they_are_about(found: list[choices.Choice]) -> None:
    for c in found:
        assert ("tail" in c.traits) == (c.tail > 10) and ("tiny" in c.traits) == (c.side <= 64)
        assert ("full" in c.traits) != c.unlabelled and ("few" not in c.traits or c.unlabelled)
        if c.unlabelled and c.tail == 1:
            assert ("few" in c.traits) == (c.labels < 100)


def test_each_row_of_the_table_is_a_choice(found: list[choices.Choice]) -> None:
    for without, labels, side, time, *cells in choices.table(found):
        for number, cell in zip(choices.LABELS, cells, strict=True):
            here = [
                c for c in found
                if (c.labels, c.unlabelled) == (number, without != "none")
                and labels == ("balanced" if c.tail == 1 else f"1:{c.tail}")
                and (side == "any" or str(c.side) in side.split(", "))
                and time in ("any", "short" if c.steps else "enough")
            ]  # fmt: skip
            assert {" > ".join(c.names) for c in here} == ({cell} if cell else set())


def test_a_card_that_needs_time_and_suits_a_side_splits_rows(
    found: list[choices.Choice], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(registry._found())
    card, module, path = known["bis"]
    changed = replace(card, suits=("few", "tiny", "tail"), least={"class": 1, "step": 1000})
    monkeypatch.setattr(registry, "_found", lambda: {**known, "bis": (changed, module, path)})
    other = list(choices.choices())
    assert len(choices.table(other)) > len(choices.table(found)) and len(other) == len(found)
    for c in other:
        assert c.steps == 0 or c.names != ("bis",)
    assert any(c.names == ("bis",) for c in other if c.side == 28)
    assert {row[1] for row in choices.reasons(other)} >= {"enough", "short"}
