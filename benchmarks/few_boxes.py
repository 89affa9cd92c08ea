"""`python -m benchmarks.few_boxes`: detectors from boxes on one image in ten, with and without the other images.

cells: tiles of blood smears (benchmarks/tiles.py), 360 for training.  scenes: `sample:scenes-texture`, 1,000 for
training.  A tenth of them, drawn at random, have boxes; of the others nothing is known.  `untaught` is what the
teachers do with the images that have boxes, strong views and averaged weights, without any other image.  Every network
takes as many steps.
"""

from __future__ import annotations

import csv
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arena import RESULTS, fill

SHARE, STEPS, SIDE, NET = 0.1, 1000, 48, "tiny-conv:width=12"
SETS = ("cells", "scenes")
ALL, ALONE = "all boxes", "untaught"
ARMS: dict[str, tuple[str, dict[str, str]]] = {
    "detector": ("detector", {}),
    ALONE: ("box-teacher", {"weight": "0"}),
    "box-teacher": ("box-teacher", {}),
    "soft-teacher": ("soft-teacher", {}),
    "soft-teacher, background not weighed": ("soft-teacher", {"soft": "false"}),
    "soft-teacher, sides by sure boxes": ("soft-teacher", {"steady": "0"}),
    ALL: ("detector", {}),
}
MEASURES = ("ap50", "ap", "recall")
HEAD = (
    "| images | learned by | seeds | AP50, % (sd) | AP, % (sd) | AP50 more than untaught | AP more than "
    "untaught | CPU s |\n|---|---|---|---|---|---|---|---|"
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


def cell(name: str, arm: str, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """One run of `fit`, and what was measured."""
    from modicum.engine.fit import fit

    method, settings = ARMS[arm]
    with tempfile.TemporaryDirectory() as place:
        data = given(name, Path(place, "tiles"), seed, 1.0 if arm == ALL else SHARE)
        begun = time.process_time()
        run = fit(
            data, Path(place, "run"), want="boxes", have=("boxes",), method=method, settings=settings, net=NET,
            side=SIDE, steps=steps, seed=seed, precision="32", flip="yes" if name == "cells" else "no", export=False,
        )  # fmt: skip
        took = time.process_time() - begun
        found = run.read("evaluation.json")["arms"][method]
    values = {m: f"{found[m][0] or 0:.4f}" for m in MEASURES}
    return {"set": name, "arm": arm, "seed": seed, "steps": steps, **values, "cpu_seconds": f"{took:.1f}"}


def table() -> str:
    """Means over seeds, and what the other images added, paired by seed, in Markdown."""
    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "few_boxes.csv").open(encoding="utf-8")))
    lines = [HEAD]
    for name, arm in dict.fromkeys((r["set"], r["arm"]) for r in rows):
        mine, alone = ({r["seed"]: r for r in rows if (r["set"], r["arm"]) == (name, which)} for which in (arm, ALONE))
        cells = [name, arm, str(len(mine))]
        for m in ("ap50", "ap"):
            value = np.array([100 * float(r[m]) for r in mine.values()])
            cells.append(f"{value.mean():.1f}" + (f" ({value.std(ddof=1):.1f})" if len(mine) > 1 else ""))
        for m in ("ap50", "ap"):
            more = [100 * (float(r[m]) - float(alone[s][m])) for s, r in mine.items() if s in alone]
            i = paired_t(np.array(more)) if len(more) > 1 and arm != ALONE else None
            cells.append(f"{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})" if i else "")
        cells.append(f"{np.mean([float(r['cpu_seconds']) for r in mine.values()]):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    fill("few_boxes", __doc__, cell, table, sets=SETS, arms=ARMS)
