"""The laws of the house that no other tool checks: sizes, doors, and what may not be called anywhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1] / "src" / "modicum"
FILES = sorted(HOME.rglob("*.py"))
NAMES = [str(f.relative_to(HOME)) for f in FILES]


@pytest.fixture(params=FILES, ids=NAMES)
def tree(request: pytest.FixtureRequest) -> ast.Module:
    return ast.parse(request.param.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_files_are_short(file: Path) -> None:
    limit = 150 if "methods" in file.relative_to(HOME).parts else 400
    assert len(file.read_text(encoding="utf-8").splitlines()) <= limit


def test_functions_are_short(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 40, f"{node.name}: {lines} lines"


def test_public_things_say_what_they_are(tree: ast.Module) -> None:
    assert ast.get_docstring(tree) or not tree.body
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_every_room_has_its_law_at_the_door() -> None:
    rooms = [p for p in HOME.iterdir() if p.is_dir() and p.name != "__pycache__"]
    for room in rooms:
        lines = (room / "README.md").read_text(encoding="utf-8").strip().splitlines()
        assert 3 <= len(lines) <= 6, room.name


def test_importing_modicum_loads_nothing_heavy() -> None:
    code = "import sys, modicum; print([m for m in ('torch', 'numpy', 'pyarrow', 'PIL') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
