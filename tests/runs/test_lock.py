"""One writer a run, whoever died, wherever: checked with real processes that are really killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modicum.core.errors import RunError
from modicum.runs import lock as locks
from modicum.runs.lock import holder, lock, told
from modicum.runs.run import Run

HOLD = """
import sys, time
from pathlib import Path
from modicum.runs.lock import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def other(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


def test_the_second_is_refused_and_told_who_holds_it_since_when(tmp_path: Path) -> None:
    with other(tmp_path / "run") as child:
        text = rf"process {child.pid} on {socket.gethostname()}, since 20\d\d-\d\d-\d\d \d\d:\d\d\nWait for it"
        with pytest.raises(RunError, match=text), lock(tmp_path / "run"):
            pass
        assert holder(tmp_path / "run")["pid"] == child.pid
        assert (tmp_path / "run" / ".lock").exists(), "the second did not take the first one's lock away"


def test_a_killed_one_is_followed_at_once_and_named(tmp_path: Path) -> None:
    with other(tmp_path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert (tmp_path / ".lock").exists() and holder(tmp_path) == {}
        with lock(tmp_path) as before:
            assert told(before).startswith(f"process {child.pid} on ")
    assert not (tmp_path / ".lock").exists()


def test_within_one_process_too(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with run.lock() as before, pytest.raises(RunError, match=f"process {os.getpid()} on"):
        assert before == {}
        with run.lock():
            pass
    assert not (tmp_path / "run").exists(), "a folder in which nothing was written goes again"
    with run.lock():
        pass


def test_it_goes_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError), lock(tmp_path):
        raise ValueError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "{", "[1]", "4711 somewhere"])
def test_a_lock_file_that_was_cut_short_holds_nobody_up(tmp_path: Path, content: str) -> None:
    (tmp_path / ".lock").write_text(content)
    with lock(tmp_path) as before:
        assert before == {}


def test_a_lock_whose_folder_was_removed_is_not_mistaken_for_the_next_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with lock(run):
        (run / ".lock").unlink()
        run.rmdir()
        with lock(run):
            assert holder(run)["pid"] == os.getpid()
        assert not run.exists()


def test_one_that_only_looks_does_not_hold_up_one_that_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take, tries = locks._take, []

    def busy_once(file: Any, path: Path) -> bool:
        tries.append(1)
        return len(tries) > 1 and take(file, path)

    monkeypatch.setattr(locks, "_take", busy_once)
    with lock(tmp_path):
        assert len(tries) == 2


# -- disks that know no locks ------------------------------------------------------------------------------------------


@pytest.fixture
def lockless(monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unknown(*given: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)


def left(folder: Path, **changes: Any) -> None:
    mine = {"pid": os.getppid(), "host": socket.gethostname(), "boot": locks._boot(), "since": "2025-01-31 12:00"}
    (folder / ".lock").write_text(json.dumps(mine | changes))


@pytest.mark.usefixtures("lockless")
@pytest.mark.parametrize("changes", [{}, {"host": "elsewhere", "pid": 1}])
def test_without_locks_the_process_that_the_file_names_counts(tmp_path: Path, changes: dict[str, Any]) -> None:
    left(tmp_path, **changes)
    with pytest.raises(RunError, match="since 2025-01-31 12:00") as refused, lock(tmp_path):
        pass
    assert ("If nothing runs on elsewhere any more, delete" in refused.value.fix) == bool(changes)


@pytest.mark.usefixtures("lockless")
def test_without_locks_the_dead_and_those_before_the_last_start_do_not_count(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    for changes in ({"pid": child.pid}, {"boot": "another start"}, {"pid": "no number"}):
        left(tmp_path, **changes)
        with lock(tmp_path) as before:
            assert before["since"] == "2025-01-31 12:00"


# -- folders that cannot be written ------------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(RunError, match="run: cannot write here: Not a directory"), lock(tmp_path / "file" / "run"):
        pass
    for code, words in ((errno.EROFS, "Read-only file system"), (errno.EACCES, "Permission denied")):

        def refuse(self: Path, *given: Any, code: int = code, **more: Any) -> Any:
            raise OSError(code, os.strerror(code), str(self))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", refuse)
            with pytest.raises(RunError, match=f"cannot write here: {words}\nChoose another folder"), lock(tmp_path):
                pass


def test_a_wrong_clock_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with other(tmp_path):
        for now in (0.0, time.time() + 1e9):
            monkeypatch.setattr(time, "time", lambda now=now: now)
            with pytest.raises(RunError, match="another process"), lock(tmp_path):
                pass
