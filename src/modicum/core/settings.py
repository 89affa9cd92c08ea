"""Settings: frozen, typed, strict dataclasses whose ranges stand beside their defaults.

One field gives the command line's `--set`, the validation, the row in the docs, the search range and the JSON form.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
import re
import typing
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self

from modicum.core.errors import SettingsError, did_you_mean

_WHOLE = re.compile(r"[+-]?[0-9]{1,400}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLS = {"true": True, "false": False}
_EXAMPLE = {int: "it as in 8", float: "it as in 0.5", bool: "true or false", str: "a word"}


@dataclass(frozen=True, slots=True)
class Knob:
    """Range, choices, unit and one sentence of a setting.  `low` and `high` are inclusive."""

    doc: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""

    def refuse(self, value: Any) -> str:
        """Why the value is not allowed; '' if it is."""
        if self.choices and value not in self.choices:
            return did_you_mean(str(value), self.choices)
        if (self.low is not None and not value >= self.low) or (self.high is not None and not value <= self.high):
            return f"Allowed: {self.range}."
        return ""

    @property
    def range(self) -> str:
        """`0 to 1`, `at least 0`, `a, b or c`, or ''."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return (
            f"at least {self.low:g}"
            if self.low is not None
            else f"at most {self.high:g}"
            if self.high is not None
            else ""
        )


def knob(
    default: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    doc: str,
    unit: str = "",
    choices: tuple[str, ...] = (),
) -> Any:
    """A setting: `tau: float = knob(0.95, 0, 1, doc="least confidence of a pseudo-label")`."""
    return field(default=default, metadata={"knob": Knob(doc, low, high, tuple(choices), unit)})


@functools.cache
def _types(cls: Any) -> dict[str, Any]:
    """The types of the fields.  Other annotations are left alone: they may name what is imported for checkers only."""
    names, out = {f.name for f in dataclasses.fields(cls)}, {}
    for base in reversed(cls.__mro__):
        own = {n: t for n, t in inspect.get_annotations(base).items() if n in names}
        out.update(
            typing.get_type_hints(type(base.__name__, (), {"__annotations__": own, "__module__": base.__module__}))
        )
    return out


