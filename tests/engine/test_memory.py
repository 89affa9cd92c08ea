"""Memory that stays: inside, steps ask the kernel for nothing; on leaving, what is free goes back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from modicum.engine import memory

PROGRAM = """
import resource
import torch
from modicum.engine.memory import kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(1 << 20) for _ in range(40)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

faults()
outside = faults()
with kept():
    faults()
    inside, full = faults(), held()
print(outside, inside, full - held())
"""


@pytest.mark.skipif(memory._glibc() is None, reason="glibc alone is so eager to give memory back")
def test_steps_inside_cause_no_page_faults_and_leaving_gives_memory_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    outside, inside, given_back = map(int, done.stdout.split())
    assert outside > 10_000 and inside < outside / 10, "40 blocks of 4 MiB are 40,960 pages"
    assert given_back > 100


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert memory._glibc() is None
    with memory.kept():
        pass
