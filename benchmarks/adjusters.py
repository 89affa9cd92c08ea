"""`python -m benchmarks.adjusters`: what a network that moves boxes, learned on other classes, gives boxes from tags.

scenes: digits on a texture that ship with the library.  The other images are those for training that show digits below
5 alone, with boxes; the weak ones are the other images for training, with the tags of digits from 5 on alone.
cells: tiles of blood cells (benchmarks/tiles.py).  Half of the tiles without a white cell are the other images, with
boxes of red cells and platelets; the rest are weak, with tags of white cells alone.
No image is in both, and no object of a weak class in the other images.

`oicr` learns from the tags alone; "moved" is what an adjuster makes of its boxes, once.  The arms of lbba differ in
the stages of the adjuster that they use.  All detectors of a seed take STEPS steps, F0 twice and F1 once as many.
Is F1 better for the boxes it saw, or for having learned longer?  Beside it stands an F0 that took as many steps as
F0 and F1 together, from overlaps of 0.3 on, as F1.

CorLoc: share of weak images with a class whose best box of it overlaps an object by 0.5, or 0.7; IoU: the mean overlap
of that box; both are means over the weak classes.  AP at 0.5 is that on test images.
"""

from __future__ import annotations

import csv
import functools
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arena import RESULTS, Arena, fill

SETS = ("scenes", "cells")
SIDE, NET, STEPS = 64, "tiny-conv:width=16", 250
PLAIN, ONCE = "oicr", {"stages": "0", "reach": "0.3"}
MOVED: dict[str, tuple[int, dict[str, str]]] = {  # stage of the adjuster, and its settings
    "oicr, moved by F0": (0, {}),
    "oicr, moved by F1": (1, {}),
    "oicr, moved by F0 that learned as long as both": (0, ONCE),
}
BOOSTED: dict[str, dict[str, str]] = {
    "lbba without an adjuster": {"use": "none"},
    "lbba, F0": {"use": "first"},
    "lbba, F0 and F1": {},
    "lbba, F1": {"use": "last"},
    "lbba, F0 and F1, not masked": {"masked": "false"},
}
ARMS = (PLAIN, *MOVED, *BOOSTED)
PAIRS = (
    ("oicr, moved by F0", PLAIN), ("oicr, moved by F1", PLAIN), ("oicr, moved by F1", "oicr, moved by F0"),
    ("oicr, moved by F1", "oicr, moved by F0 that learned as long as both"), ("lbba, F0", "lbba without an adjuster"),
    ("lbba, F0 and F1", "lbba without an adjuster"), ("lbba, F0 and F1", "lbba, F0"), ("lbba, F1", "lbba, F0"),
    ("lbba, F0 and F1", "lbba, F0 and F1, not masked"), ("lbba, F0 and F1", PLAIN),
)  # fmt: skip
MEASURES = {"corloc50": "CorLoc at 0.5", "corloc70": "CorLoc at 0.7", "iou": "IoU", "ap50": "AP at 0.5"}


class Split(NamedTuple):
    """One set with two kinds of labels.  other, weak: benches of the same images.  whole: the data with the boxes of
    the weak classes.  train, test: rows that are measured."""

    other: Any
    weak: Any
    whole: Any
    train: np.ndarray
    test: np.ndarray


