"""Cores and memory under control groups, by folders that look like /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modicum.runs import machine


def tree(root: Path, files: dict[str, str]) -> Path:
    files = {name.replace("G/", "sys/fs/cgroup/"): text for name, text in files.items()}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


GIB = 2**30
INFO = {"proc/meminfo": f"MemTotal:  {16 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {8 * 2**20} kB\nHuge: 0\n"}
V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/box\n"}


def test_this_machine() -> None:
    found = machine.cores()
    assert 1 <= found.usable <= found.allowed <= found.there == (os.cpu_count() or 1)
    kept = machine.memory()
    assert kept.there is None or (kept.there > GIB / 4 and (kept.free is None or 0 < kept.free <= kept.there))


@pytest.mark.parametrize(
    "files, quota",
    [
        ({}, None), ({**V2}, None), ({**V2, "G/a/b/cpu.max": "max 100000\n"}, None),
        ({**V2, "G/a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({**V2, "G/a/b/cpu.max": "400000 100000\n", "G/cpu.max": "200000 100000\n"}, 2.0),
        ({**V1, "G/cpu/box/cpu.cfs_quota_us": "-1\n", "G/cpu/box/cpu.cfs_period_us": "100000\n"}, None),
        ({**V1, "G/cpu/cpu.cfs_quota_us": "300000\n", "G/cpu/cpu.cfs_period_us": "100000\n"}, 3.0),
    ],
)  # fmt: skip
def test_cores_by_the_narrowest_group(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert machine.cores(tree(tmp_path, files)).quota == quota


@pytest.mark.parametrize("quota, allowed, usable", [(None, 4, 4), (1.5, 4, 1), (0.5, 4, 1), (8.0, 4, 4), (3.0, 64, 3)])
def test_usable_cores(quota: float | None, allowed: int, usable: int) -> None:
    assert machine.Cores(64, allowed, quota).usable == usable


@pytest.mark.parametrize(
    "files, free, limit",
    [
        (V2, 8 * GIB, None),
        ({**V2, "G/a/memory.max": "max\n"}, 8 * GIB, None),
        ({**V2, "G/a/memory.max": f"{4 * GIB}\n", "G/a/memory.current": f"{3 * GIB}\n",
          "G/a/memory.stat": f"anon 5\ninactive_file {GIB}\n"}, 2 * GIB, 4 * GIB),
        ({**V2, "G/a/memory.max": f"{4 * GIB}\n", "G/memory.max": f"{2 * GIB}\n"}, 8 * GIB, 2 * GIB),
        ({**V1, "G/memory/box/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * GIB, None),
        ({**V1, "G/memory/box/memory.limit_in_bytes": f"{GIB}\n",
          "G/memory/box/memory.usage_in_bytes": f"{2 * GIB}\n"}, 0, GIB),
    ],
)  # fmt: skip
def test_memory_by_the_narrowest_group(tmp_path: Path, files: dict[str, str], free: int, limit: int | None) -> None:
    assert machine.memory(tree(tmp_path, {**INFO, **files})) == (16 * GIB, free, limit)


def test_a_system_without_proc(tmp_path: Path) -> None:
    found = machine.memory(tmp_path)
    assert found.free is None and found.limit is None and machine.cores(tmp_path).quota is None
