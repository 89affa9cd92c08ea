"""`python -m benchmarks.detectors`: our detector beside torchvision's, over the same network at equal CPU time.

Sets: the tiles of benchmarks/tiles.py, and scenes of one to three digits on one of three grounds.  Every arm is a run
of `fit` with the same network from random weights, views and batch: ours by three rules of which position is to find
a box, and torchvision's Faster R-CNN and FCOS with a pyramid of WIDTH channels, as our head has.  Faster R-CNN learns
from 64 regions an image: torchvision's 512 are for pictures of 800 pixels, and would take most of a step.  The arm
`centre` takes the set's steps; each other arm as many as take as long, by the CPU time of steps raced beside `centre`'s
on the set itself.  seconds: CPU time of the training steps.  Measured on the test pictures.

`--speed`: images a second of untrained networks at 320 pixels, one thread, each round in turn, beside torchvision's
ssdlite320_mobilenet_v3_large.  How many boxes an untrained network tells changes what the last stage costs, so their
number is printed.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arena import RESULTS, done, keep
from benchmarks.tiles import written
from modicum.engine.fit import Silent

WIDTH, BATCH = 64, 16
BASE = "centre"
VISION = {"width": WIDTH, "cells": 7}
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    BASE: ("detector", {"assign": "centre", "width": WIDTH}),
    "atss": ("detector", {"assign": "atss", "width": WIDTH}),
    "iou": ("detector", {"assign": "iou", "width": WIDTH}),
    "torchvision fcos": ("torchvision-detector", {"kind": "fcos", **VISION}),
    "torchvision faster-rcnn": ("torchvision-detector", {"kind": "faster-rcnn", "regions": 64, **VISION}),
}
KEYS = ("set", "arm", "seed")
HEAD = (
    "| set | arm | seeds | steps | AP50, % (sd) | minus centre, points (95 % paired t) | AP, % | AP50 of classes, % | "
    "CPU s |\n|---|---|---|---|---|---|---|---|---|"
)


class Setting(NamedTuple):
    """net, side: of every arm.  steps: of `centre`."""

    net: str
    side: int
    steps: int


SETS = {
    "bccd": Setting("resnet10t", 128, 400),
    **{f"scenes-{ground}": Setting("tiny-res", 64, 1600) for ground in ("texture", "plain", "clutter")},
}


def place(name: str, seed: int, home: Path) -> str:
    """Where a set is; tiles are drawn anew for each seed."""
    if name != "bccd":
        return f"sample:{name}"
    written(home / "tiles", seed)
    return str(home / "tiles")


@cache
def paces(name: str) -> dict[str, float]:
    """How many times a step of `centre` one of each arm takes, in CPU time."""
    import lightning_fabric as lightning
    import torch

    from modicum.core import registry
    from modicum.core.places import cache_home
    from modicum.data.cache import Pixels
    from modicum.data.read import read
    from modicum.data.views import way
    from modicum.engine import choose, pace
    from modicum.engine.arms import Bench

    torch.set_num_threads(1)
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision="32-true")
    fabric.launch()
    net, side, _ = SETS[name]
    with tempfile.TemporaryDirectory() as home:
        data = read(place(name, 0, Path(home))).data
        pixels = Pixels.build(data, cache_home(), side)
        pool = data.of_split("train")
        bench = Bench(data, pixels, pool, net, side, pixels.channels, 0, fabric, way(side), "channels_last")

        def loop(arm: str) -> Any:
            method, settings = ARMS[arm]
            recipe = registry.load(method).recipes["small"].but(steps=100, batch=BATCH)
            return bench.loop(choose.compose(method, settings, recipe), recipe)

        raced = pace.race([lambda arm=arm: loop(arm) for arm in ARMS], least=5, most=9, seconds=300, block=0.5)
    return dict(zip(ARMS, raced.ratios, strict=True))


class Watch(Silent):
    """CPU time of the training steps."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def tick(self, arm: str, done: int, total: int, values: Any) -> None:
        self.at.append(time.process_time())

    @property
    def seconds(self) -> float:
        """Of all steps; the first is taken to be like the others."""
        return (self.at[-1] - self.at[0]) * len(self.at) / max(1, len(self.at) - 1)


def cell(name: str, arm: str, seed: int, steps: int = 0) -> dict[str, Any]:
    """One run of `fit`, and what was measured.  steps: 0 = as the file says."""
    from modicum.engine.fit import fit

    method, settings = ARMS[arm]
    net, side, most = SETS[name]
    steps = steps or (most if arm == BASE else round(most / paces(name)[arm]))
    with tempfile.TemporaryDirectory() as home:
        run = fit(
            place(name, seed, Path(home)), Path(home, "run"), watch := Watch(), want="boxes", method=method,
            settings=settings, net=net, side=side, steps=steps, batch=BATCH, seed=seed, precision="32", export=False,
            flip="yes" if name == "bccd" else "no",
        )  # fmt: skip
        said = run.read("evaluation.json")
    of = next(v for v in said["arms"].values() if v["role"] == "main")
    classes = " ".join(f"{c['class']}={c['ap50'][0]:.4f}" for c in said["per_class"])
    about = {"set": name, "arm": arm, "seed": seed, "net": net, "side": side, "steps": steps}
    values = {m: f"{of[m][0]:.4f}" for m in ("ap50", "ap")}
    return {**about, **values, "classes": classes, "seconds": f"{watch.seconds:.1f}"}


