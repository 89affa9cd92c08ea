"""`modicum plan`: what the words mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from modicum.cli import main
from modicum.engine.look import wanted


@pytest.mark.parametrize(
    "text, fact",
    [("boxes", "net:boxes"), ("class", "net:class"), ("boxes~", "boxes~"), ("net:masks", "net:masks"), ("maps", "maps"),
     ("scores", "scores"), ("ids", "ids"), ("net:class.small", "net:class.small"), ("tags@other", "tags@other")],
)  # fmt: skip
def test_a_bare_kind_means_a_network_for_it(text: str, fact: str) -> None:
    assert str(wanted(text)) == fact


def test_a_plan_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--have", "class:some", "--want", "class", "--traits", "few"]) == 0
    out = capsys.readouterr().out
    assert "fixmatch" in out and "suits few" in out and "-> net:class" in out


def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--want", "class"]) == 2 and "--have" in capsys.readouterr().err
    assert main(["plan", "--want", "class", "--have", "class", "--traits", "fw"]) == 2
    assert "'few'" in capsys.readouterr().err


def test_the_haves_are_read_from_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from PIL import Image

    for i in range(4):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    assert main(["plan", "--data", str(tmp_path), "--want", "class"]) == 0
    assert "class" in capsys.readouterr().out.splitlines()[0]
    assert main(["plan", "--data", str(tmp_path / "none"), "--want", "class"]) == 3
