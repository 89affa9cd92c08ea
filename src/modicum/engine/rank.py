"""One of several processes that train a run: `python -m modicum.engine.rank` (see engine/launch.py).

In: one line of JSON, the order; then the line "stop", or the end of the input, which ends this process.  Out: lines of
JSON, {"say": ...} and {"tick": ...} from the first rank, {"error": ...} or {"crash": ...} from one that fails.
"""

from __future__ import annotations

import _thread
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import IO, Any

from modicum.core.dataset import Dataset
from modicum.core.errors import ModicumError
from modicum.runs.run import Run

OFTEN = 0.1  # seconds between two steps that are told


class Share(Run):
    """A run as one of several processes has it: its choices were told, and only the first process writes."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        super().__init__(order["run"])
        self.told, self.first = order["config"], order["rank"] == 0

    @property
    def config(self) -> dict[str, Any]:
        return self.told

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        if self.first:
            super().write(name, content)


class Speaker:
    """Tells the process that started us; only the first rank is heard (engine.fit.Listener)."""

    def __init__(self, out: IO[str], first: bool) -> None:
        self.out, self.first, self.last = out, first, 0.0

    def tell(self, **news: Any) -> None:
        """One line."""
        self.out.write(json.dumps(news) + "\n")
        self.out.flush()

    def say(self, text: str) -> None:
        if self.first:
            self.tell(say=text)

    def tick(self, arm: str, done: int, total: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        if self.first and (values or done == total or now - self.last > OFTEN):
            self.last = now
            self.tell(tick=[arm, done, total, dict(values)])


def obey() -> None:
    """Whoever started us says stop, which is a Ctrl-C; or is gone, and then so are we."""
    for line in sys.stdin:
        if line.strip() == "stop":
            _thread.interrupt_main()
    os._exit(1)


def work(order: dict[str, Any], speaker: Speaker) -> None:
    """Meet the others and train."""
    import torch

    from modicum.engine.cluster import same_version
    from modicum.engine.fit import Job, trained
    from modicum.engine.images import images_of
    from modicum.engine.request import Request

    same_version(order["version"])
    os.chdir(order["home"])
    gpu = order["config"]["choices"]["device"] == "cuda"
    if gpu:
        torch.cuda.set_device(order["gpu"])
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo", init_method=order["meet"], rank=order["rank"],
        world_size=order["world"],
    )  # fmt: skip
    run = Share(order)
    data = Dataset.load(run / "data")
    job = Job(run, Request.of(run.config["request"]), speaker)
    trained(job, data, images_of(run, data), run.config, order["new"])
    torch.distributed.destroy_process_group()


def main() -> None:
    """Obey one order; the exit code is 0 where it was carried out."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries that greet on standard output must not be heard as news
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=obey, daemon=True).start()
    speaker, code = Speaker(out, order["rank"] == 0), 0
    try:
        work(order, speaker)
    except KeyboardInterrupt:
        code = 130
    except ModicumError as error:
        code = error.exit_code
        speaker.tell(error=[type(error).__name__, error.found, error.where, error.fix])
    except Exception as error:
        code = 70
        traceback.print_exc()
        speaker.tell(crash=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    sys.stderr.flush()
    os._exit(code)  # other ranks may be gone, and a goodbye would wait for them


if __name__ == "__main__":
    main()
