"""Two processes that train together, started once and handed one method or part after another.

Each runs `serve`: a line of JSON in, a line out, until the input ends.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from modicum.testing.case import Case
from modicum.testing.part import Part, verdicts
from modicum.testing.results import BrokenError
from modicum.testing.stand_ins import DoubleFeed

WORLD, STEPS, BATCH, PATIENCE = 2, 10, 7, 60.0  # 7 images are shared as 4 and 3
_SERVE = "import sys; from modicum.testing.ranks import serve; serve(int(sys.argv[1]), sys.argv[2])"


def weights(case: Case, settings: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """Every parameter and buffer of the nets, and every column, after some steps in float64."""
    loop = case.loop(method=case.method(**settings or {}), recipe=case.recipe(STEPS, BATCH), kind=DoubleFeed)
    loop.nets.double()
    loop.run()
    held = {**dict(loop.nets.named_parameters()), **dict(loop.nets.named_buffers())}
    return {k: v.detach().double() for k, v in {**held, **loop.feed.columns}.items()}


@dataclass
class Pool:
    """The processes.  A method that breaks them is told, and the next one gets new ones."""

    running: list[subprocess.Popen[str]] = field(default_factory=list)
    folder: Path = Path()

    def start(self) -> None:
        """Two processes that meet through a file."""
        self.folder = Path(tempfile.mkdtemp(prefix="modicum-ranks-"))
        # One thread each; gloo may pick an interface that leads nowhere, so it is told the one inside the machine.
        inside = "lo0" if sys.platform == "darwin" else "lo"
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", inside)}
        self.running = [
            subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(rank), str(self.folder / "store")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
            )
            for rank in range(WORLD)
        ]  # fmt: skip

    def stop(self) -> None:
        """End them."""
        for process in self.running:
            process.kill()
            process.wait()
        self.running = []
        shutil.rmtree(self.folder, ignore_errors=True) if self.folder != Path() else None

    def train(self, case: Case, settings: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        """`weights` of two ranks; BrokenError if they fail or do not agree with each other."""
        name = str(case.path.resolve()) if "_modicum_checked_" in case.cls.__module__ else case.name
        return self.ask({"method": name, "settings": settings or {}})

    def judge(self, part: Part) -> dict[str, Tensor]:
        """`verdicts` of two ranks; BrokenError likewise."""
        return self.ask({"part": part.where})

    def ask(self, job: Mapping[str, Any]) -> dict[str, Tensor]:
        """Hand both the same work; the first one's answer, if the second's is the same."""
        from safetensors.torch import load_file

        if not self.running:
            self.start()
        out = self.folder / "answer"
        timer = threading.Timer(PATIENCE, self.stop)
        timer.start()
        try:
            for process in self.running:
                _put(process.stdin, {**job, "out": str(out)})
            said = [_get(process.stdout) for process in list(self.running)]
        finally:
            timer.cancel()
        wrong = [s for s in said if s]
        if wrong:
            self.stop()
            raise BrokenError(f"on two ranks: {wrong[0]}")
        ours, theirs = (load_file(out.with_suffix(f".{rank}")) for rank in range(WORLD))
        apart = [k for k in ours if not torch.allclose(ours[k], theirs[k], 0, 0, equal_nan=True)]
        if apart:
            raise BrokenError(f"the two ranks hold different {apart[0]}")
        return ours


def _put(pipe: IO[str] | None, job: dict[str, Any]) -> None:
    assert pipe is not None
    pipe.write(json.dumps(job) + "\n")
    pipe.flush()


def _get(pipe: IO[str] | None) -> str:
    assert pipe is not None
    line = pipe.readline()
    return str(json.loads(line)) if line else "the process died or hung: ranks may wait for each other"


@functools.cache
def pool() -> Pool:
    """The pool of this process, ended with it."""
    made = Pool()
    atexit.register(made.stop)
    return made


def serve(rank: int, store: str) -> None:
    """One rank: do the work that each line names, answer with what went wrong or ''."""
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that greet on standard output must not spoil the answers
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD, timeout=timedelta(seconds=PATIENCE / 2)
    )
    for line in sys.stdin:
        job, said = json.loads(line), ""
        try:
            part = verdicts(Part.open(job["part"])) if "part" in job else None
            found = part or weights(Case.open(job["method"]), job["settings"])
            save_file({k: v.contiguous().clone() for k, v in found.items()}, Path(job["out"]).with_suffix(f".{rank}"))
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        answers.write(json.dumps(said) + "\n")
        answers.flush()
