"""The registry is the folder: a method exists because its file does.

Cards are read without importing anything; `load` imports one module.  Third parties add a folder of method
files by an entry point in the group `modicum.methods` whose value is the package that holds it; the files are
found through the distribution's metadata, so that listing them imports nothing either.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import Any

import modicum
from modicum.core.card import Card, read_card
from modicum.core.errors import SettingsError, did_you_mean

HOME = Path(modicum.__file__).parent
GROUP = "modicum.methods"
PARTS = {"trust": "nn/trust", "objective": "nn/objective"}  # kind of a part -> its folder


def _plugin_files() -> list[tuple[str, Path]]:
    found = []
    for entry in importlib.metadata.entry_points(group=GROUP):
        root = Path(*entry.value.split("."))
        for file in entry.dist.files if entry.dist and entry.dist.files else ():
            if Path(file).parent == root and file.suffix == ".py" and not file.name.startswith("_"):
                found.append((f"{entry.value}.{file.stem}", Path(str(file.locate()))))
    return found


@functools.cache
def _found() -> dict[str, tuple[Card, str, Path]]:
    """name -> (card, module, file), over the package's own methods and every plug-in's."""
    files = [
        (f"modicum.methods.{path.parent.name}.{path.stem}", path)
        for path in sorted((HOME / "methods").glob("*/[!_]*.py"))
    ]
    out: dict[str, tuple[Card, str, Path]] = {}
    for module, path in files + _plugin_files():
        card = read_card(path)
        if card is None:
            raise SettingsError("no CARD in a method's file", where=path, fix="Start from `modicum new method NAME`.")
        if card.name in out:
            raise SettingsError(
                f"two methods are called {card.name!r}", where=path, fix=f"The other is {out[card.name][2]}."
            )
        out[card.name] = (card, module, path)
    return out


def cards(role: str = "") -> dict[str, Card]:
    """Every method's card by name, of one role or of all.  Imports no method."""
    return {name: card for name, (card, _, _) in _found().items() if role in ("", card.role)}


def _entry(name: str) -> tuple[Card, str, Path]:
    if name not in _found():
        kind = next((p.partition("/")[0] for p in named(name)), "")
        fix = f"It is a part: give it to a method with `--set {kind}={name}`." if kind else did_you_mean(name, _found())
        raise SettingsError(f"there is no method {name!r}", fix=fix)
    return _found()[name]


def card(name: str) -> Card:
    """One method's card."""
    return _entry(name)[0]


def path(name: str) -> Path:
    """The file a method lives in."""
    return _entry(name)[2]


def load(name: str) -> type[Any]:
    """A method's class: the one subclass of Method that its module defines."""
    from modicum.core.method import Method

    module = importlib.import_module(_entry(name)[1])
    own = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Method) and c.__module__ == module.__name__
    ]
    if len(own) != 1:
        fix = "Move the others to files of their own, or import them."
        raise SettingsError(f"a method's file defines one Method, this one {len(own)}", where=_entry(name)[2], fix=fix)
    own[0].card = _entry(name)[0]
    return own[0]


def make(name: str, settings: dict[str, Any] | None = None) -> Any:
    """A method by name with settings (a plain dict; unknown names and bad values are refused by name)."""
    return load(name).of(settings or {})


@functools.cache
def evidence() -> dict[str, float]:
    """What was measured of a method, 0 to 1: the lower end of its gain over the better labels-only twin, as a share.

    Written by `python -m benchmarks table` from the results; a method that is not in it has no evidence.
    """
    found: dict[str, float] = json.loads((HOME / "core" / "evidence.json").read_text(encoding="utf-8"))
    return found


def parts(folder: str) -> dict[str, Path]:
    """Parts found by name in a package folder such as 'nn/trust': name -> file."""
    return {p.stem.replace("_", "-"): p for p in sorted((HOME / folder).glob("[!_]*.py"))}


def part_names() -> list[str]:
    """Every part as `KIND/NAME`, such as `trust/fixed`.  Imports none."""
    return [f"{kind}/{name}" for kind, folder in PARTS.items() for name in parts(folder)]


def about_part(name: str) -> str:
    """The first line of the file of a part, given as `KIND/NAME`.  Nothing is imported."""
    kind, _, name = name.partition("/")
    text = ast.get_docstring(ast.parse(parts(PARTS[kind])[name].read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ")


def named(name: str) -> list[str]:
    """What a person can mean by a name: the method, and each part that is called so, as `KIND/NAME`."""
    methods = [name] if name in _found() else []
    return methods + [p for p in part_names() if name in (p, p.partition("/")[2])]


def load_part(folder: str, name: str, base: type[Any]) -> type[Any]:
    """The one subclass of `base` in a part's file."""
    known = parts(folder)
    if name not in known:
        raise SettingsError(f"there is no part {name!r} in {folder}", fix=did_you_mean(name, known))
    module = importlib.import_module("modicum." + folder.replace("/", ".") + "." + known[name].stem)
    own = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, base) and c.__module__ == module.__name__
    ]
    if len(own) != 1:
        fix = "Move the others to files of their own, or import them."
        raise SettingsError(
            f"a part's file defines one {base.__name__}, this one {len(own)}", where=known[name], fix=fix
        )
    return own[0]


def read_part(folder: str, base: type[Any], text: str) -> tuple[type[Any], dict[str, Any]]:
    """`fixed:tau=0.9` -> the part's class and its knobs.  SettingsError for an unknown name or knob, or a bad value."""
    from inspect import signature

    from modicum.core.program import Info
    from modicum.core.recipe import parse_call
    from modicum.core.settings import fit

    name, given = parse_call(text)
    cls, where = load_part(folder, name, base), folder.rpartition("/")[2]
    known = {k: p.default for k, p in signature(cls).parameters.items() if k != "info"}
    knobs = {}
    for key, value in given.items():
        if key not in known:
            raise SettingsError(f"{name!r} has no knob {key!r}", where=where, fix=did_you_mean(key, known))
        knobs[key] = fit(value, type(known[key]), f"{where} {name}.{key}")
    cls(Info(("a", "b"), (1, 1), 2, 2), **knobs)  # a value out of its range is refused here, before any work
    return cls, knobs
