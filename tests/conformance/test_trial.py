"""Settings tried on nets that stand already: the same losses as of a run of its own."""

from __future__ import annotations

import pytest

from modicum.testing.case import Case, losses
from modicum.testing.checks_settings import values
from modicum.testing.trial import Trial


@pytest.mark.parametrize("name", ["detector", "soft-teacher", "consistent-teacher", "oicr", "mean-teacher", "imwa"])
def test_a_tried_value_gives_the_losses_of_a_run_of_its_own(name: str) -> None:
    case = Case.open(name)
    trial, stood = Trial(case), 0
    for setting, value in values(case.cls.knobs()):
        if value == "opencv":
            continue  # a library that may be missing
        method = case.method(**{setting: value})
        alone = losses(case.loop(method=method, recipe=case.recipe(1, 2)))
        assert trial(setting, method) == alone, (setting, value)
        stood += setting not in trial.read
    assert stood


def test_what_build_looks_up_is_seen() -> None:
    trial = Trial(Case.open("box-teacher"))
    assert {"width", "depth"} == set(Case.open("box-teacher").cls.knobs()) & trial.read