def fit(value: Any, kind: Any, where: str) -> Any:
    """The value as a type that may be annotated, or SettingsError.  Words are read as the type (from the command line).

    Whole numbers have 64 bits, others are finite, digits are those of ASCII.
    """
    origin = typing.get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, Settings):
        return value if isinstance(value, kind) else kind.of(value, where=where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _no_group(value, where)
        return {str(k): fit(v, typing.get_args(kind)[1], f"{where}.{k}") for k, v in value.items()}
    if origin is tuple:
        if not isinstance(value, str | list | tuple):
            raise SettingsError(f"{shown(value)} is not a list", where=where, fix="Write words joined by +.")
        items = [v for v in value.split("+") if v] if isinstance(value, str) else value
        return tuple(fit(v, typing.get_args(kind)[0], where) for v in items)
    if kind not in (int, float, bool, str):
        return value
    found = _scalar(value, kind)
    if found is None:
        raise SettingsError(f"{shown(value)} is not {_plain(kind)}", where=where, fix=f"Write {_EXAMPLE[kind]}.")
    if (kind is int and not -(2**63) <= found < 2**63) or (kind is float and not math.isfinite(found)):
        raise SettingsError(f"{shown(value)} is too large", where=where, fix="Write a smaller number.")
    return found


def _scalar(value: Any, kind: type) -> Any:
    """A word or a number as int, float, bool or str; None if it is not one."""
    text = value.strip() if isinstance(value, str) else None
    if kind is str:
        return value if text is not None else None
    if kind is bool:
        return _BOOLS.get(text.lower()) if text is not None else value if isinstance(value, bool) else None
    if text is not None:
        value = kind(text) if (_WHOLE if kind is int else _NUMBER).fullmatch(text) else None
    elif isinstance(value, bool) or not isinstance(value, numbers.Integral if kind is int else numbers.Real):
        return None
    try:
        return None if value is None or value != value else kind(value)
    except OverflowError:
        return math.inf


def _no_group(value: Any, where: str) -> SettingsError:
    fix = f"Write {where.partition('.')[2] or where}.NAME=VALUE."
    return SettingsError(f"{shown(value)} is not a group of settings", where=where, fix=fix)


def shown(value: Any) -> str:
    """A value as an error shows it: at most 60 characters."""
    text = repr(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[kind]


@dataclass(frozen=True)
class Settings:
    """Base of everything that is set: `of` reads a mapping strictly, `to_dict` gives it back."""

    def __post_init__(self) -> None:
        kinds = _types(type(self))  # type: ignore[arg-type]
        for f in dataclasses.fields(self):
            value = fit(getattr(self, f.name), kinds[f.name], f"{type(self).__name__}.{f.name}")
            object.__setattr__(self, f.name, value)
            rule: Knob | None = f.metadata.get("knob")
            refused = rule.refuse(value) if rule else ""
            if refused:
                where = f"{type(self).__name__}.{f.name}"
                raise SettingsError(f"{shown(value)} is not allowed", where=where, fix=refused)

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str = "") -> Self:
        """Settings from a mapping; unknown names, wrong types and values out of range are refused by name."""
        known, where = {f.name for f in dataclasses.fields(cls)}, where or cls.__name__
        if not isinstance(given, Mapping):
            raise _no_group(given, where)
        for key in map(str, given):
            if key not in known:
                raise SettingsError(f"unknown setting {shown(key)}", where=where, fix=did_you_mean(key[:60], known))
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {f.name: _plain_value(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def but(self, **changes: Any) -> Self:
        """A copy with some settings changed."""
        return dataclasses.replace(self, **changes)

    def at(self, path: str, value: Any) -> Self:
        """A copy with one setting, however deep, changed: `recipe.at("optim.lr", 0.01)`."""
        name, _, rest = path.partition(".")
        known = [f.name for f in dataclasses.fields(self)]
        if name not in known:
            fix = did_you_mean(name[:60], known)
            raise SettingsError(f"unknown setting {shown(name)}", where=type(self).__name__, fix=fix)
        inner = getattr(self, name)
        if rest and isinstance(inner, Mapping):
            entry, _, deeper = rest.partition(".")
            if entry not in inner:
                fix = did_you_mean(entry[:60], inner)
                raise SettingsError(f"no {shown(entry)} in {name}", where=type(self).__name__, fix=fix)
            if deeper and not isinstance(inner[entry], Settings):
                fix = f"Write {name}.{entry[:60]}=VALUE."
                raise SettingsError(f"{shown(entry)} has no parts", where=f"{type(self).__name__}.{name}", fix=fix)
            return self.but(**{name: {**inner, entry: inner[entry].at(deeper, value) if deeper else value}})
        if rest and not isinstance(inner, Settings):
            raise SettingsError(f"{name!r} has no parts", where=type(self).__name__, fix=f"Write {name}=VALUE.")
        return self.but(**{name: inner.at(rest, value) if rest else value})

    @classmethod
    def knobs(cls) -> dict[str, tuple[Any, Knob]]:
        """name -> (default, Knob), in order."""
        return {f.name: (f.default, f.metadata["knob"]) for f in dataclasses.fields(cls) if "knob" in f.metadata}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {k: _plain_value(v) for k, v in value.items()}
    return [_plain_value(v) for v in value] if isinstance(value, tuple) else value


_heard: ContextVar[dict[str, tuple[float, float]] | None] = ContextVar("heard", default=None)


def within(where: str, value: float, low: float, high: float) -> float:
    """The value of a part's knob, if it lies in [low, high]; else a SettingsError that says what is allowed.

    where: ends in `.KNOB`.
    """
    if (heard := _heard.get()) is not None:
        heard[where.rpartition(".")[2]] = (low, high)
    if not low <= value <= high:
        raise SettingsError(f"{value!r} is not allowed", where=where, fix=f"Allowed: {low:g} to {high:g}.")
    return value


def ranges(make: Callable[[], object]) -> dict[str, tuple[float, float]]:
    """Knob -> (least, most) of what `make` makes, as it tells `within`: the docs and the checks of parts read it."""
    found: dict[str, tuple[float, float]] = {}
    before = _heard.set(found)
    try:
        make()
    finally:
        _heard.reset(before)
    return found
