"""`python -m benchmarks.step`: FixMatch steps of ours beside the customary implementation, in turn, on this machine.

A step is 64 labelled, 448 weak and 448 strong CIFAR-10 views of 32 x 32 through wrn-28-2, SGD and an average of the
weights.  The net, batch, loss, optimiser and list of augmentations are the same.  What differs: ours samples once for
all movements of a view (bilinear, black outside, cutout in the image's mean), theirs once an operation (nearest; the
crop mirrors its border, cutout is grey).  Each measurement is a process of its own, and implementations take turns
within each repetition, in another order every time.  The first steps, in which workers start and libraries plan, are
not counted.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "step.csv"
NET, SIDE, LABELS, WARM = "wrn-28-2", 32, 25, 2
FORMS = {
    "apart": "customary, a forward each, 32-bit",
    "together": "customary, one forward, 32-bit",
    "apart-bf16": "customary, a forward each, with bf16 autocast added",
    "ours": "Modicum, 32-bit",
    "ours-bf16": "Modicum, bf16",
}
BARS = {"ours": 1.5, "ours-bf16": 4.0}  # times the customary forms in 32-bit


def cifar() -> tuple[Any, Any, Any]:
    """CIFAR-10's Dataset with 25 labels a class, its pixels, and the rows to train on, bool (N,)."""
    import numpy as np

    from benchmarks.__main__ import data_home
    from modicum.core.places import cache_home
    from modicum.data.cache import Pixels
    from modicum.data.read import read
    from modicum.data.split import few

    data = read(data_home() / "cifar10").data
    pool = data.field("split") == "train"
    kept = few(data, per_class=LABELS, seed=0, rows="split:train")
    return data.without("class", np.setdiff1d(np.arange(len(data)), kept)), Pixels.build(data, cache_home(), 0), pool


def ours(steps: int, half: bool) -> list[tuple[float, float]]:
    """The engine's own loop on the paper's recipe; -> the clock and CPU seconds after each step."""
    import lightning_fabric as lightning

    from modicum.core import registry
    from modicum.engine import choose
    from modicum.engine.arms import Bench
    from modicum.engine.memory import kept

    data, pixels, pool = cifar()
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if half else "32-true")
    fabric.launch()
    bench = Bench(data, pixels, pool, NET, SIDE, 3, 0, fabric, "batch")
    recipe = registry.load("fixmatch").recipes["paper"].but(steps=steps)
    method = choose.compose("fixmatch", {}, recipe, "paper")
    clock: list[tuple[float, float]] = []
    with kept():
        bench.layout = choose.layout_of(bench.loop(method, recipe).nets, "cpu")
        bench.loop(method, recipe, tick=lambda *_: clock.append((time.perf_counter(), time.process_time()))).run()
    return clock


def customary(steps: int, together: bool, half: bool) -> list[tuple[float, float]]:
    """The same through benchmarks/customary.py."""
    import numpy as np
    import torch

    from benchmarks.customary import train
    from modicum.models.doors import make

    data, pixels, pool = cifar()
    arrays = pixels.batch(np.flatnonzero(pool))[0]
    classes = data.cls[pool]
    torch.manual_seed(0)
    net = make(NET, classes=10, channels=3, side=SIDE)
    return train(net, arrays, classes, np.flatnonzero(classes >= 0), steps, together, half)


def measure(form: str, steps: int, threads: int) -> dict[str, Any]:
    """One measurement, in this process."""
    import logging

    import torch

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    torch.set_num_threads(threads)
    half = form.endswith("bf16")
    if form.startswith("ours"):
        clock = ours(steps + WARM, half)
    else:
        clock = customary(steps + WARM, form == "together", half)
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds, cpu = (end - begun for end, begun in zip(clock[-1], clock[WARM - 1], strict=True))
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_gib": used.ru_maxrss / 2**20}


def turns(forms: list[str], repeats: int, steps: int, threads: int) -> list[dict[str, Any]]:
    """All measurements, each in a process of its own."""
    import torch

    import modicum
    from modicum.runs.run import processor

    rows = []
    for repetition in range(repeats):
        at = repetition % len(forms)
        for form in forms[at:] + forms[:at]:
            command = [sys.executable, "-m", "benchmarks.step", "--measure", form, "--steps", str(steps)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            done = subprocess.run(
                [*command, "--threads", str(threads)], cwd=HERE.parent, env=environment, check=True,
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            found = json.loads(done.stdout.splitlines()[-1])
            load, cpu = os.getloadavg()[0], found["cpu_seconds"]
            said = f"{found['seconds']:.2f} s, {cpu:.2f} s of CPU (load {load:.1f})"
            print(f"{repetition + 1}/{repeats} {form}: {said}", flush=True)
            rows.append({
                "form": form, "repetition": repetition, "steps": steps, "seconds": f"{found['seconds']:.3f}",
                "cpu_seconds": f"{cpu:.3f}", "peak_gib": f"{found['peak_gib']:.2f}", "threads": threads,
                "load": f"{load:.1f}",
                "processor": processor(), "torch": torch.__version__.split("+")[0], "modicum": modicum.__version__,
            })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Seconds of each form, and how many times ours they are, paired within repetitions; in Markdown."""
    took = {(r["form"], int(r["repetition"])): float(r["seconds"]) for r in rows}
    forms = [f for f in FORMS if any(r["form"] == f for r in rows)]
    repetitions = sorted({int(r["repetition"]) for r in rows})
    mine = [f for f in forms if f.startswith("ours")]
    heads = ["implementation", f"seconds for {rows[0]['steps']} steps", "peak GiB"]
    heads += [f"times as long as {FORMS[m]}" for m in mine]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for form in forms:
        own = [took[form, r] for r in repetitions]
        peak = statistics.median(float(r["peak_gib"]) for r in rows if r["form"] == form)
        cells = [FORMS[form], spread(own, "{:.1f}"), f"{peak:.1f}"]
        cells += [
            "" if form in mine else spread([took[form, r] / took[m, r] for r in repetitions], "{:.2f}") for m in mine
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float], form: str) -> str:
    """The median, and the range."""
    low, middle, high = (form.format(v) for v in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def verdict(rows: list[dict[str, Any]]) -> list[str]:
    """Each bar, and whether the median of the paired ratios reaches it."""
    took = {(r["form"], r["repetition"]): float(r["seconds"]) for r in rows}
    out = []
    for mine, bar in BARS.items():
        for other in ("apart", "together"):
            pairs = [took[other, r] / t for (f, r), t in took.items() if f == mine and (other, r) in took]
            if pairs:
                word = "reached" if statistics.median(pairs) >= bar else "MISSED"
                out.append(f"{FORMS[mine]} against {FORMS[other]}: {spread(pairs, '{:.2f}')}, bar {bar}: {word}")
    return out


def main() -> None:
    """Parse, measure, write and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=FORMS)
    parser.add_argument("--keep", action="store_true", help=f"write {RESULTS.name}, from which the docs are made")
    parser.add_argument("--measure", choices=FORMS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure, asked.steps, asked.threads)))
        return
    rows = turns(asked.forms, asked.repeats, asked.steps, asked.threads)
    if asked.keep:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(table(rows))
    print("\n".join(verdict(rows)))


if __name__ == "__main__":
    main()
