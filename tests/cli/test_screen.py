"""What is printed: nothing a terminal would obey, nothing a pipe cannot carry, JSON that a machine can read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.cli import _app, main
from modicum.cli._screen import fill, grid, put_json, say, screen

HOSTILE = ("[red]x", "[b]", "\x1b[2Jevil", "a\u202etxt", ":boom:", "é日本")
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|4[0-7]|9[0-7]|38|48)[0-9;]*m")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in class folders with names that some program would obey."""
    folder = tmp_path_factory.mktemp("hostile")
    for i, name in enumerate(HOSTILE):
        (folder / name).mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 30 * i, np.uint8)).save(folder / name / f"{i}.png")
    return folder


def run(*words: object, **env: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "modicum", *map(str, words)]
    return subprocess.run(command, capture_output=True, env={**os.environ, **env}, timeout=60)


def on_a_terminal(*words: str, **env: str) -> str:
    """What a command prints on a terminal."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", **env}
    command = [sys.executable, "-m", "modicum", *words]
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    out = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so where others give nothing
            break
        if not part:
            break
        out += part
    os.close(ours)
    assert child.wait() == 0
    return out.decode()


def test_names_are_shown_and_not_obeyed(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", str(hostile)]) == 0
    out = capsys.readouterr().out
    for shown in ("[red]x 1", ":boom: 1", "é日本 1", "skipped \\x1b[2Jevil/", "a\\u202etxt 1"):
        assert shown in out
    assert main(["scan", str(hostile / "\x1b[2J[red]\u202e\n")]) == 3
    err = capsys.readouterr().err
    assert "\\x1b[2J[red]\\u202e\\n: there is nothing here" in err and "\x1b" not in err and "\u202e" not in err


def test_lines_and_tables_take_nothing_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    say("[red]a[/]\n\x1b[2J", 3)
    table = grid("[b]head")
    fill(table, "[red]:smile:\u202e[/]\t" + "x" * 300)
    screen().print(table)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "[red]a[/]\\n\\x1b[2J\t3" and out[1].rstrip() == "[b]head"
    assert out[2].rstrip() == "[red]:smile:\\u202e[/]\\t" + "x" * 300  # and a row is not broken in a pipe


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "utf-16"])
def test_letters_that_a_pipe_cannot_carry_become_escapes(hostile: Path, encoding: str) -> None:
    done = run("scan", hostile, PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    text = done.stdout.decode(encoding)
    assert ("é日本" in text) if encoding == "utf-16" else ("\\u65e5\\u672c 1" in text)
    for words in (["methods"], ["--help"]):
        assert run(*words, PYTHONIOENCODING=encoding).returncode == 0
    assert run("scan", hostile / "ü", PYTHONIOENCODING=encoding).returncode == 3


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes are Linux's")
def test_a_name_that_is_not_utf8_is_shown(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / os.fsdecode(b"b\xff.png")).write_bytes(b"")
    done = run("scan", tmp_path)
    assert done.returncode == 0 and b"\\udcff.png" in done.stdout


def test_a_dumb_terminal_gets_plain_lines() -> None:
    for words in (["methods"], ["--help"], ["scan", "--help"]):
        text = on_a_terminal(*words, TERM="dumb")
        assert "\x1b" not in text and not re.search("[│╭╮╰╯━]", text)


def test_no_color_and_columns_are_heeded() -> None:
    assert not COLOUR.search(on_a_terminal("--help", NO_COLOR="1"))
    assert COLOUR.search(on_a_terminal("--help"))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal("methods", COLUMNS="60"))
    assert max(map(len, plain.splitlines())) <= 60
    for columns in ("0", "1", "x"):
        assert "fix" in on_a_terminal("methods", COLUMNS=columns)


def test_a_pipe_gets_no_colour_even_if_forced() -> None:
    for words in (["--help"], ["methods"], ["plan", "--want", "value"], ["nonsense"], ["fit", "--x"]):
        done = run(*words, FORCE_COLOR="1", CLICOLOR_FORCE="1")
        assert b"\x1b" not in done.stdout + done.stderr and "│".encode() not in done.stdout + done.stderr


def test_json_is_ascii_and_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"é\u202e": float("nan"), 1: [np.float32(0.5), np.arange(2), float("inf")], "path": Path("a"), "none": None}
    put_json(found)
    text = capsys.readouterr().out
    assert text.isascii() and text.endswith("\n")
    kept = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert kept == {"é\u202e": None, "1": [0.5, [0, 1], None], "path": "a", "none": None}


def test_verbs_that_machines_read_print_one_json_value(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, key in (
        (["scan", str(hostile), "--json"], "counts"), (["doctor", "--quick", "--json"], "findings"),
        (["plan", "--have", "class:some", "--want", "class", "--json"], "chains"),
    ):  # fmt: skip
        assert main(words) == 0
        assert key in json.loads(capsys.readouterr().out)
    assert main(["methods", "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)


def test_a_plan_as_json_says_what_the_text_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--have", "class:some", "--want", "class", "--best", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (step,) = found["chains"][0]["steps"]
    assert found["want"] == "net:class" and found["have"] == ["image", "class:some"] and step["makes"] == ["net:class"]
    assert main(["plan", "--have", "class:some", "--want", "class", "--best", "1"]) == 0
    assert step["methods"][0] in capsys.readouterr().out


def test_no_verb_prints_by_another_way() -> None:
    for file in sorted(_app.FOLDER.glob("*.py")):
        text = file.read_text(encoding="utf-8")
        assert "typer.echo" not in text or file.name == "_app.py", file.name
        assert not re.search(r"(?<![\w.])print\(", text) or file.name[0] == "_", file.name
        assert "markup=True" not in text, file.name
