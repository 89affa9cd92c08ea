"""Progress of a job: bars with rate and remaining time on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from modicum.cli._ends import Stopped
from modicum.cli._screen import is_terminal, screen
from modicum.core.errors import visible

EVERY = 10.0  # seconds between plain lines


class Teller:
    """Listens to a job (engine.fit.Listener) and prints."""

    def __init__(self) -> None:
        self.console = screen(stderr=True)
        self.begun = time.monotonic()
        self.arm, self.since, self.first, self.spoke = "", 0.0, 0, 0.0
        self.bar: Any = None
        self.task: Any = None

    def say(self, text: str) -> None:
        """A line with the seconds since the start."""
        from rich.text import Text

        self.console.print(Text.assemble((f"{time.monotonic() - self.begun:6.1f} s", "dim"), "  ", visible(text)))

    def tick(self, arm: str, done: int, total: int, values: Mapping[str, float]) -> None:
        """A step of an arm."""
        now = time.monotonic()
        if arm != self.arm:
            self.arm, self.since, self.first, self.spoke = arm, now, done, now
            if self.bar is not None:
                self.task = self.bar.add_task(arm, total=total)
        if self.bar is not None:
            self.bar.update(self.task, completed=done)
        elif done == total or now - self.spoke > EVERY:
            self.spoke = now
            rate = (done - self.first) / max(1e-6, now - self.since)
            left = (total - done) / rate if rate else 0.0
            numbers = "  ".join(f"{k} {v:.3f}" for k, v in values.items())
            self.say(f"{arm}: step {done:,} of {total:,}, {rate:.0f} steps/s, {left:.0f} s left  {numbers}".rstrip())


@contextmanager
def telling(out: str) -> Iterator[Teller]:
    """A Teller whose bars are gone when the job ends.  Ctrl-C is told with what the run in `out` keeps."""
    from rich import progress

    class Rate(progress.ProgressColumn):
        """Steps a second; nothing before the first."""

        def render(self, task: progress.Task) -> str:  # type: ignore[override]
            return f"{task.speed:.0f} steps/s" if task.speed else ""

    teller = Teller()
    columns = (
        progress.TextColumn("{task.description:>14}", markup=False), progress.BarColumn(),
        progress.MofNCompleteColumn(), Rate(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    try:
        if not is_terminal(teller.console.file):
            yield teller
            return
        with progress.Progress(*columns, console=teller.console) as teller.bar:
            yield teller
    except KeyboardInterrupt:
        raise Stopped(kept(Path(out))) from None


def kept(folder: Path) -> str:
    """What an interrupted run keeps, and how to go on."""
    if not (folder / "config.json").is_file():
        return "nothing was trained yet; the same command starts again"
    found = sorted(folder.glob("arms/*/checkpoints/at-*/state.json"))
    where = ""
    if found:
        with suppress(OSError, ValueError, KeyError):
            where = f" ({found[-1].parents[2].name} up to step {json.loads(found[-1].read_bytes())['total']:,})"
    return f"{folder} keeps what was trained{where}; the same command goes on from there"
