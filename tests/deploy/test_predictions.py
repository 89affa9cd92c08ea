"""Tables of predictions."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from modicum.core.errors import DataError, MachineError
from modicum.data.names import unguard
from modicum.deploy.predict import Prediction
from modicum.deploy.predictions import write

CLASSES = ("=cat", "dog")
ROWS = [
    Prediction("a/b.png", "=cat", 0.75, np.array([0.75, 0.25], np.float32), CLASSES),
    Prediction('-x,\n"y".png', "dog", 0.5, np.array([0.5, 0.5], np.float32), CLASSES),
    Prediction("+bad.png", "", float("nan"), np.empty(0, np.float32), CLASSES, "the file is cut short"),
]  # fmt: skip


def test_csv_is_guarded_against_formulas(tmp_path: Path) -> None:
    assert write(ROWS, tmp_path / "new" / "p.csv") == 3
    with (tmp_path / "new" / "p.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    assert found == [
        ["id", "class", "confidence", "fault", "'=cat", "dog"],
        ["a/b.png", "'=cat", "0.75", "", "0.75", "0.25"],
        ['\'-x,\n"y".png', "dog", "0.5", "", "0.5", "0.5"],
        ["'+bad.png", "", "", "the file is cut short", "", ""],
    ]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["p.csv"]


def test_parquet_keeps_text_and_leaves_faults_empty(tmp_path: Path) -> None:
    assert write(iter(ROWS), tmp_path / "p.parquet") == 3
    table = pq.read_table(tmp_path / "p.parquet")
    assert table["class"].to_pylist() == ["=cat", "dog", None] and table["id"].to_pylist()[2] == "+bad.png"
    assert table["probs"].to_pylist() == [[0.75, 0.25], [0.5, 0.5], None]
    assert table.schema.metadata[b"class 1"] == b"dog"


def test_nothing_is_left_when_the_images_fail(tmp_path: Path) -> None:
    def failing() -> object:
        yield ROWS[0]
        raise RuntimeError

    for name in ("p.csv", "p.parquet"):
        with pytest.raises(RuntimeError):
            write(failing(), tmp_path / name)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"\.csv or \.parquet"):
        write(ROWS, tmp_path / "p.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        write(ROWS, tmp_path / "file" / "p.csv")


def test_no_prediction_is_a_table_without_rows(tmp_path: Path) -> None:
    assert write([], tmp_path / "p.csv") == write([], tmp_path / "p.parquet") == 0
    assert (tmp_path / "p.csv").read_text().splitlines() == ["id,class,confidence,fault"]


def test_no_cell_starts_a_formula(tmp_path: Path) -> None:
    rows = [ROWS[0]._replace(id=text) for text in ("=1+1", "@x", "-2+3", "\ta", "-7")]
    write(rows, tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        found = [line[0] for line in csv.reader(file)][1:]
    assert found == ["'=1+1", "'@x", "'-2+3", "'\ta", "-7"] and [unguard(c) for c in found] == [r.id for r in rows]


def test_of_many_classes_those_above_one_half_are_told(tmp_path: Path) -> None:
    probs = np.array([[0.6, 0.9], [0.5, 0.2]], np.float32)
    both, none = (Prediction("a", CLASSES[int(p.argmax())], float(p.max()), p, CLASSES, many=True) for p in probs)
    assert both.told == ("dog", "=cat") and none.told == () and ROWS[1].told == ("dog",) and ROWS[2].told == ()
    write([both, none], tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        assert [row[:3] for row in csv.reader(file)][1:] == [["a", "dog; =cat", "0.9"], ["a", "", "0.5"]]
    write([both, none], tmp_path / "p.parquet")
    assert pq.read_table(tmp_path / "p.parquet")["class"].to_pylist() == ["dog; =cat", None]
