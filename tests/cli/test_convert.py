"""`modicum convert` at the prompt."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from modicum.cli import main
from modicum.cli._ends import Stopped
from modicum.data.read import read


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes, a broken link to nowhere, and a name that a spreadsheet and a terminal would obey."""
    for i, name in enumerate(("cat/=1.png", "dog/2.png", "dog/3.png")):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2), i).save(file)
    (tmp_path / "in/dog/x.czi").write_bytes(b"")
    return tmp_path / "in"


@pytest.mark.parametrize("to", ["folders", "table", "parquet", "idx"])
def test_every_format(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str) -> None:
    assert main(["convert", str(images), str(tmp_path / "out"), "--to", to]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == f"3 images: {tmp_path / 'out'}"
    assert "  not read  dog/x.czi: .czi is not read as an image" in said.out
    assert ("  not held  " in said.out) == (to == "idx") and "images" in said.err
    assert read(tmp_path / "out").data.cls.tolist() == [0, 1, 1]


def test_a_table_is_safe_in_a_spreadsheet(images: Path, tmp_path: Path) -> None:
    Image.new("L", (3, 2)).save(images / "=cmd.png")
    assert main(["convert", str(images), str(tmp_path / "out"), "--to", "table"]) == 0
    with (tmp_path / "out/labels.csv").open(encoding="utf-8", newline="") as file:
        cells = [c for line in csv.reader(file) for c in line]
    assert "'=cmd.png" in cells and not any(c.startswith(("=", "+", "-", "@")) for c in cells)


@pytest.mark.parametrize("words, code, says", [
    (["--to", "idx", "--strict"], 3, "idx cannot hold 2 things"),
    (["--to", "jpeg"], 3, "Known: coco, folders, idx, masks, parquet, table, voc, yolo."),
    ([], 2, "--to"),
])  # fmt: skip
def test_errors(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str
) -> None:
    assert main(["convert", str(images), str(tmp_path / "out"), *words]) == code
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_what_is_there_stays(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "sample:digits", str(images), "--to", "table"]) == 3
    assert "there is something here already\nChoose another name" in capsys.readouterr().err
    assert main(["convert", str(images), str(images / "dog/2.png" / "out"), "--to", "table"]) != 0
    assert "dog/2.png" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("modicum.data.store.png", stop)
    from modicum.cli.convert import convert

    with pytest.raises(Stopped, match="nothing was written to"):
        convert("sample:digits", str(tmp_path / "out"), "folders")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
