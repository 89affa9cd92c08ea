"""Several processes that train one run: started, listened to, and ended together.

`fit` reads, chooses, measures and writes the page by itself; what lies between, training, is done by ranks.  A rank is
`python -m modicum.engine.rank`: it is handed one line of JSON, meets the others, and answers in lines of JSON; nothing
is pickled.  A rank whose input closes ends at once, so none outlives the process that started it.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

import modicum
from modicum.core import errors
from modicum.core.errors import MachineError, ModicumError, NeedsError
from modicum.runs.run import Run

STOPPING = 30.0  # seconds that ranks have to finish a step and save it
GATHERING = 2.0  # seconds in which a second rank may name a better cause than the first

Order = dict[str, Any]


class LostError(MachineError):
    """A rank ended without a word: it was killed, or its machine is gone."""


class Place(Protocol):
    """Where one rank runs: a process here, or one on a machine of a cluster."""

    def lines(self) -> Iterator[str]:
        """What it says, until it has ended."""

    def ended(self) -> str:
        """How it ended, after its last line: '' = as it should, else in words."""

    def stop(self) -> None:
        """Ask it to end after the step under way."""

    def kill(self) -> None:
        """End it."""


class Child:
    """A rank on this machine.  It hears no Ctrl-C of the terminal: whoever started it says when to stop."""

    def __init__(self, order: Order, env: Mapping[str, str], log: IO[bytes]) -> None:
        command = [sys.executable, "-m", "modicum.engine.rank"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env, text=True, encoding="utf-8",
            start_new_session=True,
        )  # fmt: skip
        self._tell(json.dumps(order))

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it has ended: its exit code says how
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        yield from self.process.stdout

    def ended(self) -> str:
        code = self.process.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}" if code else ""

    def stop(self) -> None:
        self._tell("stop")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def environment(threads: int, interface: str) -> dict[str, str]:
    """A rank's variables: its share of the cores, the network interface to meet on, and where this process imports."""
    path = os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
    meet = {name: os.environ.get(name, interface) for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if interface}
    return {**os.environ, **meet, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def loopback() -> str:
    """The interface that leads nowhere but to this machine."""
    return "lo0" if sys.platform == "darwin" else "" if os.name == "nt" else "lo"


def train(run: Run, config: dict[str, Any], world: int, cluster: str, listen: Any) -> None:
    """Train a run by `world` processes, here or on a cluster; the folder then holds config.json and every network."""
    order = {
        "run": str(run.folder.resolve()), "config": config, "new": not config["arms"],
        "version": modicum.__version__, "home": str(Path.cwd()),
    }  # fmt: skip
    if cluster:
        from modicum.engine import cluster as machines

        machines.train(order, world, cluster, listen)
    else:
        here(order, world, listen)


def here(order: Order, world: int, listen: Any) -> None:
    """Run the order on `world` processes of this machine, to the end; raises what the first of them to fail raised."""
    _room(order["config"]["choices"]["device"], world)
    listen.say(f"Starting {world} processes")
    with tempfile.TemporaryDirectory(prefix="modicum-ranks-") as folder:
        meet = {**order, "meet": Path(folder, "meet").as_uri(), "world": world}
        env = environment(max(1, order["config"]["choices"]["threads"] // world), loopback())
        logs = Path(order["run"], "ranks")

        def start(rank: int) -> Place:
            with log_of(logs, rank).open("wb") as log:
                return Child({**meet, "rank": rank, "gpu": rank}, env, log)

        together(world, start, logs, listen)


def _room(device: str, world: int) -> None:
    """NeedsError where this machine has fewer devices of the kind than processes are asked for."""
    import torch

    there = {"cuda": torch.cuda.device_count, "mps": lambda: 1}.get(device, lambda: world)()
    if there < world:
        fix = f"Use --devices {there}, or --device cpu." if there else "Use --device cpu."
        raise NeedsError(f"{world} processes need {world} devices, and {there} are here", where=device, fix=fix)


def log_of(logs: Path, rank: int) -> Path:
    """Where a rank's stderr goes."""
    logs.mkdir(exist_ok=True)
    return logs / f"{rank}.log"


def together(world: int, start: Any, logs: Path, listen: Any) -> None:
    """Start all ranks, pass on what the first says, and end them: all done, or the first failure ends all.

    start(rank) -> Place.  Ctrl-C lets them finish the step and save it; a second one ends them at once.
    """
    places: list[Place] = []
    crew = Crew(places, logs, listen)
    try:
        places += [start(rank) for rank in range(world)]
        try:
            crew.attend()
        except KeyboardInterrupt:
            crew.dismiss()
            raise
    finally:
        for place in places:
            place.kill()
        if not crew.puzzled:
            shutil.rmtree(logs, ignore_errors=True)


class Crew:
    """Ranks under way, and what they said that nobody has heard yet."""

    def __init__(self, places: Sequence[Place], logs: Path, listen: Any) -> None:
        self.places, self.logs, self.listen = places, logs, listen
        self.at = "before the first step"
        self.said: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
        self.running: set[int] = set()
        self.puzzled = False  # the logs may say more

    def _hear(self, rank: int) -> None:
        for line in self.places[rank].lines():
            with suppress(ValueError):  # cut off in the middle of a word
                self.said.put((rank, json.loads(line)))
        self.said.put((rank, {"ended": self.places[rank].ended()}))

    def attend(self) -> None:
        """Until all have ended; raises the cause where one failed."""
        self.running = set(range(len(self.places)))
        for rank in self.running:
            threading.Thread(target=self._hear, args=(rank,), daemon=True).start()
        bad: list[tuple[int, dict[str, Any]]] = []
        until = float("inf")
        while self.running and time.monotonic() < until:
            try:
                rank, news = self.said.get(timeout=0.2)
            except queue.Empty:
                continue
            if "say" in news:
                self.listen.say(news["say"])
            elif "tick" in news:
                arm, done, total, values = news["tick"]
                self.at = f"{arm}, step {done} of {total}"
                self.listen.tick(arm, done, total, values)
            else:
                self.running -= {rank} if "ended" in news else set()
                if news.get("ended") != "":
                    bad.append((rank, news))
                    until = min(until, time.monotonic() + GATHERING)
        if bad:
            raise self.cause(bad)

    def cause(self, bad: list[tuple[int, dict[str, Any]]]) -> ModicumError:
        """The error that explains the others: a rank that was killed, then an error in words, then any other."""
        spoke = {rank for rank, news in bad if "ended" not in news}
        for rank, news in bad:
            if "ended" in news and rank not in spoke:
                return self.lost(rank, news["ended"])
        for _, news in bad:
            if "error" in news:
                kind, found, where, fix = news["error"]
                return getattr(errors, kind)(found, where=where, fix=fix)
        (rank, news), self.puzzled = bad[0], True
        found = f"process {rank + 1} of {len(self.places)} failed ({self.at}): {news['crash']}"
        return ModicumError(found, where="several processes", fix=f"The traceback is in {log_of(self.logs, rank)}.")

    def lost(self, rank: int, how: str) -> LostError:
        """A rank that ended without a word."""
        self.puzzled = True
        memory = "If memory ran out: fewer --devices, a smaller --batch or --side.  " if "SIGKILL" in how else ""
        fix = f"{memory}The same command goes on from the last checkpoint; last words: {log_of(self.logs, rank)}."
        found = f"process {rank + 1} of {len(self.places)} {how} ({self.at})"
        return LostError(found, where="several processes", fix=fix)

    def dismiss(self) -> None:
        """Let them finish the step under way."""
        self.listen.say("Stopping after this step")
        for place in self.places:
            place.stop()
        until = time.monotonic() + STOPPING
        while self.running and time.monotonic() < until:
            with suppress(queue.Empty):
                rank, news = self.said.get(timeout=0.2)
                self.running -= {rank} if "ended" in news else set()
