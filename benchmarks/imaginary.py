"""`python -m benchmarks.imaginary`: boxes learned by OICR from images that nobody took, beside real ones with tags.

Real: scenes of one to three digits on a texture (`sample:scenes-texture`), written by the first people (digits 0 to 999
of the source).  Imaginary: pictures that the composer pastes from digits of other people (1,000 to 1,346), 40 for each
class, drawn anew with each seed.  Test scenes are by a third group.  The filter is a classifier of single digits in
composed pictures of the first people's, trained once.  Every arm trains one network as many steps.

CorLoc: share of real training scenes with a class whose best box of it overlaps an object by half, a mean over classes,
of 120 scenes that are the same for all.  AP: at 0.5, of 100 test scenes.
"""

from __future__ import annotations

import csv
import functools
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arena import RESULTS, Arena, fill

NET, SIDE, STEPS, FEW = "tiny-conv:width=16", 64, 500, 100
FIRST, SECOND = 1000, 1347  # where the digits of the first and of the second group of people end
NUMBER, LOOKED, TESTED, JUDGED = 40, 120, 100, 300
REAL, SOME, GRAMMAR, MIX = "real", f"{FEW} real", "grammar", f"{FEW} real + grammar"
ARMS: dict[str, tuple[str, dict[str, Any] | None]] = {  # which real scenes, and how others are imagined
    SOME: ("some", None),
    GRAMMAR: ("", {"describe": "grammar"}),
    "template": ("", {"describe": "template"}),
    MIX: ("some", {"describe": "grammar"}),
    REAL: ("all", None),
    "grammar, filter": ("", {"describe": "grammar", "filter": "judge"}),
}
MEASURES = ("corloc", "ap50")
PAIRS = {"template": GRAMMAR, GRAMMAR: REAL, "grammar, filter": GRAMMAR, SOME: MIX}  # arm -> what it is compared with
HEAD = (
    "| trained on | seeds | images | CorLoc, % (sd) | AP at 0.5, % (sd) | compared with | CorLoc more, points "
    "| AP more | CPU s |\n|---|---|---|---|---|---|---|---|---|"
)


@functools.cache
def digits_of(number: int) -> tuple[int, ...]:
    """Which digits of the source are in a training scene."""
    from modicum.data.formats.digits import digits
    from modicum.data.formats.scenes import enlarged, scene

    pixels, cls = digits()
    return tuple(
        next(
            int(r) for r in np.flatnonzero(cls[:SECOND] == d.cls)
            if np.array_equal(enlarged(pixels[r, ..., 0], *d.ink.shape), d.ink)
        )
        for d in scene(number)
    )  # fmt: skip


@functools.cache
def arena() -> tuple[Arena, np.ndarray]:
    """The scenes, and the rows of real training scenes."""
    from modicum.core.places import cache_home
    from modicum.data.cache import Pixels
    from modicum.data.read import read
    from modicum.data.scan import scan

    data = read("sample:scenes-texture").data
    pixels = Pixels.build(data, cache_home(), 128)
    rows = np.array([r for r in np.flatnonzero(data.of_split("train")).tolist() if max(digits_of(r)) < FIRST])
    return Arena(scan(data, pixels).data, pixels, SIDE, NET, "32-true"), rows


def cut(first: int, last: int) -> dict[str, list[np.ndarray]]:
    """Digits of the source as cut-outs."""
    from modicum.data.cutouts import of_digit
    from modicum.data.formats.digits import digits

    pixels, cls = digits()
    out: dict[str, list[np.ndarray]] = {}
    for r in range(first, last):
        out.setdefault(str(cls[r]), []).append(of_digit(pixels[r, ..., 0]))
    return out


def imagined(settings: dict[str, Any], names: Any, number: int, seed: int, of: dict[str, list[np.ndarray]]) -> Any:
    """Imaginary images from these cut-outs."""
    from modicum.core import registry
    from modicum.engine import imagine

    doors = replace(imagine.doors(), cutouts=lambda place, wanted: of, judge=lambda place, wanted: judge())
    method = registry.make("imaginary-images", {"side": SIDE, **settings})
    found = [*method.imagine(names, number, np.random.default_rng([41, seed]), doors)]
    kept = [f for f in found if f.kept]
    ids = [f"imaginary-{i}" for i in range(len(kept))]
    images, tags = np.stack([f.pixels for f in kept]), np.stack([f.tags for f in kept])
    captions = [f.caption for f in kept]
    return imagine.Made(images, imagine._told(ids, names, tags, captions, SIDE, "imaginary-images"), len(found))


