"""`python -m benchmarks.few_boxes`: detectors from boxes on one image in ten, with and without the other images.

cells: tiles of blood smears (benchmarks/tiles.py), 360 for training.  scenes: `sample:scenes-texture`, 1,000 for
training.  A tenth of them, drawn at random, have boxes; of the others nothing is known.  `untaught` is what the
teachers do with the images that have boxes, strong views and averaged weights, without any other image.  Every network
takes as many steps.

`drift` is how far a teacher's boxes on the other images move while it teaches, from one of MOMENTS to the next: 1 less
the largest IoU of a box with one of its class at the other moment, mean over boxes of a score above SURE at either.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arena import RESULTS, fill
from modicum.engine.fit import Silent

SHARE, STEPS, SIDE, NET = 0.1, 1000, 48, "tiny-conv:width=12"
SETS = ("cells", "scenes")
MOMENTS, SURE = (0.6, 0.8), 0.5  # shares of the steps; the end is the last moment
ALL, ALONE = "all boxes", "untaught"
ARMS: dict[str, tuple[str, dict[str, str]]] = {
    "detector": ("detector", {}),
    ALONE: ("box-teacher", {"weight": "0"}),
    "box-teacher": ("box-teacher", {}),
    "soft-teacher": ("soft-teacher", {}),
    "soft-teacher, background not weighed": ("soft-teacher", {"soft": "false"}),
    "soft-teacher, sides by sure boxes": ("soft-teacher", {"steady": "0"}),
    "consistent-teacher": ("consistent-teacher", {}),
    "consistent-teacher, one threshold": ("consistent-teacher", {"many": "0"}),
    "consistent-teacher, centre assignment": ("consistent-teacher", {"assign": "centre"}),
    "untaught, by cost": ("consistent-teacher", {"weight": "0"}),
    ALL: ("detector", {}),
}
TEACH = ("box-teacher", "consistent-teacher")
MEASURES = ("ap50", "ap", "recall")
HEAD = (
    "| images | learned by | seeds | AP50, % (sd) | AP, % (sd) | AP50 more than untaught | AP more than "
    "untaught | drift, % (sd) | CPU s |\n|---|---|---|---|---|---|---|---|---|"
)


def given(name: str, home: Path, seed: int, share: float = SHARE) -> Any:
    """A set of which a share of the images for training have boxes; nobody looked at the others."""
    import pyarrow as pa

    from benchmarks.tiles import written
    from modicum.data.read import read

    if name == "cells":
        written(home, seed)
    data = read(home if name == "cells" else "sample:scenes-texture").data
    train = np.random.default_rng([23, seed]).permutation(data.rows("split:train"))
    away = np.zeros(len(data), bool)
    away[train[round(share * len(train)) :]] = True

    def left(table: Any) -> Any:
        return table.filter(pa.array(~away[table["row"].to_numpy()]))

    return replace(data, annotations=left(data.annotations), looked=left(data.looked))


class Pausing(Silent):
    """Interrupts training after these steps, so that a checkpoint is written."""

    def __init__(self, steps: list[int]) -> None:
        self.left = steps

    def tick(self, arm: str, done: int, total: int, values: Mapping[str, float]) -> None:
        if self.left and done == self.left[0]:
            self.left.pop(0)
            raise KeyboardInterrupt


def cell(name: str, arm: str, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """One run of `fit`, and what was measured."""
    from modicum.engine.fit import fit

    method, settings = ARMS[arm]
    teachers: list[dict[str, Any]] = []
    listen = Pausing([round(m * steps) for m in MOMENTS] if arm.startswith(TEACH) else [])
    with tempfile.TemporaryDirectory() as place:
        data = given(name, Path(place, "tiles"), seed, 1.0 if arm == ALL else SHARE)
        begun, run = time.process_time(), None
        while run is None:
            try:
                run = fit(
                    data, Path(place, "run"), listen, want="boxes", have=("boxes",), method=method, settings=settings,
                    net=NET, side=SIDE, steps=steps, seed=seed, precision="32",
                    flip="yes" if name == "cells" else "no", export=False,
                )  # fmt: skip
            except KeyboardInterrupt:
                teachers.append(teacher(Path(place, "run", "arms", method, "checkpoints")))
        took = time.process_time() - begun
        found = run.read("evaluation.json")["arms"][method]
        away = f"{drift(run.folder, method, teachers):.4f}" if teachers else ""
    values = {**{m: f"{found[m][0] or 0:.4f}" for m in MEASURES}, "cpu_seconds": f"{took:.1f}", "drift": away}
    return {"set": name, "arm": arm, "seed": seed, "steps": steps, **values}


def teacher(home: Path) -> dict[str, Any]:
    """The teacher's weights in the newest checkpoint."""
    from modicum.runs import checkpoint

    (tensors, _, _), start = checkpoint.latest(home), "nets.ema.net."  # type: ignore[misc]
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def drift(folder: Path, method: str, teachers: list[dict[str, Any]]) -> float:
    """How far the boxes of an arm's teacher move from each of these moments to the next; the last one is the end."""
    from modicum.core.dataset import Dataset
    from modicum.core.places import cache_home
    from modicum.data.cache import Pixels
    from modicum.engine.dense import boxes_of
    from modicum.models import files

    data = Dataset.load(folder / "data")
    pixels, net = Pixels.build(data, cache_home(), SIDE), files.load(folder / "arms" / method)[0]
    images = [pixels.image(row) for row in data.rows("split:train & ~boxes")]
    looks = []
    for weights in (*teachers, net.state_dict()):
        other = files.load(folder / "arms" / method)[0].eval()
        other.load_state_dict(weights)
        looks.append(list(boxes_of(other, images)))
    return float(np.mean([moved(a, b) for a, b in pairwise(looks)]))


