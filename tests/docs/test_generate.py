"""The generated pages: what they are made of, and that they are not stale."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from modicum.core import registry

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(ours: float, low: float, adapted: str = "") -> dict[str, str]:
    return {"ours": str(ours), "low": str(low), "adapted": adapted}


@pytest.mark.parametrize(
    "rows, status",
    [
        ([], "not yet"), ([line(2, 1)], "reproduced"), ([line(2, -1)], "close"), ([line(-1, -2)], "not yet"),
        ([line(2, 1), line(2, -1)], "close"), ([line(2, 1), line(0, -1)], "not yet"),
        ([line(2, 1), line(2, 1, "yes")], "adapted"), ([line(-1, -2, "yes")], "not yet"),
    ],
)  # fmt: skip
def test_status_is_that_of_the_worst_effect(generate: ModuleType, rows: list[dict[str, str]], status: str) -> None:
    assert generate.status(rows) == status


def test_claims_are_read_by_method(generate: ModuleType) -> None:
    assert generate.claims("") == {}
    found = generate.claims("method,claim,ours,low,high,seeds,adapted\na,x,1,0,2,3,\na,y,1,0,2,3,\nb,x,1,0,2,3,yes\n")
    assert {k: len(v) for k, v in found.items()} == {"a": 2, "b": 1}


def test_tables_keep_bars_apart(generate: ModuleType) -> None:
    assert generate.grid(("a", "b"), [("x|y", "1\n2")]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 2 |"
    assert generate.grid(("a",), []) == ""


def test_every_method_has_a_page_with_its_settings(generate: ModuleType) -> None:
    pages = {p.stem: text for p, text in generate.pages().items() if p.parent.name == "methods"}
    assert set(pages) == {*registry.cards(), "index"}
    for name, card in registry.cards().items():
        assert card.idea in pages[name] and f"({name}.md)" in pages["index"]
        assert all(f"`{knob}`" in pages[name] for knob in registry.load(name).knobs())


def test_every_part_is_told_with_its_knobs_and_who_uses_it(generate: ModuleType) -> None:
    page = generate.parts_page(registry.cards())
    for part in registry.part_names():
        assert f"### {part.partition('/')[2]}\n" in page
    assert "| `tau` | 0.95 | 0 to 1 |" in page and "| `sigmas` | 2 | 0 to 100 |" in page
    assert "(../methods/softmatch.md). Source: `src/modicum/nn/trust/gaussian.py`" in page
    assert "```text\nmu, v <- moving mean" in page and "\n    mu" not in page


def test_prose_sets_equations_apart(generate: ModuleType) -> None:
    assert generate.prose("one\n\n    a = 1\n      b\n\ntwo") == "one\n\n```text\na = 1\n  b\n```\n\ntwo"


def test_committed_pages_are_not_stale(
    generate: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generate.main(check=True) == 0, capsys.readouterr().out


def test_a_stale_a_missing_and_a_left_over_page_are_found_and_mended(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "docs"
    monkeypatch.setattr(generate, "DOCS", docs)
    wanted = {docs / "methods" / "a.md": generate.page("# a"), docs / "reference" / "b.md": generate.page("# b")}
    monkeypatch.setattr(generate, "pages", lambda: wanted)
    (docs / "methods").mkdir(parents=True)
    (docs / "methods" / "a.md").write_text("old")
    (docs / "methods" / "gone.md").write_text(generate.page("# gone"))
    (docs / "methods" / "mine.md").write_text("by hand")
    assert generate.main(check=True) == 1
    said = capsys.readouterr().out
    assert all(name in said for name in ("a.md", "b.md", "gone.md")) and "mine.md" not in said
    assert generate.main(check=False) == 0 and generate.main(check=True) == 0
    assert {p.name for p in docs.rglob("*.md")} == {"a.md", "b.md", "mine.md"}


def test_every_page_of_the_menu_that_is_generated_exists() -> None:
    menu = re.findall(r'"((?:methods|reference)/[\w/-]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8"))
    assert len(menu) >= 5 and all((ROOT / "docs" / page).is_file() for page in menu)


def test_the_generator_can_be_run_from_anywhere(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
