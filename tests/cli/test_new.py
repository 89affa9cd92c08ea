"""`modicum new`: what it writes works at once, is read as a card, and nothing is overwritten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modicum.cli import main
from modicum.core.card import ROLES, read_card


def test_every_role_starts_from_a_file_whose_test_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for role in ROLES:
        assert main(["new", "method", f"toy-{role}", "--role", role, "--into", str(tmp_path)]) == 0
        card = read_card(tmp_path / f"toy_{role}.py")
        assert card is not None and card.role == role and card.name == f"toy-{role}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert f"{len(ROLES)} passed" in done.stdout, done.stdout
    if (Path(sys.executable).parent / "ruff").exists():
        rules = Path(__file__).parents[2] / "pyproject.toml"
        ruff = [Path(sys.executable).parent / "ruff", "check", "--config", rules, "--ignore", "I001", tmp_path]
        checked = subprocess.run(ruff, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout


def test_in_a_checkout_files_go_to_their_rooms(tmp_path: Path) -> None:
    (tmp_path / "src" / "modicum").mkdir(parents=True)
    assert main(["new", "method", "free-match", "--family", "semi", "--into", str(tmp_path)]) == 0
    assert main(["new", "trust", "beats-chance", "--into", str(tmp_path)]) == 0
    for file in (
        "src/modicum/methods/semi/free_match.py", "tests/methods/test_free_match.py",
        "src/modicum/nn/trust/beats_chance.py", "tests/nn/test_trust_beats_chance.py",
    ):  # fmt: skip
        assert (tmp_path / file).is_file()
    assert (
        "from modicum.methods.semi.free_match import FreeMatch"
        in (tmp_path / "tests/methods/test_free_match.py").read_text()
    )


def test_the_trust_rule_works(tmp_path: Path) -> None:
    import torch

    from modicum.core.program import Info

    (tmp_path / "src" / "modicum").mkdir(parents=True)
    assert main(["new", "trust", "beats-chance", "--into", str(tmp_path)]) == 0
    space: dict[str, object] = {"__name__": "rule"}
    exec((tmp_path / "src/modicum/nn/trust/beats_chance.py").read_text(), space)
    rule = space["BeatsChance"](Info(("a", "b"), (1, 1), 10, 2), power=2)  # type: ignore[operator]
    target, weight = rule(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]]), torch.arange(3))
    assert target.tolist()[::2] == [0, 1] and torch.allclose(weight, torch.tensor([1.0, 0.0, 0.25]))


@pytest.mark.parametrize(
    "words, says",
    [
        (["method", "Bad Name"], "small letters"), (["method", "../x"], "small letters"),
        (["method", "class"], "not a name"),
        (["method", "fixmatch"], "already"), (["trust", "fixed"], "already"), (["trust", "other"], "--into DIR"),
        (["thing", "x"], "neither"), (["method", "x", "--role", "lern"], "'learn'"),
        (["method", "x", "--family", "a/b"], "small letters"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert main(["new", *words, "--into", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_mine.py").write_text("kept")
    assert main(["new", "method", "mine", "--into", str(tmp_path)]) == 2
    assert "left as it is" in capsys.readouterr().err
    assert (tmp_path / "test_mine.py").read_text() == "kept" and not (tmp_path / "mine.py").exists()
