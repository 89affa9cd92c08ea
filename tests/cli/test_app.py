"""The command line as a whole: light, quiet, and honest in its exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from modicum.cli import _app

HEAVY = ("torch", "numpy", "pyarrow", "timm", "sklearn", "lightning_fabric", "PIL")


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modicum", *words], capture_output=True, text=True, env={**os.environ, **env}, timeout=60
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["--version"], ["methods"], ["methods", "--json"],
        ["plan", "--have", "class:some", "--want", "class"],
        ["plan", "--have", "image", "--want", "value"], ["plan", "--help"], ["new", "--help"], ["doctor", "--help"],
        ["new", "method", "Bad Name"],
    ],
)  # fmt: skip
def test_light_verbs_load_nothing_heavy(words: list[str]) -> None:
    code = f"import sys, modicum.cli; modicum.cli.main({words!r}); "
    code += f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "[]"


def test_every_verb_has_one_line_of_help_and_a_function_of_its_name() -> None:
    out = run("--help", COLUMNS="200").stdout
    assert len(_app.verbs()) >= 4
    for verb in _app.verbs():
        text = _app.line(verb)
        assert text.endswith(".") and len(text) <= 90 and text in out, f"the docstring of cli/{verb}.py is not one line"
        source = (_app.FOLDER / f"{verb.replace('-', '_')}.py").read_text(encoding="utf-8")
        assert re.search(rf"^def {verb.replace('-', '_')}\(", source, re.M)


def test_help_does_not_import_the_verbs() -> None:
    code = "import sys, modicum.cli; modicum.cli.main(['--help']); "
    code += "print([m for m in sys.modules if m.startswith('modicum.cli.') and m.split('.')[2][0] != '_'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_colour_and_no_broken_rows_in_a_pipe() -> None:
    for words in (["--help"], ["methods"], ["plan", "--have", "image", "--want", "value"], ["nonsense"]):
        done = run(*words)
        assert "\x1b" not in done.stdout + done.stderr
    rows = run("methods", COLUMNS="40").stdout.splitlines()
    assert any("fixmatch" in r and "net:class" in r and "FixMatch (2020)" in r for r in rows)


def test_errors_are_one_paragraph_on_stderr_with_their_exit_code() -> None:
    done = run("plan", "--have", "tags", "--want", "boxs")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "modicum: unknown kind 'boxs' in 'boxs'\nDid you mean 'boxes'?\n"
    done = run("plan", "--have", "image", "--want", "class")
    assert done.returncode == 4 and "class on 40 images" in done.stderr


def test_unknown_verbs_and_options_exit_with_2() -> None:
    done = run("methds")
    assert done.returncode == 2 and "methods" in done.stderr and "Traceback" not in done.stderr
    assert run("plan", "--no-such").returncode == 2
    assert run("plan").returncode == 2


def test_debug_shows_the_traceback_wherever_it_stands() -> None:
    for words in (
        ["--debug", "plan", "--have", "x", "--want", "class"],
        ["plan", "--have", "x", "--want", "class", "--debug"],
    ):
        assert "Traceback" in run(*words).stderr


def test_version() -> None:
    import modicum

    assert run("--version").stdout == f"modicum {modicum.__version__}\n"