@functools.cache
def judge() -> Any:
    """What stands for a model that has seen much: a classifier of composed pictures of one digit each."""
    import torch

    from modicum.core import registry
    from modicum.engine.arms import train
    from modicum.engine.choose import compose
    from modicum.engine.imagine import beside

    place, names = arena()[0], arena()[0].data.names
    made = imagined({"describe": "grammar", "company": 0}, names, JUDGED, 99, cut(0, FIRST))
    bench = beside(place.bench(np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), names, 99), made)
    cls = np.full(len(bench.data), -1)
    cls[-len(made.data) :] = np.repeat(np.arange(len(names)), JUDGED)
    bench.data = bench.data + bench.data.delta_class(cls, source="human", who="human")
    recipe = registry.load("supervised").recipes["small"].flipped(False).but(steps=1500, wraps=())
    net = fitted(bench, compose("supervised", {}, recipe), recipe, train)

    def tell(images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            return net(x).logits.softmax(1).numpy()

    return tell


def fitted(bench: Any, method: Any, recipe: Any, train: Any) -> Any:
    """A network trained in a folder that is gone afterwards."""
    from modicum.runs.run import Metrics

    with tempfile.TemporaryDirectory() as home:
        return train(bench, method, recipe, "arm", Path(home, "arm"), Metrics(Path(home, "metrics.jsonl")), None)


def cell(arm: str, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Train one arm, and measure it on real scenes."""
    from modicum.core import registry
    from modicum.data.vault import hide
    from modicum.engine.arms import train
    from modicum.engine.choose import compose
    from modicum.engine.imagine import beside

    place, real = arena()
    which, settings = ARMS[arm]
    some = np.random.default_rng([31, seed]).permutation(real)
    rows = {"": some[:0], "some": some[:FEW], "all": some}[which]
    names, begun = place.data.names, time.process_time()
    bench = place.bench(rows[:0], rows[:0], rows, names, seed)
    bench.data = hide(place.data, rows[:0], ("tags",), np.setdiff1d(np.arange(len(place.data)), rows))[0]
    share = 0.0
    if settings is not None:
        made = imagined(settings, names, NUMBER, seed, cut(FIRST, SECOND))
        bench, share = beside(bench, made), 1 - len(made.data) / made.painted
    recipe = registry.load("oicr").recipes["small"].flipped(False).but(steps=steps)
    net = fitted(bench, compose("oicr", {}, recipe), recipe, train)
    looked, tested = real[:: max(1, len(real) // LOOKED)][:LOOKED], place.test[:: max(1, len(place.test) // TESTED)]
    values = {"corloc": measured(bench, net, looked)["corloc"], "ap50": measured(bench, net, tested)["ap50"]}
    took, many = time.process_time() - begun, int(bench.pool.sum())
    about = {"arm": arm, "seed": seed, "steps": steps, "images": many, "turned_down": f"{share:.3f}"}
    return {**about, **{m: f"{values[m]:.4f}" for m in MEASURES}, "cpu_seconds": f"{took:.1f}"}


def measured(bench: Any, net: Any, rows: np.ndarray) -> dict[str, float]:
    """Metric -> value, of a network's boxes in real scenes of which all boxes are known."""
    from modicum.engine.tasks import drawn_boxes, located, together
    from modicum.evaluate.boxes import matched, measures

    truth = drawn_boxes(arena()[0].data, rows)
    found = together([*located(bench, net, rows.tolist())])
    each = [matched(found, truth, c) for c in range(len(bench.data.names))]
    return {k: float(v[0]) for k, v in measures(each, np.ones((1, len(rows))))[0].items()}


def table() -> str:
    """Means over seeds and differences paired by seed, in Markdown."""
    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "imaginary.csv").open(encoding="utf-8")))
    by = {(r["arm"], r["seed"]): r for r in rows}
    lines = [HEAD]
    for arm in [a for a in ARMS if any(r["arm"] == a for r in rows)]:
        mine = [r for r in rows if r["arm"] == arm]
        cells = [arm, str(len(mine)), f"{np.mean([int(r['images']) for r in mine]):.0f}"]
        for m in MEASURES:
            value = np.array([100 * float(r[m]) for r in mine])
            cells.append(f"{value.mean():.1f}" + (f" ({value.std(ddof=1):.1f})" if len(mine) > 1 else ""))
        other = PAIRS.get(arm, "")
        both = [(by[other, r["seed"]], r) for r in mine if (other, r["seed"]) in by]
        cells.append(f"{other} minus this" if both else "")
        for m in MEASURES:
            gain = [100 * (float(a[m]) - float(b[m])) for a, b in both]
            i = paired_t(np.array(gain)) if len(gain) > 1 else None
            cells.append(f"{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})" if i else "")
        cells.append(f"{np.mean([float(r['cpu_seconds']) for r in mine]):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    fill("imaginary", __doc__, cell, table, arms=ARMS)
