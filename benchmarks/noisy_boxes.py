"""`python -m benchmarks.noisy_boxes`: detectors from boxes that are wrong, as they are and as W2N draws them anew.

scenes: `sample:scenes-texture`, SOME of its images for training.  cells: tiles of blood smears (benchmarks/tiles.py),
360 for training.  Tags are true.  Boxes are a model's: of the true ones PARTS are shrunk to SHORT of their sides around
a point within them, FLIPPED have another class of their image (weak detectors are told tags, so they take no absent
one), and GONE are left out.  Arms of `oicr` have tags alone, and boxes are those that OICR finds.

Drafts are told by their overlap (IoU) with true boxes of their class: `before` those that were given, `after` those
that the first adaptation drew.  iou: of each true box with the draft that is nearest, 0 where there is none.  part:
share of drafts that lie by more than INSIDE in a true box and overlap it by less than half.  auc: how well sigma,
`given` of the boxes that were given and `drawn` of those that were drawn, tells those that overlap by more than RIGHT.
Every network takes as many steps; with a teacher a step is longer.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arena import RESULTS, fill

STEPS, BATCH, NET = 1000, 8, "tiny-conv:width=12"
SETS = {"scenes": 48, "cells": 64}  # side of the network's input
SOME = 300
PARTS, SHORT, FLIPPED, GONE = 0.4, (0.4, 0.6), 0.15, 0.15
RIGHT, INSIDE = 0.65, 0.85
RAW, WEAK = "as they are", "oicr"
ONCE = {"rounds": "1", "split": "none", "weight": "0"}
ARMS: dict[str, tuple[str, dict[str, str]]] = {
    RAW: ("detector", {}),
    "not drawn anew": ("w2n", {"first": "1"}),  # its views, its average, and what it calls background
    "drawn anew": ("w2n", {**ONCE, "adapt": "none"}),
    "drawn anew, growth": ("w2n", {**ONCE, "adapt": "growth"}),
    "drawn anew, containment": ("w2n", {**ONCE, "adapt": "containment"}),
    "two rounds, no split": ("w2n", {"rounds": "2", "split": "none"}),
    "two rounds, images": ("w2n", {"rounds": "2", "split": "images"}),
    "two rounds, instances": ("w2n", {"rounds": "2", "split": "instances"}),
    "one round, tasks": ("w2n", {"rounds": "1"}),
    "two rounds, tasks": ("w2n", {"rounds": "2"}),
    WEAK: ("oicr", {}),
    "oicr, then a detector": ("detector", {}),
    "oicr, then w2n, images": ("w2n", {"rounds": "2", "split": "images"}),
    "oicr, then w2n, tasks": ("w2n", {"rounds": "2"}),
}
TOLD = ("iou_before", "iou_after", "part_before", "part_after", "auc_given", "auc_drawn")
HEAD = (
    "| images | learned by | seeds | AP50, % (sd) | AP50 more than the first | CorLoc, % | IoU before and after | "
    "parts, % | AUC of sigma, given and drawn | CPU s |\n|---|---|---|---|---|---|---|---|---|---|"
)


def known(name: str, home: Path, seed: int) -> Any:
    """A set with all its labels."""
    from benchmarks.tiles import written
    from modicum.data.read import read

    if name == "cells":
        written(home, seed)
    data = read(home if name == "cells" else "sample:scenes-texture").data
    train, test = (data.rows(f"split:{split}") for split in ("train", "test"))
    some = train if name == "cells" else np.random.default_rng([31, seed]).permutation(train)[:SOME]
    return data.take(np.sort(np.concatenate([some, test])))


def true_boxes(data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, class and corners (M,4) of the boxes of training that are objects."""
    said = data.of_kind("boxes")
    row, cls = said["row"].to_numpy(), said["class"].to_numpy()
    xyxy = np.stack([said[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1).astype(float)
    mine = data.of_split("train")[row] & (said["value"].fill_null(1).to_numpy() > 0.5)
    return row[mine], cls[mine].copy(), xyxy[mine]


def noisy(data: Any, seed: int) -> Any:
    """The set with true tags and wrong boxes in training, and nothing else."""
    from modicum.core.dataset import HUMAN, MODEL
    from modicum.core.tables import LOOKED, table

    luck, tags = np.random.default_rng([29, seed]), data.tags
    row, cls, xyxy = true_boxes(data)
    share, side = luck.uniform(*SHORT, (len(row), 1)), xyxy[:, 2:] - xyxy[:, :2]
    corner = xyxy[:, :2] + luck.random((len(row), 2)) * (1 - share) * side
    part = luck.random((len(row), 1)) < PARTS
    xyxy = np.where(part, np.concatenate([corner, corner + share * side], 1), xyxy)
    several = luck.permutation(np.flatnonzero((tags[row] == 1).sum(1) > 1))
    for one in several[: round(FLIPPED * len(row))].tolist():
        cls[one] = luck.choice([c for c in np.flatnonzero(tags[row[one]] == 1) if c != cls[one]])
    kept = luck.random(len(row)) >= GONE
    row, cls, xyxy = row[kept], cls[kept], xyxy[kept]
    bare = replace(data, annotations=data.annotations.slice(0, 0), looked=data.looked.slice(0, 0))
    image, c = (tags >= 0).nonzero()
    about: dict[str, Any] = {"value": tags[image, c].astype(np.float32), "class": c}
    bare += bare.delta(source="people", who=HUMAN, row=image, kind="tags", **about)
    about = dict(zip(("x0", "y0", "x1", "y1"), xyxy.T, strict=True)) | {"class": cls}
    said = bare.delta(source="weak", who=MODEL, row=row, kind="boxes", confidence=np.ones(len(row)), **about)
    return bare + replace(said, looked=table(LOOKED, row=np.unique(row).tolist(), kind="boxes", complete=1, source=0))


# -- drafts ------------------------------------------------------------------------------------------------------------


def overlaps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU, and the share of a that lies in b, (M,K) each."""
    both = (np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])).clip(0).prod(2)
    one, two = ((x[:, 2:] - x[:, :2]).prod(1) for x in (a, b))
    return both / (one[:, None] + two - both), both / one[:, None]


def told(drafts: np.ndarray, data: Any) -> tuple[float, float, np.ndarray]:
    """Mean IoU of true boxes with their nearest drafts, share of parts, and each draft's IoU with its nearest true box.

    drafts: (N,K,8), the column of nn/drafts.py.
    """
    row, cls, xyxy = true_boxes(data)
    of_true, of_draft, part = [], [], []
    for r in np.unique(row).tolist():
        mine = row == r
        here = drafts[r][np.isfinite(drafts[r, :, 0])]
        same = here[:, 4, None] == cls[mine]
        iou, within = (np.where(same, v, 0) for v in overlaps(here[:, :4], xyxy[mine]))
        of_true.append(iou.max(0, initial=0))
        of_draft.append(iou.max(1))
        part.append(((within > INSIDE) & (iou < 0.5)).any(1))
    return float(np.concatenate(of_true).mean()), float(np.concatenate(part).mean()), np.concatenate(of_draft)


def area(score: np.ndarray, good: np.ndarray) -> float:
    """Area under the ROC curve of a score, larger is better."""
    from scipy.stats import rankdata

    rank, many = rankdata(score), int(good.sum())
    return float((rank[good].sum() - many * (many + 1) / 2) / max(1, many * (len(good) - many)))


def column(data: Any) -> np.ndarray:
    """The boxes of a set in the form of drafts, (N,K,8)."""
    said = data.of_kind("boxes")
    row = said["row"].to_numpy()
    order = np.argsort(row, kind="stable")
    place = np.empty(len(row), int)
    place[order] = np.arange(len(row)) - np.searchsorted(row[order], row[order])
    out = np.full((len(data), place.max() + 1, 8), np.nan, np.float32)
    out[row, place, :5] = np.stack([said[c].to_numpy() for c in ("x0", "y0", "x1", "y1", "class")], 1)
    out[row, place, 5:] = 1
    return out


def steadiness(loop: Any, drafts: np.ndarray, data: Any) -> float:
    """How well sigma, as the teacher now has it, tells good ones among these drafts."""
    import torch

    from modicum.functional.assign import in_view
    from modicum.nn.drafts import judged, read

    rows = np.unique(true_boxes(data)[0])
    values, found = torch.from_numpy(drafts), []
    net = loop.nets["ema"].net.eval()
    with torch.no_grad():
        for part in loop.feed.sweep(rows, 64, ("plain",)):
            view = part.views["plain"]
            said = net.dense(view.pixels)
            seen = in_view(read(replace(part, columns={"drafts": values[part.rows]})).boxes, view, 0.0)
            found.append(judged(said, seen, loop.method.near_centre(said, seen))[1].numpy())
    net.train()
    return area(-np.concatenate(found), told(drafts, data)[2] > RIGHT)


class Watch:
    """Looks at the first drafts that are drawn."""

    def __init__(self, data: Any, given: Any) -> None:
        self.data, self.before, self.values = data, column(given), dict.fromkeys(TOLD, np.nan)
        self.loop: Any = None

    def __call__(self, arm: str, done: int, total: int, values: Any) -> None:
        drawn = self.loop.feed.columns.get("drafts")
        if drawn is None or np.isfinite(self.values["auc_drawn"]):
            return
        drafts = drawn.numpy()
        self.values["iou_before"], self.values["part_before"], _ = told(self.before, self.data)
        self.values["iou_after"], self.values["part_after"], each = told(drafts, self.data)
        rows = np.unique(true_boxes(self.data)[0])
        mine = np.isfinite(drafts[rows][..., 0])
        self.values["auc_drawn"] = area(-drafts[rows][mine][:, 7], each > RIGHT)
        self.values["auc_given"] = steadiness(self.loop, self.before, self.data)


# -- runs --------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def bench_of(name: str, seed: int) -> tuple[Any, Any]:
    """What the arms of a seed share, with wrong boxes; and the set with true ones."""
    import lightning_fabric as lightning
    import torch

    from modicum.core.places import cache_home
    from modicum.data.cache import Pixels
    from modicum.data.scan import scan
    from modicum.data.views import way
    from modicum.engine.arms import Bench

    torch.set_num_threads(1)
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision="32-true")
    fabric.launch()
    with tempfile.TemporaryDirectory() as place:
        data = known(name, Path(place, "tiles"), seed)
        pixels = Pixels.build(data, cache_home(), 160)
        data = scan(data, pixels).data
    given, pool, side = noisy(data, seed), data.of_split("train"), SETS[name]
    return Bench(given, pixels, pool, NET, side, pixels.channels, seed, fabric, way(side), "channels_last"), data


@lru_cache(maxsize=3)
def begun(name: str, seed: int, steps: int, adapt: str) -> tuple[Any, float]:
    """The first adaptation, which the arms that differ later share: where its checkpoint lies, and its seconds."""
    from modicum.core import registry
    from modicum.engine import choose

    (bench, _), home, start = bench_of(name, seed), tempfile.TemporaryDirectory(), time.process_time()
    recipe = registry.load("w2n").recipes["small"].but(steps=steps, batch=BATCH)
    method: Any = choose.compose("w2n", {"adapt": adapt}, recipe)

    def stop(arm: str, done: int, total: int, values: Any) -> None:
        if done == round(steps * method.first):
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        bench.loop(method, recipe, "w2n", Path(home.name), tick=stop).run()
    return home, time.process_time() - start


def trained(name: str, arm: str, seed: int, steps: int) -> dict[str, float]:
    """What a network of wrong boxes finds on test images, and what its drafts were."""
    from modicum.core import registry
    from modicum.engine import choose
    from modicum.engine.tasks import drawn_boxes, located, together
    from modicum.evaluate.boxes import matched, measures

    (bench, data), (method, settings), more = bench_of(name, seed), ARMS[arm], 0.0
    recipe = registry.load(method).recipes["small"].but(steps=steps, batch=BATCH)
    watch, start = Watch(data, bench.data), time.process_time()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place, "arm")
        if method == "w2n":
            first, more = begun(name, seed, steps, settings.get("adapt", "growth"))
            start = time.process_time()
            shutil.copytree(first.name, home)
        watch.loop = loop = bench.loop(choose.compose(method, settings, recipe), recipe, method, home, tick=watch)
        loop.every = 1e9
        loop.run()
    took = time.process_time() - start + more
    rows = np.flatnonzero(data.of_split("test"))
    found = together([*located(bench, loop.method.deliver(loop.nets).eval(), rows.tolist())])
    truth = drawn_boxes(data, rows)
    got = measures([matched(found, truth, c) for c in range(len(data.names))], np.ones((1, len(rows))))[0]
    values = {m: float(got[m][0]) for m in ("ap50", "ap")}
    return {**values, **watch.values, "corloc": np.nan, "cpu_seconds": took}


def chained(name: str, arm: str, seed: int, steps: int) -> dict[str, float]:
    """The same from tags alone, by `fit`; in place of what is told of drafts, CorLoc."""
    from modicum.engine.fit import fit

    (method, settings), start = ARMS[arm], time.process_time()
    with tempfile.TemporaryDirectory() as place:
        data = known(name, Path(place, "tiles"), seed)
        run = fit(
            data, Path(place, "run"), want="boxes", have=("tags",), method=method, settings=settings,
            via=() if arm == WEAK else ("oicr", "found-boxes"), net=NET, side=SETS[name], steps=steps, seed=seed,
            batch=BATCH, precision="32", export=False, flip="no",
        )  # fmt: skip
        took, found = time.process_time() - start, run.read("evaluation.json")["arms"][method]
        corloc = located_rightly(run.folder, data)
    values = {m: found[m][0] or 0.0 for m in ("ap50", "ap")} | dict.fromkeys(TOLD, np.nan)
    return values | {"corloc": corloc, "cpu_seconds": took}


def located_rightly(run: Path, data: Any) -> float:
    """CorLoc on images of training: of those that hold a class, the share in which the best box of it overlaps an
    object of it by half or more, a mean over classes."""
    import pyarrow.parquet as pq

    row, cls, xyxy = true_boxes(data)
    said = pq.read_table(run / "boxes.parquet")
    where, what, score = (said[c].to_numpy() for c in ("row", "class", "score"))
    boxes, shares = np.stack([said[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1), []
    for c in np.unique(cls).tolist():
        right = []
        for r in np.unique(row[cls == c]).tolist():
            mine = np.flatnonzero((where == r) & (what == c))
            best = mine[np.argsort(-score[mine])[:1]]
            right.append(bool((overlaps(boxes[best], xyxy[(row == r) & (cls == c)])[0] >= 0.5).any()))
        shares.append(np.mean(right))
    return float(np.mean(shares))


def cell(name: str, arm: str, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """One network, and what was measured."""
    values = (chained if arm.startswith(WEAK) else trained)(name, arm, seed, steps)
    took = values.pop("cpu_seconds")
    shown = {m: f"{v:.4f}" if np.isfinite(v) else "" for m, v in values.items()}
    return {"set": name, "arm": arm, "seed": seed, "steps": steps, **shown, "cpu_seconds": f"{took:.1f}"}


def table() -> str:
    """Means over seeds, and what each arm adds to the boxes as they are, paired by seed, in Markdown."""
    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "noisy_boxes.csv").open(encoding="utf-8")))
    lines = [HEAD]
    for name, arm in dict.fromkeys((r["set"], r["arm"]) for r in rows):
        start = WEAK if arm.startswith(WEAK) else RAW
        mine, base = ({r["seed"]: r for r in rows if (r["set"], r["arm"]) == (name, a)} for a in (arm, start))
        value = np.array([100 * float(r["ap50"]) for r in mine.values()])
        cells = [f"{value.mean():.1f}" + (f" ({value.std(ddof=1):.1f})" if len(mine) > 1 else "")]
        more = [100 * (float(r["ap50"]) - float(base[s]["ap50"])) for s, r in mine.items() if s in base]
        i = paired_t(np.array(more)) if len(more) > 1 and arm != start else None
        cells.append(f"{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})" if i else "")
        right = [100 * float(r["corloc"]) for r in mine.values() if r["corloc"]]
        cells.append(f"{np.mean(right):.1f}" if right else "")
        said = [[float(r[m]) for r in mine.values() if r[m]] for m in TOLD]
        mean = [float(np.mean(v)) if v else np.nan for v in said]
        pairs = (f"{mean[0]:.3f}, {mean[1]:.3f}", f"{100 * mean[2]:.1f}, {100 * mean[3]:.1f}",
                 f"{mean[4]:.3f}, {mean[5]:.3f}")  # fmt: skip
        cells += pairs if said[0] else ("", "", "")
        seconds = np.mean([float(r["cpu_seconds"]) for r in mine.values()])
        lines.append(f"| {name} | {arm} | {len(mine)} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    fill("noisy_boxes", __doc__, cell, table, sets=SETS, arms=ARMS)
