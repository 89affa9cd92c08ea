"""Settings: frozen, typed, strict dataclasses whose ranges stand beside their defaults.

One field gives the command line's `--set`, the validation, the row in the docs, the search range and the JSON form.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from modicum.core.errors import SettingsError, did_you_mean


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


def _fit(value: Any, kind: Any, where: str) -> Any:
    """The value as its annotated type, or SettingsError.  Strings are read as the type (from the command line)."""
    if isinstance(kind, type) and issubclass(kind, Settings):
        return value if isinstance(value, kind) else kind.of(value, where=where)
    if typing.get_origin(kind) in (dict, Mapping) or getattr(typing.get_origin(kind), "__name__", "") == "Mapping":
        inner = typing.get_args(kind)[1]
        return {k: _fit(v, inner, f"{where}.{k}") for k, v in dict(value).items()}
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        items = [v for v in value.split("+") if v] if isinstance(value, str) else value
        return tuple(_fit(v, inner, where) for v in items)
    if isinstance(value, str) and kind in (int, float, bool):
        try:
            return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            raise SettingsError(f"{value!r} is not {_plain(kind)}", where=where) from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float, bool, str) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise SettingsError(f"{value!r} is not {_plain(kind)}", where=where)
    return value


def _plain(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[kind]


@dataclass(frozen=True)
class Settings:
    """Base of everything that is set: `of` reads a mapping strictly, `to_dict` gives it back."""

    def __post_init__(self) -> None:
        kinds = _types(type(self))  # type: ignore[arg-type]
        for f in dataclasses.fields(self):
            value = _fit(getattr(self, f.name), kinds[f.name], f"{type(self).__name__}.{f.name}")
            object.__setattr__(self, f.name, value)
            rule: Knob | None = f.metadata.get("knob")
            refused = rule.refuse(value) if rule else ""
            if refused or value != value:
                raise SettingsError(f"{value!r} is not allowed", where=f"{type(self).__name__}.{f.name}", fix=refused)

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str = "") -> Self:
        """Settings from a mapping; unknown names, wrong types and values out of range are refused by name."""
        known = {f.name for f in dataclasses.fields(cls)}
        for key in given:
            if key not in known:
                raise SettingsError(
                    f"unknown setting {key!r}", where=where or cls.__name__, fix=did_you_mean(key, known)
                )
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
            raise SettingsError(f"unknown setting {name!r}", where=type(self).__name__, fix=did_you_mean(name, known))
        inner = getattr(self, name)
        if rest and isinstance(inner, Mapping):
            entry, _, deeper = rest.partition(".")
            if entry not in inner:
                raise SettingsError(
                    f"no {entry!r} in {name}", where=type(self).__name__, fix=did_you_mean(entry, inner)
                )
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