def moved(before: list[Any], after: list[Any]) -> float:
    """Boxes of images at two moments -> mean of 1 - IoU, each box with the nearest of its class at the other one."""
    import torch

    from modicum.functional.boxes import iou

    gaps = []
    for pair in zip(before, after, strict=True):
        sure = [x.score > SURE for x in pair]
        (here, there), (mine, theirs) = (
            [torch.from_numpy(getattr(x, what)[s]) for x, s in zip(pair, sure, strict=True)] for what in ("xyxy", "cls")
        )
        near = torch.where(mine[:, None] == theirs, iou(here[:, None], there), 0)
        near = torch.nn.functional.pad(near, (0, 1, 0, 1))  # of nothing 0
        gaps += [*(1 - near.amax(1)[:-1]).tolist(), *(1 - near.amax(0)[:-1]).tolist()]
    return float(np.mean(gaps)) if gaps else 0.0


def table() -> str:
    """Means over seeds, and what the other images added, paired by seed, in Markdown."""
    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "few_boxes.csv").open(encoding="utf-8")))
    lines = [HEAD]
    for name, arm in dict.fromkeys((r["set"], r["arm"]) for r in rows):
        mine, alone = ({r["seed"]: r for r in rows if (r["set"], r["arm"]) == (name, which)} for which in (arm, ALONE))
        cells = [name, arm, str(len(mine))]
        cells += [shown([r[m] for r in mine.values()]) for m in ("ap50", "ap")]
        for m in ("ap50", "ap"):
            more = [100 * (float(r[m]) - float(alone[s][m])) for s, r in mine.items() if s in alone]
            i = paired_t(np.array(more)) if len(more) > 1 and arm != ALONE else None
            cells.append(f"{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})" if i else "")
        cells.append(shown([r["drift"] for r in mine.values() if r.get("drift")]))
        cells.append(f"{np.mean([float(r['cpu_seconds']) for r in mine.values()]):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(values: list[str]) -> str:
    """Shares as percent: their mean, and deviation where there are two or more."""
    value = 100 * np.array([float(v) for v in values])
    spread = f" ({value.std(ddof=1):.1f})" if len(value) > 1 else ""
    return f"{value.mean():.1f}{spread}" if len(value) else ""


if __name__ == "__main__":
    fill("few_boxes", __doc__, cell, table, sets=SETS, arms=ARMS)
