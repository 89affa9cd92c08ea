"""The page of messages: what is read out of the source, and that nothing a person can meet is left out."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from modicum.core import errors, registry

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "errors.md"


@pytest.fixture(scope="module")
def index() -> ModuleType:
    spec = importlib.util.spec_from_file_location("error_index", ROOT / "docs" / "error_index.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = """
FIX = "Look."
def read(path, much, error):
    found = "not this"
    if much:
        found = f"{len(path)} files in {path!r} " + "are " + ("many" if much else "few")
    raise DataError(found, where=path, fix=FIX)
def early():
    what, fix = "two words", did_you_mean("a", known)
    return SettingsError(f"no {what}", where="--set", fix=fix)
def caught(path):
    error = "never shown"
    try:
        pass
    except OSError as error:
        raise RunError(f"cannot read it: {error}", where=path) from None
    faults.append(Fault(path, "left out"))
    raise ValueError("a fault of ours")
def several(path, kind: type[ModicumError], other: type[ModicumError] = ModelError):
    raise kind(f"{path} is gone", fix="Bring it back.")
    raise other(f"{path}{path}", fix="Nothing to look for.")
    raise other("it is large", fix="Shrink it.")
"""


def test_what_is_read_out_of_a_source(index: ModuleType) -> None:
    handed = index.handed_on([ast.parse("x.several(1, RunError)\nseveral(2, DataError)\nseveral(3, nothing)")])
    found = {(e.kind, e.message, e.fix, e.where) for e in index.of_module(ast.parse(SOURCE), "a.py", handed)}
    assert found == {
        ("DataError", "... files in ... are many", "Look.", ""), ("DataError", "... files in ... are few", "Look.", ""),
        ("SettingsError", "no two words", "Take the name that the message offers.", "--set"),
        ("Fault", "cannot read it: ...", "", ""), ("Fault", "left out", "", ""),
        ("RunError", "... is gone", "Bring it back.", ""), ("DataError", "... is gone", "Bring it back.", ""),
        ("ModelError", "it is large", "Shrink it.", ""),
    }  # fmt: skip


def test_the_same_message_is_one_entry(index: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.py").write_text("raise DataError('not here', fix='Look.')")
    (tmp_path / "b" / "c.py").write_text("raise DataError('not here', where='b', fix='Look again.')")
    (entry,) = index.entries(tmp_path)
    assert entry == ("DataError", "not here", "Look. Or: Look again.", "b", "a.py, b/c.py")


def test_every_class_of_error_has_its_section_and_its_exit_code(index: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for cls in (errors.ModicumError, *errors.ModicumError.__subclasses__()):
        if cls.__module__ == errors.__name__:
            assert f"## {cls.__name__}: exit code {cls.exit_code}\n" in page
    codes = dict(index.exit_codes())
    assert {0, 1, 2, 3, 4, 5, 6, 7, 70, 130, 141, 143} == set(codes) and all(t.endswith(".") for t in codes.values())


@pytest.mark.parametrize(
    "words",
    [
        "there is nothing here", "the folder is empty", "is not allowed", "no way from", "another run is here",
        "this is not a run", "a pickle can run code when it is read", "out of memory", "is damaged", "cannot write",
        "the only class folder", "no image could be classified", "there is no verb", "is set twice",
    ],
)  # fmt: skip
def test_what_a_person_would_paste_is_found(words: str) -> None:
    assert words in PAGE.read_text(encoding="utf-8")


def test_a_message_is_shown_as_it_is_printed(index: ModuleType) -> None:
    assert index.plain("a_b [c] `d_e` <f>") == r"a\_b \[c\] `d_e` \<f\>"


SKIPS = ("data/formats/", "data/images.py", "data/tiff.py")
"""Where errors are reasons for which one image is skipped: a list of them is shown, and the work goes on."""


def test_every_error_says_what_to_do() -> None:
    known = {c.__name__ for c in errors.ModicumError.__subclasses__()} | {"ModicumError"}
    bare = []
    for file in sorted(registry.HOME.rglob("*.py")):
        name = file.relative_to(registry.HOME).as_posix()
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            made = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in known
            if made and not any(k.arg == "fix" for k in call.keywords) and not name.startswith(SKIPS):  # type: ignore[attr-defined]
                bare.append(f"{name}:{call.lineno}")  # type: ignore[attr-defined]
    assert not bare, "an error says what to do next: fix=..."


def test_no_other_exception_is_raised_for_a_user() -> None:
    """A bare Exception, exit or abort would be told as a fault of Modicum."""
    for file in sorted(registry.HOME.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"raise (Exception|SystemExit|RuntimeError)\b", text) or file.name == "_app.py", file
