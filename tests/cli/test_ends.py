"""How a command ends: one paragraph, the documented exit code, no traceback unless it is asked for."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modicum.cli import _app, _ends, main
from modicum.core.errors import DataError, ModicumError

Verb = Callable[[], None]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "modicum"


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def doctor() -> None:
        raise error

    monkeypatch.setattr(_app, "function", lambda verb: doctor)


@pytest.mark.parametrize(
    "error, code, says",
    [
        (KeyboardInterrupt(), 130, "modicum: stopped: no file is half written; the same command starts again\n"),
        (_ends.Stopped("run keeps it"), 130, "modicum: stopped: run keeps it\n"),
        (DataError("empty", where="a.png", fix="Look."), 3, "modicum: a.png: empty\nLook.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x.csv"), 7,
         "modicum: x.csv: No space left on device\nFree some space, or choose another folder.\n"),
        (PermissionError(errno.EACCES, "Permission denied", "secret"), 7,
         "modicum: secret: Permission denied\nChange its permissions, or choose another folder.\n"),
        (MemoryError(), 7, "modicum: out of memory\nClose other programs"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 7, "modicum: out of memory\n"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 7,
         "modicum: the package 'torch' is not installed\nInstall it: "),
        (ModuleNotFoundError("No module named 'modicum.x'", name="modicum.x"), 70, "modicum: this is a fault"),
        (ZeroDivisionError("x"), 70, "modicum: this is a fault of Modicum: ZeroDivisionError: x (cli/_app.py, line "),
        (OSError("odd"), 70, "modicum: this is a fault of Modicum: OSError: odd ("),
    ],
)  # fmt: skip
def test_what_a_verb_raises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, says: str
) -> None:
    raising(monkeypatch, error)
    assert main(["doctor"]) == code
    said = capsys.readouterr().err
    assert said.startswith(says) and "Traceback" not in said and said.count("\n") <= 2


def test_the_traceback_of_a_fault_is_kept_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    def doctor() -> None:
        raise AttributeError(time.monotonic())

    monkeypatch.setattr(_app, "function", lambda verb: doctor)
    for _ in range(3):
        assert main(["doctor"]) == 70
        (file,) = state.glob("fault-*.txt")  # the same lines of code: the same fault
        assert str(file) in capsys.readouterr().err
    text = file.read_text(encoding="utf-8")
    assert "modicum doctor\n" in text and "AttributeError" in text and "test_ends.py" in text and "Python 3." in text
    raising(monkeypatch, ZeroDivisionError())
    main(["doctor"])
    assert len(list(state.glob("fault-*.txt"))) == 2


def test_a_fault_is_told_where_nothing_can_be_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    raising(monkeypatch, ZeroDivisionError("x"))
    assert main(["doctor"]) == 70
    assert "Report it, please.  The same command with --debug prints it." in capsys.readouterr().err


def test_debug_prints_the_traceback_and_keeps_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    for error, code in ((ZeroDivisionError("x"), 70), (DataError("x"), 3), (KeyboardInterrupt(), 130)):
        raising(monkeypatch, error)
        assert main(["doctor", "--debug"]) == code
        said = capsys.readouterr().err
        assert "Traceback" in said and said.splitlines()[-1].startswith(("modicum: ", "Report it"))
    assert not state.exists()


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    def doctor() -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(_app, "function", lambda verb: doctor)
    assert main(["doctor"]) == code and capsys.readouterr().err.startswith("modicum: stopped: ")
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_sigterm_stops_where_ctrl_c_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def doctor() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(_app, "function", lambda verb: doctor)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["doctor"]) == 143
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_that_is_stopped_says_what_it_keeps(tmp_path: Path) -> None:
    words = ["fit", "sample:digits", "--out", "run", "--steps", "1000000", "--twins", "none", "--precision", "32"]
    env = {**os.environ, "MODICUM_CACHE": str(tmp_path / "cache")}
    child = subprocess.Popen(
        [sys.executable, "-m", "modicum", *words], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < end:
        time.sleep(0.1)
    child.terminate()
    said = child.communicate(timeout=60)[1].splitlines()[-1]
    assert child.returncode == 143
    assert said.startswith("modicum: stopped: run keeps what was trained (supervised up to step ")
    assert said.endswith("); the same command goes on from there")


def test_a_reader_that_leaves_is_no_error() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "modicum", "methods", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout and child.stderr
    child.stdout.close()
    assert child.stderr.read() == b"" and child.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_output_that_cannot_be_written() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "modicum", "methods"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 7 and done.stderr.startswith(b"modicum: output: No space left on device\nFree some space")


def test_without_typer_it_says_so() -> None:
    code = "import sys; sys.modules['typer'] = None\nfrom modicum.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 7 and "typer" in done.stderr and "pip install modicum" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_class_of_error_has_an_exit_code_of_its_own() -> None:
    classes = [c for c in ModicumError.__subclasses__() if c.__module__ == "modicum.core.errors"]
    codes = [c.exit_code for c in classes]
    assert len(set(codes)) == len(codes) >= 6 and not {0, 1, 70, 130, 141, 143} & set(codes)
