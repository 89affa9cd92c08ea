"""Settings: what is written is read back; what does not fit is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modicum.core.errors import SettingsError
from modicum.core.settings import Settings, knob


@dataclass(frozen=True)
class Inner(Settings):
    share: float = knob(0.5, 0, 1, doc="a share")


@dataclass(frozen=True)
class Toy(Settings):
    steps: int = knob(10, 1, 100, doc="steps")
    tau: float = knob(0.95, 0, 1, doc="threshold")
    on: bool = knob(True, doc="switch")
    mode: str = knob("a", doc="mode", choices=("a", "bee"))
    up: float = knob(1.0, 0, doc="only a lower bound")
    words: tuple[str, ...] = ("x",)
    inner: Inner = Inner()
    table: Mapping[str, Inner] = field(default_factory=dict)


toys = st.builds(
    Toy, steps=st.integers(1, 100), tau=st.floats(0, 1), on=st.booleans(), mode=st.sampled_from(["a", "bee"]),
    up=st.floats(0, allow_nan=False), words=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    inner=st.builds(Inner, share=st.floats(0, 1)),
    table=st.dictionaries(st.text(max_size=3), st.builds(Inner), max_size=2),
)  # fmt: skip


@given(toys)
def test_round_trip_through_json(toy: Toy) -> None:
    assert Toy.of(json.loads(json.dumps(toy.to_dict()))) == toy


@given(st.integers(1, 100), st.floats(0, 1), st.booleans())
def test_words_from_the_command_line_are_read_as_the_type(steps: int, tau: float, on: bool) -> None:
    toy = Toy.of({"steps": str(steps), "tau": repr(tau), "on": str(on).lower(), "words": "a+b"})
    assert (toy.steps, toy.tau, toy.on, toy.words) == (steps, tau, on, ("a", "b"))


@pytest.mark.parametrize(
    "given, says",
    [
        ({"step": 1}, "Did you mean 'steps'"), ({"steps": 0}, "1 to 100"), ({"steps": 101}, "1 to 100"),
        ({"steps": 1.5}, "a whole number"), ({"steps": True}, "a whole number"), ({"steps": "x"}, "a whole number"),
        ({"tau": 1.01}, "0 to 1"), ({"tau": float("nan")}, "nan"), ({"tau": "high"}, "a number"),
        ({"on": "yes"}, "true or false"), ({"on": 1}, "true or false"), ({"mode": "be"}, "'bee'"),
        ({"mode": 3}, "a word"), ({"up": -1}, "at least 0"), ({"inner": {"share": 2}}, "0 to 1"),
        ({"inner": {"shre": 1}}, "Did you mean 'share'"), ({"table": {"k": {"share": -1}}}, "0 to 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(given: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError) as error:
        Toy.of(given)
    assert says in str(error.value)


def test_both_ends_of_a_range_are_allowed() -> None:
    assert Toy(steps=1, tau=0).steps == 1 and Toy(steps=100, tau=1).tau == 1.0


def test_but_checks_again_and_leaves_the_original() -> None:
    toy = Toy()
    assert toy.but(steps=5).steps == 5 and toy.steps == 10
    with pytest.raises(SettingsError):
        toy.but(steps=0)


def test_whole_numbers_become_fractions_where_the_type_says_so() -> None:
    assert isinstance(Toy(tau=1).tau, float)  # type: ignore[arg-type]


def test_knobs_are_listed_in_order_with_their_ranges() -> None:
    assert {n: k.range for n, (_, k) in Toy.knobs().items()} == {
        "steps": "1 to 100", "tau": "0 to 1", "on": "", "mode": "a, bee", "up": "at least 0",
    }  # fmt: skip
