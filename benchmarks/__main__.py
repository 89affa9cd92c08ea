"""The cell runner: `python -m benchmarks run --minutes N` fills missing (protocol, method, seed) cells; `table` sums.

A cell is one `fit` in a process of its own with one thread: the method and its labels-only twins.  Each arm becomes one
row of results/PROTOCOL.csv.  A run that is stopped loses only the cells in progress.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tables import HERE, protocols, rows_of, tables

FIELDS = (
    "protocol", "method", "seed", "arm", "steps", "accuracy", "low", "high", "cpu_seconds", "precision", "threads",
    "processor", "torch", "modicum",
)  # fmt: skip


def missing(chosen: dict[str, dict[str, Any]]) -> list[tuple[str, str, int]]:
    """Cells without a result, seeds first, so that every method has its first seeds early."""
    out = []
    for name, protocol in chosen.items():
        done = {(r["method"], int(r["seed"])) for r in rows_of(name)}
        out += [(name, m, s) for s in protocol["seeds"] for m in protocol["methods"] if (m, s) not in done]
    return out


def cell(protocol: str, method: str, seed: int) -> None:
    """Run one cell and append its rows."""
    from modicum.engine.fit import Listener, fit
    from modicum.runs.run import processor

    given = protocols([protocol])[protocol]
    data = given["data"] if given["data"].startswith("sample:") else str(data_home() / given["data"])
    clock: dict[str, list[float]] = {}

    class Watch(Listener):
        def tick(self, arm: str, done: int, total: int, values: Any) -> None:
            clock.setdefault(arm, []).append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        asked = {"seed": seed, "export": False, "judge": "none", **given["fit"], **variant(method)}
        run = fit(data, Path(folder) / "run", Watch(), **asked)
        found, config, machine = run.read("evaluation.json"), run.config, run.read("environment.json")
    steps = {a["name"]: a["steps"] for a in config["arms"]}
    rows = []
    for arm, measures in found["arms"].items():
        arm = method if arm == config["method"] else arm
        value, low, high = measures["accuracy"]
        trained = config["method"] if arm == method else arm
        took = clock.get(trained, [0.0, 0.0])
        rows.append({
            "protocol": protocol, "method": method, "seed": seed, "arm": arm, "steps": steps.get(trained, 0),
            "accuracy": f"{value:.5f}", "low": f"{low:.5f}", "high": f"{high:.5f}",
            "cpu_seconds": f"{took[-1] - took[0]:.1f}", "precision": config["choices"]["precision"],
            "threads": config["choices"]["threads"], "processor": processor(),
            "torch": machine["packages"]["torch"], "modicum": config["modicum"],
        })  # fmt: skip
    append(HERE / "results" / f"{protocol}.csv", rows)


def variant(text: str) -> dict[str, Any]:
    """`fixmatch view=weak recipe.wraps=` -> what `fit` is asked: the method, its settings, its recipe."""
    method, *changes = text.split()
    pairs = dict(c.split("=", 1) for c in changes)
    recipe = {k.removeprefix("recipe."): v for k, v in pairs.items() if k.startswith("recipe.")}
    return {
        "method": method,
        "settings": {k: v for k, v in pairs.items() if not k.startswith("recipe.")},
        "recipe": recipe,
    }


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a CSV that other processes add to as well."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if not path.stat().st_size:
            writer.writeheader()
        writer.writerows(rows)


def data_home() -> Path:
    """Where the sample sets lie."""
    return Path(os.environ.get("MODICUM_DATA", HERE.parents[1] / "shared" / "data"))


def run(names: list[str], minutes: float, jobs: int) -> None:
    """Fill cells until there are none left or no further one should be begun."""
    end, waiting, busy = time.monotonic() + 60 * minutes, missing(protocols(names)), []
    print(f"{len(waiting)} cells to do, {jobs} at a time, begun within {minutes:g} minutes")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    while busy or (waiting and time.monotonic() < end):
        while waiting and len(busy) < jobs and time.monotonic() < end:
            one = waiting.pop(0)
            command = [sys.executable, "-m", "benchmarks", "cell", *map(str, one)]
            busy.append((one, time.monotonic(), subprocess.Popen(command, cwd=HERE.parent, env=environment)))
        time.sleep(1)
        for job in [b for b in busy if b[2].poll() is not None]:
            busy.remove(job)
            word = "done" if job[2].returncode == 0 else "FAILED"
            print(f"{' '.join(map(str, job[0]))}: {word} in {time.monotonic() - job[1]:.0f} s", flush=True)


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("run", "table"):
        one = verbs.add_parser(verb)
        one.add_argument("--only", nargs="*", default=[], help="protocols (default: all)")
        if verb == "run":
            one.add_argument("--minutes", type=float, default=60)
            one.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2)))
    inner = verbs.add_parser("cell")
    inner.add_argument("protocol")
    inner.add_argument("method")
    inner.add_argument("seed", type=int)
    asked = parser.parse_args()
    if asked.verb == "run":
        run(asked.only, asked.minutes, asked.jobs)
    elif asked.verb == "cell":
        cell(asked.protocol, asked.method, asked.seed)
    else:
        print(tables(asked.only))


if __name__ == "__main__":
    main()
