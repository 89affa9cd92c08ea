"""`modicum imagine` at the prompt: what it writes is what `fit` learns boxes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from modicum.cli import main
from modicum.cli._ends import Stopped
from modicum.data.read import read

QUICK = ["--cutouts", "sample:digits", "--number", "3", "--side", "24"]


def test_a_set_and_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made"
    assert main(["imagine", "3,8", "--out", str(out), *QUICK, "--set", "company=0"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == f"6 imaginary images of 2 classes: {out}"
    assert f"modicum fit {out} --have tags --want boxes" in said.out and "6 of 6" in said.err
    data = read(out).data
    assert data.tags is not None and data.tags.tolist() == [[1, 0]] * 3 + [[0, 1]] * 3
    assert (tmp_path / "made-sheet.png").is_file()


def test_scan_has_nothing_to_say_against_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["imagine", "3,8", "--out", str(tmp_path / "made"), *QUICK]) == 0
    assert main(["scan", str(tmp_path / "made")]) == 0
    said = capsys.readouterr().out
    assert "Tags: 6 images" in said and "skipped" not in said


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["3,8"], 4, "no cut-out of 3, 8"), (["3,,8", *QUICK], 2, "a name is empty"),
        (["3", *QUICK, "--describe", "grammer"], 6, "hub:NAME"), (["3", *QUICK, "--paint", "x"], 6, "no such folder"),
        (["3", *QUICK, "--filter", "x"], 5, "x"), (["3", *QUICK, "--set", "ratoi=1"], 2, "ratoi"),
        (["small,3", *QUICK], 4, "no cut-out of small"), (["3", *QUICK, "--number", "0"], 2, "--number"),
        (["3", "--cutouts", "nowhere"], 3, "nothing here"), ([], 2, "names"),
    ],
)  # fmt: skip
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str
) -> None:
    assert main(["imagine", *words, "--out", str(tmp_path / "made")]) == code
    assert says in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modicum.cli import imagine as verb
    from modicum.functional import compose

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compose, "compose", stopped)
    with pytest.raises(Stopped, match="nothing was written"):
        verb.imagine("3", str(tmp_path / "made"), number=2, cutouts="sample:digits", side=24)
    assert not list(tmp_path.iterdir())
