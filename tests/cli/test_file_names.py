"""Every file that Modicum writes by itself has a name that Windows and macOS can hold, whatever images are called."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.cli import main

NAMES = (
    "a:b", "CON", "what?", "x" * 240, "日本" * 40, "dot.", " space ", "nul.txt", 'q"uote', "back\\slash", "pi|pe",
    "a<b>c", "\U0001f600", "tab\there",
)  # fmt: skip
DEVICES = {"con", "prn", "aux", "nul", *(f"{p}{i}" for p in ("com", "lpt") for i in range(10))}


def refused(name: str) -> str:
    """Why Windows or macOS would not take a file name, by their published rules; '' if they would."""
    if re.search(r'[<>:"/\\|?*\x00-\x1f]', name):
        return "a letter that Windows keeps for itself"
    if name[-1] in " ." or name.partition(".")[0].rstrip().lower() in DEVICES:
        return "an ending or a device of Windows"
    if len(name.encode()) > 255 or len(name.encode("utf-16-le")) // 2 > 255:
        return "too long"
    return ""


def test_the_rules_themselves() -> None:
    assert all(map(refused, ("a:b", "CON", "con.txt", "nul .x", "a.", "a ", "x" * 256, "é" * 128, "a\nb", "lpt1")))
    assert not any(map(refused, ("a.b", "console", "x" * 255, "é" * 127, ".hidden", "a%3Ab")))


@pytest.mark.skipif(sys.platform == "win32", reason="such images cannot be made there")
def test_what_is_written_can_be_copied_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODICUM_CACHE", str(tmp_path / "cache"))
    for kind in ("CON", "what?", "end."):
        for i, name in enumerate(NAMES):
            path = tmp_path / "images" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 17 * i, np.uint8)).save(path, "png")
    images, run = str(tmp_path / "images"), str(tmp_path / "run")
    fit = ["fit", images, "--out", run, "--steps", "3", "--batch", "8", "--twins", "none", "--precision", "32"]
    for words in (
        fit, ["explain", run, images, "--out", str(tmp_path / "maps")],
        ["predict", run, images, "--out", str(tmp_path / "answers.csv")],
        ["score", "entropy", run, "--out", str(tmp_path / "scores.csv")],
        ["convert", images, str(tmp_path / "copy"), "--to", "folders"], ["report", run],
    ):  # fmt: skip
        assert main(words) == 0, capsys.readouterr().err
    written = [p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "images")]
    assert {p.parent.name for p in written} >= {"run", "maps", "cache", "copy"}
    assert [(p.name, why) for p in written if (why := refused(p.name))] == []
    maps = list((tmp_path / "maps").glob("[0-9]*.png"))
    answers = list(csv.DictReader((tmp_path / "answers.csv").open(encoding="utf-8")))
    assert len(maps) == len({p.name.lower() for p in maps}) == 3 * len(NAMES) and len(answers) > 2 * len(NAMES)