def only(data: Any, classes: list[int], rows: np.ndarray) -> Any:
    """The data with nothing known but the boxes of some classes, in some rows; classes are numbered anew."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from modicum.core.tables import CLASSES, table

    place = np.full(len(data.names) + 1, -1)  # the last: of no class
    place[classes] = np.arange(len(classes))
    said = data.of_kind("boxes")
    cls, row = said["class"].fill_null(len(data.names)).to_numpy(), said["row"].to_numpy()
    mine = np.isin(row, rows) & (place[cls] >= 0)
    at = said.schema.get_field_index("class")
    said = said.filter(pa.array(mine)).set_column(at, said.schema.field(at), pa.array(place[cls[mine]], pa.int32()))
    looked = data.looked.filter(pc.equal(data.looked["kind"].cast(pa.string()), "boxes"))
    looked = looked.filter(pa.array(np.isin(looked["row"].to_numpy(), rows)))
    names = table(CLASSES, name=[data.names[c] for c in classes], parent=-1)
    return replace(data, annotations=said, looked=looked, classes=names)


def tagged(data: Any, rows: np.ndarray) -> Any:
    """The data with the tags that follow from its boxes, in some rows, and without the boxes."""
    from modicum.core.dataset import HUMAN

    known = data.tags[rows]
    at, cls = np.nonzero(known >= 0)
    bare = replace(data, annotations=data.annotations.slice(0, 0), looked=data.looked.slice(0, 0))
    value = known[at, cls].astype(np.float32)
    return bare + bare.delta(source="human", who=HUMAN, row=rows[at], kind="tags", value=value, **{"class": cls})


@functools.lru_cache(maxsize=1)
def split(name: str, seed: int) -> Split:
    """Images with boxes of some classes, and others with tags of other classes."""
    import pyarrow.compute as pc

    from benchmarks.tiles import written
    from modicum.core.places import cache_home
    from modicum.data.cache import Pixels
    from modicum.data.read import read
    from modicum.data.scan import scan

    with tempfile.TemporaryDirectory() as place:
        if name == "cells":
            written(Path(place, "cells"), seed)
        data = read(Path(place, "cells") if name == "cells" else "sample:scenes-texture").data
        pixels = Pixels.build(data, cache_home(), 192)
        data = scan(data, pixels).data
    weak = [data.names.index("WBC")] if name == "cells" else list(range(5, 10))
    others = [c for c in range(len(data.names)) if c not in weak]
    train, test = (data.rows(f"split:{s}") for s in ("train", "test"))
    said = data.of_kind("boxes")
    shows = np.unique(said["row"].to_numpy()[np.isin(pc.fill_null(said["class"], -1).to_numpy(), weak)])
    without = np.random.default_rng([31, seed]).permutation(np.setdiff1d(train, shows))
    if name == "cells":
        without = without[: len(without) // 2]
    rest = np.setdiff1d(train, without)
    arena = Arena(data, pixels, SIDE, NET, "32-true")
    whole = only(data, weak, np.arange(len(data)))
    benches = (_bench(arena, d, rows, seed) for d, rows in (
        (only(data, others, without), without), (tagged(whole, rest), rest)))  # fmt: skip
    return Split(*benches, whole, np.intersect1d(rest, shows), test)


def _bench(arena: Arena, data: Any, rows: np.ndarray, seed: int) -> Any:
    from modicum.data.views import way
    from modicum.engine.arms import Bench

    pool = np.isin(np.arange(len(data)), rows)
    at = arena.pixels, pool, NET, SIDE, arena.pixels.channels, seed, arena.fabric, way(SIDE), "channels_last"
    return Bench(data, *at)


def trained(bench: Any, name: str, steps: int, flip: bool, **settings: str) -> tuple[Any, float]:
    """A network that a method delivers, and the CPU seconds it took."""
    from modicum.core import registry

    begun = time.process_time()
    method = registry.load(name)
    recipe = method.recipes["small"].but(steps=steps, wraps=()).flipped(flip)
    loop = bench.loop(method.of({**method.presets["small"], **settings}), recipe)
    loop.run()
    return loop.method.deliver(loop.nets).eval(), time.process_time() - begun


@functools.lru_cache(maxsize=2)
def adjuster(name: str, seed: int, steps: int, once: bool = False) -> tuple[Path, float]:
    """The folder of an adjuster, and the CPU seconds it took.  once: it learns F0 alone, from as many boxes."""
    from modicum.models import files

    of, given = (3, ONCE) if once else (4, {})
    net, took = trained(split(name, seed).other, "lbba-adjuster", of * steps, name == "cells", **given)
    files.save(net, folder := Path(tempfile.mkdtemp()))
    return folder, took


@functools.lru_cache(maxsize=1)
def plain(name: str, seed: int, steps: int) -> tuple[Any, float]:
    """A detector from tags alone, and the CPU seconds it took."""
    return trained(split(name, seed).weak, PLAIN, steps, name == "cells")


def cell(name: str, arm: str, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """One arm, and what was measured."""
    from modicum.models import files

    sets, moves = split(name, seed), None
    if arm in BOOSTED:
        weak = replace(sets.weak, brought={"adjust": adjuster(name, seed, steps)[0]})
        net, took = trained(weak, "lbba", steps, name == "cells", **BOOSTED[arm])
    else:
        net, took = plain(name, seed, steps)
        if arm in MOVED:
            stage, given = MOVED[arm]
            folder, took = adjuster(name, seed, steps, given is ONCE)
            moves = functools.partial(files.load(folder)[0].adjust, stage=stage)
    values = measured(sets, net, moves)
    about = {"set": name, "arm": arm, "seed": seed, "steps": steps}
    return {**about, **{m: f"{values[m]:.4f}" for m in MEASURES}, "cpu_seconds": f"{took:.1f}"}


def measured(sets: Split, net: Any, moves: Any = None) -> dict[str, float]:
    """MEASURES of a network; moves: (pixels, boxes, whose) -> boxes."""
    from modicum.engine.tasks import drawn_boxes
    from modicum.evaluate.boxes import matched, measures

    classes = range(len(sets.whole.names))
    truth = drawn_boxes(sets.whole, sets.train)
    found = boxes_of(sets, net, sets.train, moves)
    best = [matched(found, truth, c).best for c in classes]
    near = {f"corloc{round(100 * t)}": np.mean([(b[b >= 0] >= t).mean() for b in best]) for t in (0.5, 0.7)}
    truth = drawn_boxes(sets.whole, sets.test)
    each = [matched(boxes_of(sets, net, sets.test, moves), truth, c) for c in classes]
    ap = measures(each, np.ones((1, len(sets.test))))[0]["ap50"][0]
    return {**near, "iou": np.mean([b[b >= 0].mean() for b in best]), "ap50": ap}


def boxes_of(sets: Split, net: Any, rows: np.ndarray, moves: Any) -> Any:
    """What a network finds in rows, perhaps moved, in pixels of the stored images."""
    import torch

    from modicum.evaluate.boxes import Found

    out: list[list[np.ndarray]] = []
    size = np.stack([sets.whole.field(f)[rows] for f in ("width", "height")], 1).astype(np.float64)
    start = 0
    with torch.no_grad():
        for part in sets.weak.feed({}).sweep(rows, 64):
            said = net(part["plain"]).boxes
            xyxy = said.xyxy if moves is None else moves(part["plain"], said.xyxy, said.image)
            image = said.image.numpy() + start
            out.append([xyxy.numpy() * np.tile(size[image], 2) / SIDE, said.cls.numpy(), said.score.numpy(), image])
            start += len(part.rows)
    return Found(*(np.concatenate(column) for column in zip(*out)))


def table() -> str:
    """Means over seeds, and differences paired by seed, in Markdown."""
    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "adjusters.csv").open(encoding="utf-8")))
    value = {(r["set"], r["arm"], r["seed"], m): 100 * float(r[m]) for r in rows for m in MEASURES}
    words = " | ".join(f"{m}, %" for m in MEASURES.values())
    lines = [f"| set | way | seeds | {words} | CPU s |", "|---|---|---|" + "---|" * (len(MEASURES) + 1)]
    for name, arm in dict.fromkeys((r["set"], r["arm"]) for r in rows):
        mine = [r for r in rows if (r["set"], r["arm"]) == (name, arm)]
        shown = [np.array([value[name, arm, r["seed"], m] for r in mine]) for m in MEASURES]
        seconds = np.mean([float(r["cpu_seconds"]) for r in mine])
        cells = [f"{v.mean():.1f}" + (f" ({v.std(ddof=1):.1f})" if len(v) > 1 else "") for v in shown]
        lines.append(f"| {name} | {arm} | {len(mine)} | {' | '.join(cells)} | {seconds:.0f} |")
    lines += ["", f"| set | more than | seeds | {words} |", "|---|---|---|" + "---|" * len(MEASURES)]
    for name in dict.fromkeys(r["set"] for r in rows):
        every = dict.fromkeys(r["seed"] for r in rows)
        for one, two in PAIRS:
            seeds = [s for s in every if (name, one, s, "iou") in value and (name, two, s, "iou") in value]
            if len(seeds) > 1:
                gaps = [np.array([value[name, one, s, m] - value[name, two, s, m] for s in seeds]) for m in MEASURES]
                shown = [f"{g.value:+.1f} ({g.low:+.1f} to {g.high:+.1f})" for g in map(paired_t, gaps)]
                lines.append(f"| {name} | {one} - {two} | {len(seeds)} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    fill("adjusters", __doc__, cell, table, sets=SETS, arms=ARMS)
