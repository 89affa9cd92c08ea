"""Strict JSON, and the forms that it must have."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modicum.core.errors import ModelError, RunError
from modicum.core.form import LABEL, NAME, load, misfit, parse, read, short

WORDS = st.text(st.characters(codec="utf-8"), max_size=9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_what_json_writes_is_read_back(value: Any) -> None:
    assert parse(json.dumps(value)) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not JSON"), (b"{", "not JSON"), (b'{"a": 1,}', "not JSON"), (b"{'a': 1}", "not JSON"),
        (b"[1] [2]", "not JSON"), (b'{"a": 1, "a": 1}', "'a' stands twice"), (b"NaN", "NaN is not a number"),
        (b"[Infinity]", "Infinity"), (b"[-Infinity]", "-Infinity"), (b"1e309", "too large"), (b"-1e309", "too large"),
        (b"1E+0309", "too large"), (b"9" * 300 + b"e99", "too large"), (b"0.0000000000000000001e330", "too large"),
        (b"9223372036854775808", "too large"), (b"9" * 5000, "too large"), (b"[" * 100_000, "too deeply"),
        (b'{"a":' * 100_000, "too deeply"), (b"\xff\xfe{\0", "not UTF-8"), (b'{"a": "\xff"}', "not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_not_strict_json_is_said(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse(text)
    assert len(str(caught.value)) < 200


@settings(max_examples=500)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0123456789.eE+-\\ntrufalse', max_size=60))
def test_any_text_is_read_or_a_value_error(text: bytes | str) -> None:
    try:
        found = parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text) == found


@pytest.mark.slow
@settings(max_examples=20_000)
@given(st.binary(max_size=80) | st.text(alphabet='{}[]",:0123456789.eE+-\\ntrufalse', max_size=80))
def test_many_texts_are_read_or_a_value_error(text: bytes | str) -> None:
    test_any_text_is_read_or_a_value_error.hypothesis.inner_test(text)  # type: ignore[attr-defined]


FORM = {
    "side": range(1, 9), "names": [LABEL], "heat": (float, None), "args": {str: int}, "at": [int, str],
    "parts": ([int], {"x": bool}), "more": {"file": NAME, ...: object},
}  # fmt: skip
GOOD: dict[str, Any] = {
    "side": 8, "names": ["a", "é"], "heat": None, "args": {"w": 1}, "at": [1, "b"], "parts": {"x": True},
    "more": {"file": "a.b-c", "other": [1]},
}  # fmt: skip


def test_what_has_the_form_fits() -> None:
    assert misfit(GOOD, FORM) == "" == misfit({**GOOD, "heat": 1, "parts": [1, 2], "names": []}, FORM)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"side": 9}, "side is 9, expected a whole number, 1 to 8"), ({"side": True}, "side is true"),
        ({"side": 8.0}, "side is 8.0"), ({"names": "a"}, "names is 'a', expected a list"),
        ({"names": ["a", 1]}, "names[1] is 1, expected a text"), ({"names": ["a\x1b"]}, "without control characters"),
        ({"names": ["\ud800"]}, "names[0]"), ({"heat": "x"}, "heat is 'x', expected a number or null"),
        ({"heat": True}, "heat is true"), ({"args": {"w": 1.5}}, "args.w is 1.5"), ({"at": [1]}, "a list of 2"),
        ({"at": ["b", 1]}, "at[0] is 'b'"), ({"parts": {"x": 1}}, "parts.x is 1, expected true or false"),
        ({"parts": [1, "a"]}, "parts[1] is 'a'"), ({"parts": {}}, "parts.x is missing"), ({"new": 1}, "new is unknown"),
        ({"more": {}}, "more.file is missing"), ({"more": {"file": "../x"}}, "expected a plain name"),
        ({"more": {"file": ""}}, "expected a plain name"), ({"more": []}, "more is [], expected an object"),
    ],
)  # fmt: skip
def test_what_has_not_is_said_with_its_place(change: dict[str, Any], says: str) -> None:
    assert says in misfit({**GOOD, **change}, FORM)


def test_a_missing_key_and_another_shape_are_said() -> None:
    assert misfit({k: v for k, v in GOOD.items() if k != "side"}, FORM) == "side is missing"
    assert misfit(5, re.compile("a|b"), "tells") == "tells is 5, expected a or b" and not misfit("b", re.compile("a|b"))
    assert misfit([], FORM) == "it is [], expected an object {...}" and misfit({}, [int]).endswith("expected a list")
    assert len(misfit({**GOOD, "k" * 999: 1}, FORM)) < 100 and len(short("x" * 999)) == 60


@given(JSON, JSON)
def test_any_value_against_any_form(value: Any, other: Any) -> None:
    """A form made of a value's own types fits it."""

    def of(v: Any) -> Any:
        if isinstance(v, dict):
            return {k: of(x) for k, x in v.items()}
        return [of(x) for x in v] if isinstance(v, list) and len(v) > 1 else [object] if isinstance(v, list) else \
            None if v is None else type(v)  # fmt: skip

    assert misfit(value, of(value)) == "" and isinstance(misfit(other, of(value)), str)


def test_files_are_read_with_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read(path) == [1]
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        path.write_bytes(b" " * (2**20 + 1))
        read(path, 2**20)
    with pytest.raises(ValueError, match="not a file"):
        read(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="not a file"):
            read(tmp_path / "pipe")


def test_an_error_names_the_file_and_the_reason(tmp_path: Path) -> None:
    path, form = tmp_path / "a.json", {"format": int, "x": int}
    for text, says in (
        ("{", "a.json is damaged: it is not JSON"), ('{"format": 1}', "a.json is damaged: x is missing"),
        ('{"format": "1", "x": 1}', "format is '1', expected 1"), ('{"x": 1}', "format is null, expected 1"),
        ("[]", "format is null"), ('{"format": 0, "x": 1}', "format is 0"), ('{"format": true, "x": 1}', "is true"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(RunError) as caught:
            load(path, form, RunError, "Do this.", format=1)
        assert says in str(caught.value) and str(tmp_path) in str(caught.value) and caught.value.fix == "Do this."
    path.write_text('{"format": 2, "y": 1}')
    with pytest.raises(ModelError, match=r"format 2, this version reads 1\n.*newer Modicum"):
        load(path, form, ModelError, "Do this.", format=1)
    path.unlink()
    with pytest.raises(ModelError, match=r"a\.json is missing\nDo this"):
        load(path, form, ModelError, "Do this.")
