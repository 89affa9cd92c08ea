"""Settings: what is written is read back; what does not fit is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from modicum.core.errors import SettingsError
from modicum.core.recipe import Recipe, parse_call
from modicum.core.settings import Settings, knob, ranges, within
from modicum.engine.request import Request


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
    up=st.floats(0, allow_nan=False, allow_infinity=False), words=st.lists(st.text(max_size=5), max_size=3).map(tuple),
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


# -- values from outside -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["nan", "NaN", "inf", "-inf", "Infinity", "1e309", "-1e309", "0x1p0", "1_0", "٠.٥", "１", "", " ", "0.5x", "true",
     float("nan"), float("inf"), 10**400, True, None, [], {}, 1j, b"1"],
)  # fmt: skip
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(SettingsError):
        Toy.of({"up": value})


@pytest.mark.parametrize(
    "value",
    ["1.0", "1e1", "1_0", "٣", "３", "0x10", "", "-", "+", "9" * 30, "9" * 5000, "-" + "9" * 30, 10**30, 1.0, True,
     None, []],
)  # fmt: skip
def test_what_is_no_whole_number_of_64_bits_is_refused(value: object) -> None:
    with pytest.raises(SettingsError):
        Toy.of({"steps": value})


@pytest.mark.parametrize(
    "given",
    [{"inner": "5"}, {"inner": 5}, {"inner": None}, {"table": "x"}, {"table": [1]}, {"table": {"k": "x"}}, {"words": 5},
     {"words": [1]}, {"words": None}, {"mode": ["a"]}, {"on": None}, {1: 2}, {"": 1}, [], "steps", 3, None],
)  # fmt: skip
def test_what_has_another_shape_is_refused(given: object) -> None:
    with pytest.raises(SettingsError):
        Toy.of(given)  # type: ignore[arg-type]


def test_numbers_of_other_libraries_are_numbers() -> None:
    toy = Toy.of({"steps": np.int32(7), "tau": np.float32(0.5), "up": np.int64(3)})
    assert (toy.steps, toy.tau, toy.up) == (7, 0.5, 3.0) and type(toy.steps) is int and type(toy.tau) is float


@pytest.mark.parametrize("path", ["", ".", "inner.", "inner.share.deep", "steps.x", "table", "table.none", "table.k.x",
                                  "inner", "words.0", "table.k.share.y", "a" * 10_000])  # fmt: skip
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Toy(table={"k": Inner()}).at(path, "x")
    assert len(str(caught.value)) < 400


def test_a_path_into_plain_words_is_refused() -> None:
    with pytest.raises(SettingsError, match="has no parts"):
        Words(table={"a": "b"}).at("table.a.b", "x")
    assert Words(table={"a": "b"}).at("table.a", "c").table == {"a": "c"}


@dataclass(frozen=True)
class Words(Settings):
    table: Mapping[str, str] = field(default_factory=dict)


@pytest.mark.parametrize("text", ["a:b=1,b=2", "a:b", "a:b=", "a:=1", "a:=", "a:b==,", "a:" + "x" * 9999])
def test_a_call_that_is_none_is_refused(text: str) -> None:
    if text == "a:b==,":
        assert parse_call(text) == ("a", {"b": "="})
        return
    with pytest.raises(SettingsError) as caught:
        parse_call(text)
    assert len(str(caught.value)) < 400


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary(max_size=4)
    | st.sampled_from(["1e309", "nan", "٣", "a+b", "9" * 40, "true", "sgd", "ema:decay=2", "0.5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
NAMES = st.sampled_from(
    [*(f.name for f in fields(Toy)), *(f.name for f in fields(Recipe)), *(f.name for f in fields(Request))]
)
PATHS = st.lists(NAMES | st.sampled_from(["weak", "lr", "rotate", "k"]) | st.text(max_size=5), max_size=4).map(".".join)


def only_settings_errors(given: dict[str, object], path: str, value: object, text: str) -> None:
    """What is accepted can be written as JSON and read back the same."""
    for kind in (Toy, Recipe, Request):
        try:
            made = kind.of({k: v for k, v in given.items() if k in {f.name for f in fields(kind)}})
            made = made.at(path, value)
        except SettingsError as error:
            assert len(str(error)) < 1000
            continue
        assert kind.of(json.loads(json.dumps(made.to_dict(), allow_nan=False))) == made
    try:
        name, settings = parse_call(text)
        assert all(isinstance(v, str) for v in settings.values()) and name == name.strip()
    except SettingsError as error:
        assert len(str(error)) < 1000


TEXTS = st.text(max_size=30) | st.from_regex(r"[a-z-]{1,5}:([a-z]{1,2}=[0-9.e]{0,3},?){0,3}", fullmatch=True)


@given(st.dictionaries(NAMES, VALUES, max_size=3), PATHS, VALUES, TEXTS)
def test_any_settings(given: dict[str, object], path: str, value: object, text: str) -> None:
    only_settings_errors(given, path, value, text)


@pytest.mark.slow
@limits(max_examples=5000, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=3), PATHS, VALUES, TEXTS)
def test_many_settings(given: dict[str, object], path: str, value: object, text: str) -> None:
    only_settings_errors(given, path, value, text)


def test_a_request_takes_values_and_keeps_words() -> None:
    made = Request.of({"settings": {"mu": 7, "tau": 0.5, "on": True}, "recipe": {"wraps": ["ema", "swa"]}})
    assert made.settings == {"mu": "7", "tau": "0.5", "on": "true"} and made.recipe == {"wraps": "ema+swa"}
    with pytest.raises(SettingsError):
        Request.of({"settings": {"mu": None}})


def test_ranges_are_what_a_part_tells_while_it_is_made() -> None:
    def make(tau: float = 0.5) -> list[float]:
        inner = ranges(lambda: within("trust inner.k", 1, 0, 1))
        assert inner == {"k": (0, 1)}
        return [within("trust toy.tau", tau, 0, 1), within("trust toy.share", 2, 1, 3)]

    assert ranges(make) == {"tau": (0, 1), "share": (1, 3)}
    with pytest.raises(SettingsError, match="Allowed: 0 to 1"):
        ranges(lambda: make(2))
    assert make() == [0.5, 2]  # nobody listens, also after a refusal
    assert ranges(lambda: None) == {}
