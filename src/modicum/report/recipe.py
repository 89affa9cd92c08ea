"""What the method is and how it was set: from its card and file, read without importing them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modicum.core import registry
from modicum.core.card import Card
from modicum.core.errors import ModicumError
from modicum.core.recipe import Recipe
from modicum.report.read import Run, part
from modicum.report.text import plain

WORDS = ("teacher", "trust", "signal", "student")
_SHOWN = ("steps", "batch", "optim", "schedule", "warmup", "clip")


def card(run: Run) -> Card | None:
    """The method's card, or None where the method is not installed here."""
    try:
        return registry.card(str(run.config["method"]))
    except (ModicumError, KeyError):
        return None


def _constant(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def knobs(name: str) -> dict[str, tuple[Any, str]]:
    """setting -> (default, what it is), read from the method's file; a default that is no literal is None."""
    try:
        return _knobs(registry.path(name))
    except (ModicumError, OSError, SyntaxError, ValueError):
        return {}


def _knobs(path: Path) -> dict[str, tuple[Any, str]]:
    """The settings of the classes in a file, and of the frames among them that it takes from other files of ours."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    bases = {b.id for c in classes for b in c.bases if isinstance(b, ast.Name)}
    found: dict[str, tuple[Any, str]] = {}
    for source in (n for n in tree.body if isinstance(n, ast.ImportFrom)):
        if bases & {n.name for n in source.names} and (source.module or "").startswith("modicum.nn."):
            found |= _knobs(registry.HOME.joinpath(*str(source.module).split(".")[1:]).with_suffix(".py"))
    for line in (x for c in classes for x in c.body if isinstance(x, ast.AnnAssign)):
        if isinstance(line.target, ast.Name) and isinstance(line.value, ast.Call):
            call = line.value
            if getattr(call.func, "id", "") == "knob" and call.args:
                doc = next((str(_constant(k.value)) for k in call.keywords if k.arg == "doc"), "")
                found[line.target.id] = (_constant(call.args[0]), doc)
    return found


def changed(run: Run) -> list[dict[str, str]]:
    """Settings that differ from the defaults: name, value, default, doc."""
    defaults = knobs(str(run.config.get("method", "")))
    out = []
    for name, value in part(run.config, "settings").items():
        default, doc = defaults.get(name, (None, ""))
        if name in defaults and default == value:
            continue
        shown = plain(default) if default is not None else "not known here"
        out.append({"name": name, "value": plain(value), "default": shown, "doc": doc})
    return out


def rows(run: Run) -> list[tuple[str, str]]:
    """How it was trained: (what, value), the recipe and the choices made once for this machine."""
    recipe, choices, usual = part(run.config, "recipe"), part(run.config, "choices"), Recipe().to_dict()
    out = []
    for name in _SHOWN:
        if name not in recipe:
            continue
        value = choices.get(name, recipe[name])
        note = "" if value == usual[name] else " (not the usual)"
        if isinstance(value, Mapping):
            value = f"{value.get('name', '')}, " + plain({k: v for k, v in value.items() if k != "name"})
        out.append((name, plain(value) + note))
    wraps = run.config.get("wraps") or recipe.get("wraps")
    if wraps:
        out.append(("wrapped in", plain(wraps)))
    out += [(str(k), plain(v)) for k, v in choices.items() if k not in recipe and v != ""]
    out += [(k, plain(run.config[k])) for k in ("seed", "modicum") if k in run.config]
    version = part(run.config, "data").get("version")
    return [*out, ("data version", plain(version))] if version else out
