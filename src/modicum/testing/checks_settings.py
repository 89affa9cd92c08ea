"""Laws of the settings: they survive JSON, refuse what is wrong by name, and work at both ends of their ranges."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from modicum.core import registry
from modicum.core.errors import ModicumError, SettingsError
from modicum.core.recipe import parse_call
from modicum.core.settings import Knob
from modicum.testing.case import Case, losses
from modicum.testing.results import ALL, TRAINS, NotForItError, check, demand
from modicum.testing.trial import Trial


def knobs(case: Case) -> dict[str, tuple[Any, Knob]]:
    """The method's settings; NotForItError where it has none."""
    found: dict[str, tuple[Any, Knob]] = case.cls.knobs()
    if not found:
        raise NotForItError
    return found


@check("settings round trip", ALL, "A setting is not plain JSON, or is changed on the way in.")
def round_trip(case: Case) -> None:
    """Settings come back unchanged from JSON and from the words of a command line."""
    method = case.method()
    given = {k: v for k, v in json.loads(json.dumps(method.to_dict())).items() if k != "inner"}
    demand(case.method(**given) == method, f"settings come back from JSON as {given}")
    plain = {k: v for k, v in given.items() if isinstance(v, (str, int, float))}
    words = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in plain.items()}
    demand(case.method(**words) == method, f"settings given as words, as on a command line, are others: {words}")


@check("bad settings", ALL, "A knob has no range or choices, or values are checked without naming the field.")
def bad_settings(case: Case) -> None:
    """Unknown names and values out of range are refused by name."""
    for name, (default, rule) in knobs(case).items():
        for value in _wrong(default, rule):
            try:
                case.method(**{name: value})
            except SettingsError as error:
                demand(name in str(error), f"{name}={value!r} is refused without naming {name}: {error.found}")
            else:
                demand(False, f"{name}={value!r} is not refused")
    try:
        case.method(no_such_setting=1)
    except SettingsError as error:
        demand("no_such_setting" in str(error), "an unknown setting is not named")
    else:
        demand(False, "an unknown setting is accepted")


def _wrong(default: Any, rule: Knob) -> Iterator[Any]:
    if rule.choices:
        yield "no-such-choice"
    if rule.low is not None:
        yield type(default)(rule.low - 1)
    if rule.high is not None:
        yield type(default)(rule.high + 1)
    if isinstance(default, (int, float)):
        yield "seven"
    if isinstance(default, float):
        yield math.nan


@check("range ends", ALL, "A value that the range allows breaks the method: narrow the range or handle it.")
def range_ends(case: Case) -> str:
    """Both ends of every range and each choice work, or are refused with a ModicumError."""
    said, tried = [], values(knobs(case))
    work = Trial(case) if case.role in TRAINS else lambda _, method: case.exercise(method)
    for name, value in tried:
        try:
            work(name, case.method(**{name: value}))
        except ModicumError as error:
            said.append(f"{name}={value!r} is refused: {error.found}")
        except Exception as error:
            raise AssertionError(f"{name}={value!r}: {type(error).__name__}: {error}") from error
    return "; ".join(said)


def values(found: Mapping[str, tuple[Any, Knob]]) -> list[tuple[str, Any]]:
    """Names of settings with the ends of their ranges, and their choices, without defaults."""
    out = []
    for name, (default, rule) in found.items():
        ends = [*rule.choices, *(type(default)(v) for v in (rule.low, rule.high) if v is not None)]
        tried = (False, True) if isinstance(default, bool) else ends
        out += [(name, value) for value in tried if value != default]
    return out


@check("presets", ALL, "A preset or recipe names a setting that is gone, or does not run.")
def presets(case: Case) -> None:
    """Every preset and recipe builds, takes two steps, and gives a program that is a pure function."""
    for preset in ("paper", "small"):
        demand(preset in case.cls.presets, f"there is no preset {preset!r}")
        demand(case.card.role not in TRAINS or preset in case.cls.recipes, f"there is no recipe {preset!r}")
    for preset in {**case.cls.presets, **(case.cls.recipes if case.card.role in TRAINS else {})}:
        method = case.method(preset)
        if case.card.role not in TRAINS:
            continue
        loop = case.loop(method=method, recipe=case.recipe(2, 2, preset))
        found, info = losses(loop), loop.info
        demand(all(map(math.isfinite, found)), f"preset {preset!r}: losses {found}")
        demand(method.program(info) == method.program(info), "the program is not a pure function of settings and info")
        for text in case.cls.recipes[preset].wraps if preset in case.cls.recipes else ():
            name, given = parse_call(text)
            demand(registry.card(name).role == "wrap", f"recipe {preset!r} wraps with {name!r}, which is no wrapper")
            registry.load(name).of({**given, "inner": method})
