"""One step with one setting changed, many times over: nets are built anew only where the setting could make others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modicum.core.program import Change, Info, Program
from modicum.testing.case import Case, losses


class Trial:
    """The method's runs of one step.  read: names that `build` looks up on the method.

    A run with another value of a setting that it does not look up takes the nets of the first run, put back as they
    were, and its batches where the streams are the same.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.read = case, set[str]()
        self.loop = case.loop(method=_watched(case.method(), self.read), recipe=case.recipe(1, 2))
        self.began = {name: value.clone() for name, value in self.loop.nets.state_dict().items()}

    def __call__(self, name: str, method: Any) -> list[float]:
        """`losses` of the method, whose setting `name` is another than the first one's."""
        program = method.program(self.loop.info)
        if name in self.read or any(isinstance(phase, Change) for phase in program):
            return losses(self.case.loop(method=method, recipe=self.case.recipe(1, 2)))
        self.loop.nets.load_state_dict(self.began)
        return losses(replace(self.loop, method=method, program=program))


def _watched(method: Any, read: set[str]) -> Any:
    """The same method; the names that are looked up on it are noted, but for what its program looks up."""

    class Watched(type(method)):  # type: ignore[misc]
        def program(self, info: Info) -> Program:
            return method.program(info)  # type: ignore[no-any-return]

        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    out = object.__new__(Watched)
    object.__getattribute__(out, "__dict__").update(vars(method))
    return out
