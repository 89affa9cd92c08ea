"""JSON from outside: parsed strictly, and compared with the form that it should have; and how large a net may be.

A form looks like what it describes: a type (`int`, `float`, `str`, `bool`), `None`, a `range` of whole numbers, a tuple
of alternatives, `object` for anything, `[form]` for a list, `[form, form]` for one of two, `{str: form}` for a table,
`{"key": form}` for an object of exactly these keys; `...: form` allows others.  NAME is a word that can name a file,
LABEL a text that can be shown; another pattern is one of its words, `a|b`.
As in `{"side": range(1, 99), "names": [LABEL], "heat": (float, None)}`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from modicum.core.errors import ModicumError

MOST = 16 * 2**20
"""Bytes of a file that is read where nothing else is said; Python needs up to some 25 times as much memory for it."""
SIZES = {"classes": range(1, 1_000_001), "channels": range(1, 257), "side": range(1, 8193)}
"""What a network may have: whatever a file says beyond is refused before memory is taken."""
NAME = re.compile(r"\w[\w.@+-]{0,199}")
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
LABEL = re.compile("[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*")
NEWER = "It was made by a newer Modicum: update yours (pip install -U modicum)."


def load(path: Path, form: Any, error: type[ModicumError], fix: str, *, format: int = 0, most: int = MOST) -> Any:
    """The content of a JSON file that has the form; `error` with `fix` where it is missing, damaged or another.

    format: the number that must stand under `format`, where it is not 0; a larger one is of a newer Modicum.
    """
    try:
        content = read(path, most)
    except FileNotFoundError:
        raise error(f"{path.name} is missing", where=path.parent, fix=fix) from None
    except (OSError, ValueError) as why:
        raise error(f"{path.name} is damaged: {why}", where=path.parent, fix=fix) from None
    said = content.get("format") if isinstance(content, dict) else None
    if format and type(said) is int and said > format:
        found = f"{path.name} has format {said}, this version reads {format}"
        raise error(found, where=path.parent, fix=NEWER)
    wrong = misfit(content, form) if said == format or not format else f"format is {short(said)}, expected {format}"
    if wrong:
        raise error(f"{path.name} is damaged: {wrong}", where=path.parent, fix=fix)
    return content


def read(path: Path, most: int = MOST) -> Any:
    """The content of a JSON file; OSError, or ValueError with the reason in words."""
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise ValueError(f"it is larger than {most // 2**20} MiB")
    return parse(text)


def parse(text: bytes | str) -> Any:
    """Strict JSON: UTF-8 (a byte order mark is passed over), every key once, finite numbers, integers of 64 bits.

    ValueError says what is wrong.
    """
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8-sig")
        numbers: dict[str, Any] = {"parse_float": _finite, "parse_int": _whole} if _long(plain) else {}
        return json.loads(plain, object_pairs_hook=_once, parse_constant=_refuse, **numbers)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def misfit(value: Any, form: Any, at: str = "") -> str:
    """Where and how a value does not have the form, as `side is -3, expected a whole number, 1 to 99`; '' if it has."""
    if isinstance(form, list):
        if not isinstance(value, list):
            return _wrong(value, "a list", at)
        if len(form) > 1 and len(value) != len(form):
            return _wrong(value, f"a list of {len(form)}", at)
        forms = form if len(form) > 1 else form * len(value)
        return next((w for i, v in enumerate(value) if (w := misfit(v, forms[i], f"{at}[{i}]"))), "")
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return _wrong(value, "an object {...}", at)
        return _keys(value, form, at)
    if isinstance(form, tuple):
        fits = any(not misfit(value, f, at) for f in form)
        if not fits and isinstance(value, dict | list):  # say what is wrong inside
            same = next((f for f in form if isinstance(f, type(value))), None)
            return misfit(value, same, at) if same is not None else _wrong(value, _words(form), at)
        return "" if fits else _wrong(value, _words(form), at)
    return "" if _is(value, form) else _wrong(value, _words(form), at)


def short(value: Any) -> str:
    """A value as a person can be shown it: at most 60 characters."""
    text = json.dumps(value, default=repr) if isinstance(value, bool | None) else repr(value)[:200]
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(value: Mapping[str, Any], form: Mapping[Any, Any], at: str) -> str:
    dot = f"{at}." if at else ""
    if str in form:
        return next((w for k, v in value.items() if (w := misfit(v, form[str], f"{dot}{k[:40]}"))), "")
    for key in [k for k in form if k is not ...] + sorted(value.keys() - form.keys()):
        if key not in value:
            return f"{dot}{key} is missing"
        if key not in form and ... not in form:
            return f"{dot}{key[:40]} is unknown"
        if wrong := misfit(value[key], form[key if key in form else ...], f"{dot}{key[:40]}"):
            return wrong
    return ""


def _is(value: Any, form: Any) -> bool:
    if isinstance(form, range):
        return type(value) is int and value in form
    if form is float:
        return type(value) in (int, float)
    if isinstance(form, re.Pattern):
        return type(value) is str and form.fullmatch(value) is not None
    return form is object or (value is None if form is None else type(value) is form)


def _words(form: Any) -> str:
    if isinstance(form, tuple):
        return " or ".join(_words(f) for f in form)
    if isinstance(form, range):
        return f"a whole number, {form[0]} to {form[-1]}"
    if isinstance(form, dict | list):
        return "an object {...}" if isinstance(form, dict) else "a list"
    words = {
        NAME: "a plain name", LABEL: "a text without control characters", int: "a whole number", float: "a number",
        str: "a text", bool: "true or false", None: "null",
    }  # fmt: skip
    return words.get(form) or " or ".join(form.pattern.split("|"))


def _wrong(value: Any, expected: str, at: str) -> str:
    return f"{at or 'it'} is {short(value)}, expected {expected}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {short(twice)} stands twice")
    return out


def _long(text: str) -> bool:
    """Whether a number may be too large: there are 19 digits on end, or an exponent of 3."""
    digits = text.encode(errors="replace").translate(_DIGITS, b"+")
    return b"0" * 19 in digits or b"e000" in digits


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"the number {text[:40]} is too large")
    return int(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number that JSON knows")
