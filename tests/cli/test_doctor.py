"""`modicum doctor`: says what is there, and what to do about what is not."""

from __future__ import annotations

from importlib import metadata

import pytest

from modicum.cli import main


def test_a_sound_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert (
        "torch" in out
        and "python 3." in out
        and "GB free" in out
        and out.rstrip().endswith("all that Modicum needs is here")
    )


def test_what_is_missing_is_named_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["no-such-package>=1", "numpy>=9999", "pillow>=1", "only-for-tests>=1; extra == 'test'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "-m pip install 'no-such-package>=1' 'numpy>=9999'" in out and "only-for-tests" not in out
