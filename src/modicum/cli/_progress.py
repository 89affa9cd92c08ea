"""Progress of a job: bars with rate and remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from modicum.cli._screen import screen

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
        self.console.print(f"[dim]{time.monotonic() - self.begun:6.1f} s[/dim]  {_plain(text)}")

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


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@contextmanager
def telling() -> Iterator[Teller]:
    """A Teller whose bars are gone when the job ends."""
    from rich import progress

    teller = Teller()
    if not teller.console.is_terminal:
        yield teller
        return

    class Rate(progress.ProgressColumn):
        """Steps a second; nothing before the first."""

        def render(self, task: progress.Task) -> str:  # type: ignore[override]
            return f"{task.speed:.0f} steps/s" if task.speed else ""

    columns = (
        progress.TextColumn("{task.description:>14}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        Rate(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    with progress.Progress(*columns, console=teller.console) as teller.bar:
        yield teller