def table() -> str:
    """Means over seeds, and the difference to `centre`, paired by seed, in Markdown."""
    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "detectors.csv").open(encoding="utf-8")))
    lines = [HEAD]
    for name, arm in dict.fromkeys((r["set"], r["arm"]) for r in rows):
        mine = {r["seed"]: r for r in rows if (r["set"], r["arm"]) == (name, arm)}
        base = {r["seed"]: r for r in rows if (r["set"], r["arm"]) == (name, BASE)}
        ap50, ap, steps, took = (
            np.array([float(r[k]) for r in mine.values()]) for k in ("ap50", "ap", "steps", "seconds")
        )
        gain = [100 * (float(r["ap50"]) - float(base[s]["ap50"])) for s, r in mine.items() if s in base]
        i = paired_t(np.array(gain)) if len(gain) > 1 and arm != BASE else None
        own: dict[str, list[float]] = {}
        for r in mine.values():
            for word in r["classes"].split():
                cls, _, value = word.rpartition("=")
                own.setdefault(cls, []).append(100 * float(value))
        classes = ", ".join(f"{c} {np.nanmean(v):.0f}" for c, v in own.items())
        sd = f" ({100 * ap50.std(ddof=1):.1f})" if len(mine) > 1 else ""
        lines.append(
            f"| {name} | {arm} | {len(mine)} | {steps.mean():.0f} | {100 * ap50.mean():.1f}{sd} | "
            f"{f'{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})' if i else ''} | {100 * ap.mean():.1f} | {classes} | "
            f"{took.mean():.0f} |"
        )
    return "\n".join(lines)


# -- speed -----------------------------------------------------------------------------------------------------------


def models(net: str, side: int = 320, classes: int = 3) -> dict[str, Callable[[Any], Any]]:
    """Networks with random weights; ours and torchvision's heads over `net`."""
    import torch
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    from modicum.models.doors import make
    from modicum.nn.detect import detecting
    from modicum.nn.torchvision_detect import visioned

    def fresh() -> Any:
        torch.manual_seed(0)
        return make(net, classes=classes, channels=3, side=side)

    lite: Any = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes + 1)
    out = {"ours": detecting(fresh(), WIDTH).eval(), "ssdlite320_mobilenet_v3_large": lite.eval()}
    for kind in ("fcos", "faster-rcnn"):
        out[f"torchvision {kind}"] = visioned(fresh(), kind, WIDTH, 7).eval()
    return out


def told(answer: Any) -> int:
    """How many boxes an answer holds."""
    return sum(len(a["boxes"]) for a in answer) if isinstance(answer, list) else len(answer.boxes.cls)


def speed(net: str, rounds: int) -> str:
    """Images a second, and times ours, with quartiles over rounds, in Markdown."""
    import torch

    torch.set_num_threads(1)
    made = models(net)
    lines = [
        f"| model ({net}) | parameters | batch | boxes an image | images/s of CPU (quartiles) | by ours (quartiles) |",
        "|---|---|---|---|---|---|",
    ]
    for batch in (1, 16):
        x = torch.rand(batch, 3, 320, 320, generator=torch.Generator().manual_seed(0))
        rate: dict[str, list[float]] = {name: [] for name in made}
        count = {}
        with torch.no_grad():
            for number in range(rounds + 1):
                for name, model in made.items():
                    given = x if name != "ssdlite320_mobilenet_v3_large" else list(x)
                    begun = time.process_time()
                    count[name] = told(model(given)) / batch
                    if number:  # the first round warms up
                        rate[name].append(batch / (time.process_time() - begun))
        for name, model in made.items():
            mine, ratio = np.array(rate[name]), np.array(rate[name]) / np.array(rate["ours"])
            shown = (" ({:.2f} to {:.2f})".format(*np.quantile(v, (0.25, 0.75))) for v in (mine, ratio))
            parameters = sum(p.numel() for p in model.parameters())  # type: ignore[attr-defined]
            lines.append(
                f"| {name} | {parameters:,} | {batch} | {count[name]:.0f} | {np.median(mine):.2f}{next(shown)} | "
                f"{np.median(ratio):.2f}{next(shown)} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Fill the cells that are missing, seeds first; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detectors", description=__doc__)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=["bccd", "scenes-texture"])
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=ARMS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--speed", type=int, default=0, metavar="ROUNDS", help="time untrained networks instead")
    parser.add_argument("--net", default="resnet10t", help="the network that --speed times")
    asked = parser.parse_args()
    if asked.speed:
        print(speed(asked.net, asked.speed))
        return
    for seed in range(asked.seeds):
        for name in asked.sets:
            for arm in asked.arms:
                if (name, arm, str(seed)) not in done("detectors", *KEYS):
                    keep("detectors", cell(name, arm, seed))
    print(table())


if __name__ == "__main__":
    main()
