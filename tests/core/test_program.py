"""Programs are data: a wrapper's rewriting can be followed name by name."""

from __future__ import annotations

import pytest

from modicum.core.program import Ask, Change, Collect, Info, Stream, Train, Turn, inside

STREAM = Stream("class", 8)


def test_inside_reaches_losses_nets_and_lane() -> None:
    phase = Train({"l": STREAM}, 5, (Turn(), Turn("arch", ("net.head",), "arch")), at="deep")
    out = inside(phase, "inner", "copies.1", lane=3)
    assert [t.loss for t in out.turns] == ["inner.loss", "inner.arch"]
    assert [t.trains for t in out.turns] == [(), ("net.head",)] and [t.group for t in out.turns] == ["main", "arch"]
    assert (out.at, out.lane, out.streams, out.steps) == ("copies.1.deep", 3, {"l": STREAM}, 5)


def test_inside_twice_nests() -> None:
    once = inside(Collect("logits", STREAM, "z"), "inner", "inner")
    twice = inside(once, "inner", "outer")
    assert (twice.fn, twice.at, twice.into) == ("inner.inner.logits", "outer.inner", "z")


def test_inside_keeps_a_lane_unless_told() -> None:
    assert inside(Train({}, 1, lane=2), "i", "i").lane == 2


def test_changes_are_rewritten_and_questions_are_not() -> None:
    assert inside(Change("prune"), "inner", "inner") == Change("inner.prune", at="inner")
    assert inside(Ask("entropy", 60.0), "inner", "inner") == Ask("entropy", 60.0)


@pytest.mark.parametrize("counts, prior", [((1, 3), (0.25, 0.75)), ((0, 0), (0.5, 0.5))])
def test_prior(counts: tuple[int, ...], prior: tuple[float, ...]) -> None:
    assert Info(("a", "b"), counts, 10, sum(counts)).prior == prior
