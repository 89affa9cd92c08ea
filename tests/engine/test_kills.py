"""SIGKILL at exact places, one after the other on one run: each life takes up what the last one left, to the same bits.

A place is the moment before the system is asked to open, rename or remove a file, as Python's audit events tell it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.kills import bits

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="lives are forked")

SERVER = """
import fnmatch, json, os, signal, sys
from pathlib import Path
from benchmarks.kills import begin, job, preload

def armed(work, event, pattern, times):
    def run():
        left = [times]
        def hook(name, given):
            if name == event and fnmatch.fnmatch(str(given[-1] if name == "os.rename" else given[0]), pattern):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
        def renamed(name, given):  # rename: (from, to, ...)
            return hook(name, given[:2]) if name == "os.rename" else hook(name, given)
        if event:
            sys.addaudithook(renamed)
        work()
    return run

preload()
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    work = job("sample:digits", Path(asked["run"]), Path(asked["cache"]), **asked["asked"])
    pid = begin(armed(work, *asked["at"]), Path(asked["log"]))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
QUICK = {"steps": 6, "checkpoint": 0.0, "side": 0}
NOWHERE = ("", "", 0)

BEFORE = [
    ("os.rename", "*/scan.json", 1), ("open", "*/.data.*.tmp/images.parquet", 1), ("os.rename", "*/data", 1),
    ("os.rename", "*/vault", 1), ("open", "*/.seconds.json.*.tmp", 1), ("open", "*/.environment.json.*.tmp", 1),
    ("open", "*/.config.json.*.tmp", 1), ("os.rename", "*/config.json", 1),
]  # fmt: skip
TRAINING = [
    ("os.mkdir", "*/fixmatch", 1), ("os.mkdir", "*/.at-*.tmp", 1), ("open", "*.tmp/state.json", 1),
    ("os.rename", "*/at-0000-000000001", 1), ("open", "*/metrics.jsonl", 3), ("open", "*.tmp/SHA256SUMS", 2),
    ("os.rename", "*/metrics.jsonl", 1), ("shutil.rmtree", "*/at-*", 1), ("os.remove", "SHA256SUMS", 1),
    ("os.rename", "*/fixmatch/net.safetensors", 1), ("os.rename", "*/fixmatch/net.json", 1),
    ("shutil.rmtree", "*/fixmatch/checkpoints", 1), ("os.rename", "*/twin-weak/checkpoints/at-*", 3),
]  # fmt: skip
FINISH = [
    ("os.rename", "*/keep.json", 1), ("os.rename", "*/predictions.parquet", 1),
    ("os.rename", "*/run/net.safetensors", 1),
    ("os.rename", "*/run/net.json", 1), ("open", "*/openings.jsonl", 1), ("os.rename", "*/evaluation.json", 1),
    ("os.rename", "*/maps.npz", 1), ("os.rename", "*/report.html", 1), ("os.rename", "*/seconds.json", 6),
]  # fmt: skip
EXPORT = [("os.rename", "*/model.onnx", 1), ("os.rename", "*/export.json", 1)]


class Lives:
    """A process that has imported everything and forks a life for each line it reads."""

    def __init__(self, home: Path) -> None:
        self.home, self.log = home, home / "log.txt"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        assert self.answer() == "ready"

    def answer(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline().strip()

    def life(self, run: Path, at: tuple[str, str, int] = NOWHERE, **asked: Any) -> int:
        assert self.server.stdin is not None
        order = {"run": str(run), "cache": str(self.home / "cache"), "log": str(self.log), "at": at}
        self.server.stdin.write(json.dumps({**order, "asked": {**QUICK, **asked}}) + "\n")
        self.server.stdin.flush()
        return int(self.answer())


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    made = Lives(tmp_path_factory.mktemp("lives"))
    yield made
    made.server.kill()
    made.server.wait()


@pytest.fixture(scope="module")
def truth(lives: Lives) -> dict[str, str]:
    """What a run that nobody killed leaves."""
    assert lives.life(lives.home / "truth" / "run") == 0, lives.log.read_text()
    return bits(lives.home / "truth" / "run")


@pytest.mark.parametrize("places", [BEFORE, TRAINING, FINISH], ids=["before training", "training", "finish"])
def test_killed_everywhere_in_turn(
    lives: Lives, truth: dict[str, str], tmp_path: Path, places: list[tuple[str, str, int]]
) -> None:
    run = tmp_path / "run"
    for at in places:
        assert lives.life(run, at) == -9, f"{at} was not reached: {lives.log.read_text()[-2000:]}"
    assert lives.life(run) == 0, lives.log.read_text()[-2000:]
    assert bits(run) == truth


def test_killed_while_it_exports(lives: Lives, truth: dict[str, str], tmp_path: Path) -> None:
    run, asked = tmp_path / "run", {"export": True, "twins": "none"}
    for at in EXPORT:
        assert lives.life(run, at, **asked) == -9, lives.log.read_text()[-2000:]
    assert lives.life(run, **asked) == 0 and (run / "export.json").exists()
    assert {k: v for k, v in bits(run).items() if k in truth and "net.safetensors" in k} == {
        k: v for k, v in truth.items() if "net.safetensors" in k and "twin" not in k and "fold" not in k
    }


def test_a_life_that_is_not_killed_says_so(lives: Lives, tmp_path: Path) -> None:
    """The witness of the witness: places that do not exist are not reached."""
    assert lives.life(tmp_path / "run", ("os.rename", "*/nowhere", 1), steps=1, twins="none") == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kill_nine_at_twenty_random_moments() -> None:
    """`python -m benchmarks.kills`, which does a hundred."""
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "20", "--seed", "1"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0 and "20 of 20 kills ended in the same bits" in found.stdout, found.stdout
