"""`modicum check`: methods and parts by name, by kind and name, and by file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modicum.cli import main

SOUND = Path(__file__).parents[1] / "conformance" / "sound"


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[str]]:
    assert main(["check", "--json", "--only", "source", *words]) == 0
    return {name: [r["check"] for r in found] for name, found in json.loads(capsys.readouterr().out).items()}


def test_a_bare_name_means_all_that_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(capsys, "fixed") == {"trust/fixed": ["source"]}
    assert set(checked(capsys, "logit-adjustment")) == {"logit-adjustment", "objective/logit-adjustment"}
    assert set(checked(capsys, "objective/logit-adjustment", "fixmatch")) == {"objective/logit-adjustment", "fixmatch"}


def test_everything_is_checked_where_nothing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"fixmatch", "trust/adaptive", "objective/ldam"} < set(checked(capsys))


def test_a_part_in_a_file_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (SOUND / "rule.py").read_text(encoding="utf-8")
    Path("rule.py").write_text(text, encoding="utf-8")
    assert main(["check", "rule.py", "--only", "trust answers"]) == 0
    Path("rule.py").write_text(text.replace(".clamp(0, 1)", ""), encoding="utf-8")
    capsys.readouterr()
    assert main(["check", "rule.py", "--only", "trust answers"]) == 1
    assert "FAILED trust answers: a weight lies outside 0 to 1" in (said := capsys.readouterr().out), said
