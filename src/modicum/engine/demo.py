"""demo: the whole job on scikit-learn's 1,797 handwritten digits, offline, in a few minutes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from modicum.engine.fit import Listener, Silent, fit
from modicum.engine.verbs import select
from modicum.evaluate.intervals import paired_t
from modicum.runs.run import Run, write_whole

DATA = "sample:digits"
TEST = 0.4435  # 797 of 1,797 images
LABELS = (2, 4)  # a class


def demo(out: str | Path = "modicum-demo", seeds: int = 1, listen: Listener | None = None) -> dict[str, Any]:
    """Fit with 2 labels a class (the run in `out`), then with 4; -> what summary.json says.

    seeds: how many seeds, from 0 on; further ones live in `out`/seed-N and give a paired interval over seeds.
    """
    home, listen = Path(out), listen or Silent()
    begun = time.perf_counter()
    found: dict[str, Any] = {"data": DATA, "labels": {}}
    for labels in LABELS:
        runs = []
        for seed in range(seeds):
            main = labels == LABELS[0] and seed == 0
            folder = home if main else home / "more" / f"{labels}-a-class-seed-{seed}"
            listen.say(f"--- {labels} labels a class, seed {seed} ---")
            runs.append(fit(DATA, folder, listen, labels=labels, test=TEST, seed=seed, export=main, judge="none"))
        found["labels"][str(labels)] = figures(runs)
    table, positions = select(home, 10)
    found["next_to_label"] = [str(i) for i in table.data.ids[table.rows[positions]]]
    export = Run(home).read("export.json")
    found["onnx"] = {k: export[k] for k in ("bytes", "largest_difference", "images", "opset") if k in export}
    found["seconds"] = {"whole": round(time.perf_counter() - begun, 1), **Run(home).read("seconds.json")}
    write_whole(home / "summary.json", json.dumps(found, indent=1))
    return found


def figures(runs: list[Run]) -> dict[str, Any]:
    """Accuracies of every arm and the gain over the better twin, per seed; over several seeds a paired t-interval."""
    kept = [r.read("evaluation.json") for r in runs]
    gains = np.array([k["gain"]["all"][k["gain"]["harshest"]][0] for k in kept])
    out: dict[str, Any] = {
        "test_images": kept[0]["test"]["images"],
        "seeds": [
            {
                "accuracy": {name: arm["accuracy"] for name, arm in k["arms"].items()},
                "gain_over_better_twin": k["gain"]["all"][k["gain"]["harshest"]], "better_twin": k["gain"]["harshest"],
            }
            for k in kept
        ]
    }  # fmt: skip
    if len(runs) > 1:
        interval = paired_t(gains)
        out["gain_over_seeds"] = [interval.value, interval.low, interval.high]
    return out
