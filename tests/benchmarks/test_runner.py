"""The cell runner's bookkeeping: what is missing, what a variant asks, what a table says."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks import tables


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runner, "HERE", tmp_path)
    monkeypatch.setattr(tables, "HERE", tmp_path)
    (tmp_path / "protocols").mkdir()
    text = 'title = "T"\ndata = "sample:digits"\nmethods = ["a", "a x=1"]\nseeds = [0, 1]\n[fit]\nlabels = 2\n'
    (tmp_path / "protocols" / "p.toml").write_text(text)
    return tmp_path


def row(method: str, seed: int, arm: str, accuracy: float) -> dict[str, object]:
    return dict.fromkeys(runner.FIELDS, "") | {
        "protocol": "p", "method": method, "seed": seed, "arm": arm, "accuracy": accuracy, "cpu_seconds": 2,
    }  # fmt: skip


def test_finished_cells_are_not_run_again(home: Path) -> None:
    assert len(runner.missing(runner.protocols([]))) == 4
    runner.append(home / "results" / "p.csv", [row("a", 0, "a", 0.5), row("a x=1", 1, "a x=1", 0.5)])
    assert runner.missing(runner.protocols([])) == [("p", "a x=1", 0), ("p", "a", 1)]


def test_rows_are_appended_under_one_header(home: Path) -> None:
    for seed in range(3):
        runner.append(home / "results" / "p.csv", [row("a", seed, "a", 0.5)])
    assert [r["seed"] for r in csv.DictReader((home / "results" / "p.csv").read_text().splitlines())] == ["0", "1", "2"]


def test_a_variant_names_settings_and_parts_of_the_recipe() -> None:
    asked = runner.variant("fixmatch trust=fixed:tau=0 recipe.optim.lr=0.1 recipe.wraps=")
    assert asked == {
        "method": "fixmatch", "settings": {"trust": "fixed:tau=0"}, "recipe": {"optim.lr": "0.1", "wraps": ""},
    }  # fmt: skip


def test_the_table_pairs_seeds_and_takes_the_better_twin(home: Path) -> None:
    rows = []
    for seed, (own, weak, strong) in enumerate([(0.9, 0.8, 0.7), (0.8, 0.5, 0.7)]):
        rows += [row("a", seed, "a", own), row("a", seed, "twin-weak", weak), row("a", seed, "twin-strong", strong)]
    runner.append(home / "results" / "p.csv", rows)
    text = tables.tables([])
    last = next(line for line in text.splitlines() if "better twin" in line)
    assert "| 75.0 (7.1) |" in last and "+10.0 (+10.0 to +10.0)" in last
    assert tables.evidence() == {"a": 0.1}
