"""Every example runs, on small generated images, and says something."""

from __future__ import annotations

import functools
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import modicum

FOLDER = Path(__file__).parents[2] / "examples"
QUICK = {"steps": 6, "twins": "steps", "precision": "32", "batch": 8, "judge": "none"}
pytestmark = pytest.mark.xdist_group("examples")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shapes/: 12 px squares and bars, some labelled, a test folder; votes/: five images that three people named."""
    home = tmp_path_factory.mktemp("examples")
    patch = pytest.MonkeyPatch()
    patch.setenv("MODICUM_CACHE", str(home / "cache"))
    rng = np.random.default_rng(0)
    for i in range(72):
        name = ("square", "bar")[i % 2]
        picture = rng.integers(0, 60, (12, 12), dtype=np.uint8)
        top = int(rng.integers(1, 5))
        picture[top : top + 6, (2 if name == "square" else 5) : (8 if name == "square" else 7)] += 180
        place = name if i < 8 else f"test/{name}" if i < 28 else "unlabelled"
        (home / "shapes" / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(home / "shapes" / place / f"{i:02d}.png")
    (home / "votes").mkdir()
    lines = ["image,annotator,class"]
    for i in range(5):
        Image.new("L", (8, 8), 40 * i).save(home / "votes" / f"{i}.png")
        lines += [f"{i}.png,{who},{'cat' if (i + (who == 'c' and i == 2)) % 2 else 'dog'}" for who in "abc"]
    (home / "votes" / "votes.csv").write_text("\n".join(lines), encoding="utf-8")
    return home


def call(name: str, *words: str, **asked: Any) -> None:
    runpy.run_path(str(FOLDER / f"{name}.py"))["main"](*words, **asked)


@pytest.fixture(scope="module")
def run(home: Path) -> str:
    call("fit", str(home / "shapes"), str(home / "run"), **QUICK)
    return str(home / "run")


def test_there_is_one_short_example_for_each_verb() -> None:
    found = {p.stem: p.read_text(encoding="utf-8") for p in FOLDER.glob("*.py")}
    assert set(found) == set(modicum.__all__)
    for name, text in found.items():
        assert text.count("\n") < 60 and f"modicum.{name}(" in text and f"python examples/{name}.py" in text


@pytest.mark.parametrize(
    "name, words, says",
    [
        ("scan", ["shapes"], "72 images"), ("convert", ["shapes", "table", "parquet"], "72 images"),
        ("plan", ["shapes"], "fixmatch"), ("evaluate", ["run"], "twin-weak"),
        ("evaluate", ["run", "shapes/test"], "not compared"), ("predict", ["run", "shapes/unlabelled"], "probability"),
        ("explain", ["run", "maps", "shapes/test/bar"], "where it sees"), ("score", ["run"], "larger means"),
        ("select", ["run"], "unlabelled/"), ("label", ["votes"], "2.png  dog  1.00"),
        ("imagine", ["made"], "8 imaginary images of 2 classes"),
        ("export", ["run", "m.onnx"], "kB"), ("report", ["run"], "report.html"),
    ],
)  # fmt: skip
def test_an_example_runs(
    name: str, words: list[str], says: str, home: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    call(name, *(w if w == "parquet" else str(home / w) for w in words))
    assert says in capsys.readouterr().out


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    call("methods", "learn")
    assert "fixmatch" in capsys.readouterr().out


def test_a_method_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    call("check", "margin")
    assert "passed" in capsys.readouterr().out


def test_demo_runs_shortened(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole of it takes minutes and is run by itself; here with a few steps."""
    from modicum.engine import demo

    monkeypatch.setattr(demo, "fit", functools.partial(demo.fit, **QUICK))
    call("demo", str(home / "demo"))
    assert "2 labels a class" in capsys.readouterr().out
