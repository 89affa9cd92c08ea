"""Modicum: small models from few labels.

The public verbs are those of the command line; each loads what it needs when it is first used, so that
`import modicum` costs nothing.  `report`, `evaluate` and `methods` are rooms of the package as well as verbs: calling
the room runs the verb.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "demo": "modicum.engine.demo:demo",
    "scan": "modicum.engine.look:scan",
    "convert": "modicum.data.convert:convert",
    "plan": "modicum.engine.look:plan",
    "fit": "modicum.engine.fit:fit",
    "predict": "modicum.deploy.predict:predict",
    "explain": "modicum.engine.explain:explain",
    "imagine": "modicum.engine.imagine:imagine",
    "label": "modicum.engine.verbs:label",
    "score": "modicum.engine.verbs:score",
    "select": "modicum.engine.verbs:select",
    "evaluate": "modicum.engine.verbs:evaluate",
    "export": "modicum.engine.verbs:export",
    "report": "modicum.engine.verbs:report",
    "methods": "modicum.core.registry:cards",
    "check": "modicum.testing:check_method",
    "sample": "modicum.data.samples:sample",
}

__all__ = [
    "check", "convert", "demo", "evaluate", "explain", "export", "fit", "imagine", "label", "methods", "plan",
    "predict", "report", "scan", "score", "select",
]  # fmt: skip


def _verb(name: str) -> Any:
    module, _, function = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), function)


class _Room(ModuleType):
    """A subpackage whose name is a verb too."""

    def __call__(self, *args: Any, **given: Any) -> Any:
        return _verb(self.__name__.rpartition(".")[2])(*args, **given)


class _Package(ModuleType):
    """Makes subpackages that are named like a verb callable as they are imported, whoever imports them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _WHERE and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'modicum' has no attribute {name!r}")
    return _verb(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})


sys.modules[__name__].__class__ = _Package
