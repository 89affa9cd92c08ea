"""The public conformance suite: `check_method(name) -> list[Result]` of a method or part; `modicum check` runs it."""

from __future__ import annotations

from modicum.testing.results import Result
from modicum.testing.suite import CHECKS, check_method

__all__ = ["CHECKS", "Result", "check_method"]
