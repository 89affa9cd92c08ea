"""`python -m benchmarks.weak_boxes`: boxes learned from tags alone, in five ways.

Sets: the scenes of one to three digits on a texture that ship with the library, and tiles of blood cells
(`benchmarks.tiles`), handed to `fit --want boxes --have tags`.  By WSDDN, OICR and MIST, which learn from proposals;
by a detector trained on the best boxes that OICR found; or by maps: a classifier of tags, its maps, boxes drawn around
what stands out, and a detector trained on those.

CorLoc: share of training images with a class whose best box of it overlaps an object by half, a mean over classes.
Recall: share of the training images' objects that a proposal overlaps by 0.5 and 0.7; what it lacks no way can find
that learns from proposals.
"""

from __future__ import annotations

import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arena import RESULTS, fill

SETS = {"scenes": 64, "cells": 96}  # side of the network's input
NET, STEPS, SOME = "tiny-conv:width=16", 500, 100  # images that recall is taken of
BASE, MAPS = "wsddn", "maps"
ARMS: dict[str, dict[str, Any]] = {
    BASE: {"method": "wsddn"},
    "oicr": {"method": "oicr"},
    "mist": {"method": "mist"},
    MAPS: {"method": "detector", "via": ("tagger", "cam", "map-boxes")},
    "oicr, then a detector": {"method": "detector", "via": ("oicr", "found-boxes")},
}
MEASURES = ("corloc", "ap50", "recall50", "recall70")
HEAD = (
    "| set | way | seeds | CorLoc, % (sd) | AP at 0.5, % (sd) | recall of proposals at 0.5, % | at 0.7, % "
    "| CorLoc beside WSDDN's | CPU s |\n|---|---|---|---|---|---|---|---|---|"
)


def cell(name: str, arm: str, seed: int, steps: int = STEPS, **more: Any) -> dict[str, Any]:
    """One run of `fit`, and what was measured."""
    from modicum.engine.fit import fit

    with tempfile.TemporaryDirectory() as place:
        data: str | Path = "sample:scenes-texture"
        if name == "cells":
            from benchmarks.tiles import written

            written(data := Path(place, "cells"), seed)
        begun = time.process_time()
        run = fit(
            data, Path(place, "run"), want="boxes", have=("tags",), net=NET, side=SETS[name], steps=steps, seed=seed,
            flip="no" if name == "scenes" else "yes", precision="32", export=False, **ARMS[arm], **more,
        )  # fmt: skip
        took = time.process_time() - begun
        main = run.read("keep.json")["kept"]
        found = run.read("evaluation.json")["arms"][main]
        values = {"corloc": localised(data, run.folder), "ap50": found["ap50"][0] or 0.0, **reached(data, SETS[name])}
    about = {"set": name, "arm": arm, "seed": seed, "steps": steps}
    return {**about, **{m: f"{values[m]:.4f}" for m in MEASURES}, "cpu_seconds": f"{took:.1f}"}


def _training(data: str | Path) -> tuple[Any, np.ndarray, Any]:
    """The data with all labels, the rows of training, and their true boxes."""
    from modicum.core.places import cache_home
    from modicum.data.cache import Pixels
    from modicum.data.read import read
    from modicum.data.scan import scan
    from modicum.engine.tasks import drawn_boxes

    whole = read(data).data
    whole = scan(whole, Pixels.build(whole, cache_home(), 128)).data  # sizes of images
    rows = np.flatnonzero(whole.of_split("train"))
    return whole, rows, drawn_boxes(whole, rows)


def localised(data: str | Path, run: Path) -> float:
    """CorLoc of a run's boxes on the images it was trained on."""
    import pyarrow.parquet as pq

    from modicum.evaluate.boxes import Found, matched, measures

    whole, rows, truth = _training(data)
    said = pq.read_table(run / "boxes.parquet")
    place = np.full(len(whole), -1)
    place[rows] = np.arange(len(rows))
    image = place[said["row"].to_numpy()]
    mine = image >= 0
    xyxy = np.stack([said[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1)
    found = Found(xyxy[mine], said["class"].to_numpy()[mine], said["score"].to_numpy()[mine], image[mine])
    each = [matched(found, truth, c) for c in range(len(whole.names))]
    return float(measures(each, np.ones((1, len(rows))))[0]["corloc"][0])


def reached(data: str | Path, side: int) -> dict[str, float]:
    """Recall of the proposals of some training images at the network's side."""
    from modicum.data.images import square
    from modicum.data.read import pixels
    from modicum.engine.tasks import drawn_boxes
    from modicum.evaluate.boxes import reach
    from modicum.functional.proposals import column
    from modicum.methods.wsod.wsddn import Wsddn
    from modicum.nn.regions import proposals

    whole, rows, _ = _training(data)
    some, out = rows[:: max(1, len(rows) // SOME)], []
    for row in some.tolist():
        image = pixels(whole, row)
        height, width = image.shape[:2]
        boxes = proposals(square(image, side, 3), Wsddn.find, Wsddn.most)
        out.append(boxes * np.array([width, height, width, height], np.float32) / side)
    got = reach(column(out), drawn_boxes(whole, some), (Wsddn.most,), resamples=2)
    return {"recall50": got.half[0].value, "recall70": got.high[0].value}


def table() -> str:
    """Means over seeds, and points of CorLoc more than WSDDN's, paired by seed (95 %, t), in Markdown."""
    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "weak_boxes.csv").open(encoding="utf-8")))
    lines = [HEAD]
    for name, arm in dict.fromkeys((r["set"], r["arm"]) for r in rows):
        mine, base = ({r["seed"]: r for r in rows if (r["set"], r["arm"]) == (name, which)} for which in (arm, BASE))
        value = {m: np.array([100 * float(r[m]) for r in mine.values()]) for m in MEASURES}
        shown = [f"{value[m].mean():.1f}" for m in MEASURES]
        if len(mine) > 1:
            shown[:2] = [f"{text} ({value[m].std(ddof=1):.1f})" for text, m in zip(shown[:2], MEASURES)]
        more = [100 * (float(r["corloc"]) - float(base[s]["corloc"])) for s, r in mine.items() if s in base]
        i = paired_t(np.array(more)) if len(more) > 1 and arm != BASE else None
        shown.append(f"{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})" if i else "")
        seconds = np.mean([float(r["cpu_seconds"]) for r in mine.values()])
        lines.append(f"| {name} | {arm} | {len(mine)} | {' | '.join(shown)} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    fill("weak_boxes", __doc__, cell, table, sets=SETS, arms=ARMS)
