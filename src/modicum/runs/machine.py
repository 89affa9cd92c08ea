"""What this process may really use of the machine: cores and memory under affinity and control groups.

A container or a batch system often gives less than the machine has, and torch does not ask.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ROOT = Path("/")


class Cores(NamedTuple):
    """there: of the machine.  allowed: by affinity.  quota: of a control group, in cores; None = no limit."""

    there: int
    allowed: int
    quota: float | None

    @property
    def usable(self) -> int:
        """Threads that can run at once, at least 1."""
        return max(1, self.allowed if self.quota is None else min(self.allowed, int(self.quota)))


class Memory(NamedTuple):
    """Bytes; None = not known, or no limit.  there: of the machine.  free: for us.  limit: of a control group."""

    there: int | None
    free: int | None
    limit: int | None


def cores(root: Path = ROOT) -> Cores:
    """Cores of this process.  root: where /proc and /sys are."""
    there = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    quotas = []
    for folder in _groups(root, "cpu"):
        words = _text(folder / "cpu.max").split() or [
            _text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip(),
        ]  # fmt: skip
        if all(w.isdecimal() and int(w) for w in words):
            quotas.append(int(words[0]) / int(words[1]))
    return Cores(there, allowed, min(quotas, default=None))


def memory(root: Path = ROOT) -> Memory:
    """Memory of this process.  What files are cached in counts as free."""
    lines = (line.split() for line in _text(root / "proc/meminfo").splitlines())
    found = {words[0]: int(words[1]) * 1024 for words in lines if len(words) > 1 and words[1].isdecimal()}
    there, free = found.get("MemTotal:") or _pages(), found.get("MemAvailable:")
    limit = None
    for folder in _groups(root, "memory"):
        most, used = _number(folder, "max", "limit_in_bytes"), _number(folder, "current", "usage_in_bytes")
        if most is None or (there and most >= there):  # version 1 writes a huge number for none
            continue
        limit = min(most, limit or most)
        if used is not None:
            left = max(0, most - used + _cached(folder))
            free = left if free is None else min(free, left)
    return Memory(there, free, limit)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups this process is in, from its own outwards, of version 2 or 1."""
    base = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        home, parts = base / controller if names else base, PurePosixPath(path).parts[1:]
        for depth in range(len(parts), -1, -1):
            yield home.joinpath(*parts[:depth])


def _number(folder: Path, new: str, old: str) -> int | None:
    text = (_text(folder / f"memory.{new}") or _text(folder / f"memory.{old}")).strip()
    return int(text) if text.isdecimal() else None


def _cached(folder: Path) -> int:
    """Bytes that hold files not used lately: given back when somebody wants them."""
    words = [line.split() for line in _text(folder / "memory.stat").splitlines()]
    found = {w[0]: int(w[1]) for w in words if len(w) == 2 and w[1].isdecimal()}
    return found.get("total_inactive_file", found.get("inactive_file", 0))


def _pages() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
