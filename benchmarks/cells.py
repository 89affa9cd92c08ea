"""`python -m benchmarks.cells`: training for maps on microscope pictures, with the class of a tile as the only label.

Tiles of 160 pixels from BCCD's blood smears, brought to 64: those with a white cell, those with platelets (never both),
and those with neither; a box belongs to a tile if its centre lies there.  Trained on 200 + 200 + 120 tiles of the
training pictures; thresholds are chosen on 40, and MaxBoxAccV2 is measured on 160 tiles of the test pictures, with the
true class given.
"""

from __future__ import annotations

import argparse
import csv
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arena import RESULTS, Arena, done, keep
from benchmarks.tiles import smears

TILE, SIDE, STEPS, NET = 160, 64, 400, "tiny-conv:width=12"
CLASSES = ("WBC", "Platelets")
TRAIN, NONE, HELD, TEST = 200, 120, 40, 160
MIDDLE = "the middle"
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    MIDDLE: ("", (MIDDLE,)),
    "supervised": ("supervised", ("cam", "layer-cam")),
    "bas": ("bas", ("own-map",)),
    "ppl": ("ppl", ("cam",)),
}
MEASURES = ("boxes", "boxes_chosen", "known")
KEYS = ("arm", "seed")


class Tile(NamedTuple):
    """pixels: uint8 (64,64,3).  cls: 0 or 1, 2 for neither.  boxes: float (M,4) of the class, in pixels of the tile."""

    pixels: np.ndarray
    cls: int
    boxes: np.ndarray


def drawn(split: str, wanted: dict[int, int], luck: np.random.Generator) -> list[Tile]:
    """Tiles of the pictures of a split, as many of each class as wanted."""
    from modicum.data.images import square
    from modicum.data.read import pixels

    data = smears()
    said, names = data.of_kind("boxes"), list(data.names)
    row, cls = said["row"].to_numpy(), said["class"].to_numpy()
    xyxy = np.stack([said[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1)
    number = {names.index(name): k for k, name in enumerate(CLASSES)}
    rows, left, out = np.flatnonzero(data.of_split(split)), dict(wanted), []
    held: dict[int, np.ndarray] = {}
    while any(left.values()):
        r = int(luck.choice(rows))
        picture = held[r] if r in held else held.setdefault(r, pixels(data, r))
        mine, kinds = xyxy[row == r], np.array([number.get(c, -1) for c in cls[row == r].tolist()])
        middle = (mine[:, :2] + mine[:, 2:]) / 2
        aim = [c for c in np.flatnonzero(kinds >= 0) if left.get(int(kinds[c]), 0)]
        near = bool(aim) and luck.random() < 0.8
        at = middle[luck.choice(aim)] + luck.integers(-50, 51, 2) if near else luck.random(2) * 640
        corner = np.clip(at - TILE / 2, 0, np.array(picture.shape[1::-1]) - TILE).astype(int)
        inside = ((middle >= corner) & (middle < corner + TILE)).all(1) & (kinds >= 0)
        there = set(kinds[inside].tolist())
        one = there.pop() if len(there) == 1 else 2 if not there else -1
        if left.get(one, 0):
            left[one] -= 1
            x, y = corner.tolist()
            tile = square(picture[y : y + TILE, x : x + TILE], SIDE, 3)
            boxes = (mine[inside] - np.tile(corner, 2)).clip(0, TILE) * SIDE / TILE
            out.append(Tile(tile, one, boxes))
    return out


def cell(arm: str, seed: int) -> list[dict[str, Any]]:
    """Train one arm on tiles of a seed; -> a row for each way of reading maps."""
    from benchmarks.localise import seen, trained
    from modicum.core.dataset import HUMAN, Dataset
    from modicum.testing.toy import pixels_of

    luck = np.random.default_rng([7, seed])
    tiles = drawn("train", {0: TRAIN, 1: TRAIN, 2: NONE}, luck)
    half = (HELD + TEST) // 2
    shown = drawn("test", {0: half, 1: half}, luck)
    shown = [shown[i] for i in luck.permutation(len(shown))]
    images = np.stack([t.pixels for t in (*tiles, *shown)])
    cls = np.array([t.cls for t in (*tiles, *shown)])
    bare = Dataset.build(
        [f"{i}.png" for i in range(len(images))], [*CLASSES, "neither"],
        split=["train"] * len(tiles) + ["test"] * len(shown),
    )  # fmt: skip
    data = bare + bare.delta_class(cls, source="human", who=HUMAN)
    arena = Arena(data, pixels_of(images), SIDE, NET, "32-true")
    method, ways = ARMS[arm]
    begun, accuracy, images, cls = time.process_time(), 1 / 3, images[len(tiles) :], cls[len(tiles) :]
    if method:
        net = trained(arena, method, {}, STEPS, seed)
        took = time.process_time() - begun
        maps = seen(net, images, cls, ways)
        bench = arena.bench(arena.train[:1], arena.cls[:1], arena.train[:0], arena.data.names, seed)
        accuracy = float((arena.logits(net, bench, arena.test).argmax(1) == cls)[HELD:].mean())
    else:
        away = np.hypot(*(np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2)) / SIDE
        took, maps = 0.0, {MIDDLE: np.repeat(np.exp(-8 * away**2)[None], len(images), 0)}
    about = {"seed": seed, "steps": STEPS, "accuracy": f"{accuracy:.4f}", "cpu_seconds": f"{took:.1f}"}
    return [{"arm": arm, "maps": m, **about, **measured(maps[m], [t.boxes for t in shown])} for m in ways]


def measured(maps: np.ndarray, boxes: list[np.ndarray]) -> dict[str, str]:
    """MaxBoxAccV2 at the best and at a chosen threshold, and known-class localisation at IoU 0.5, of maps (N,64,64)."""
    from modicum.evaluate.localise import box_overlaps, max_box_acc

    held, image = np.arange(len(maps)) < HELD, np.repeat(np.arange(len(boxes)), [len(b) for b in boxes])
    every = max_box_acc(box_overlaps(maps, np.concatenate(boxes), image), held=held)
    largest = max_box_acc(box_overlaps(maps, np.concatenate(boxes), image, every=False), deltas=(0.5,), held=held)
    return {k: f"{v:.4f}" for k, v in zip(MEASURES, (every.best, every.chosen, largest.chosen), strict=True)}


def table() -> str:
    """Means over seeds, and the difference in boxes to the plain classifier's CAM, in Markdown."""
    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "cells.csv").open(encoding="utf-8")))
    lines = [
        "| arm | maps | seeds | accuracy, % | MaxBoxAccV2, % (sd) | minus supervised CAM, points (95 % paired t) "
        "| the same at a chosen threshold, % | known class, IoU 0.5, % | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, maps in dict.fromkeys((r["arm"], r["maps"]) for r in rows):
        mine = {r["seed"]: r for r in rows if (r["arm"], r["maps"]) == (arm, maps)}
        base = {r["seed"]: r for r in rows if (r["arm"], r["maps"]) == ("supervised", "cam")}
        value = {k: np.array([100 * float(r[k]) for r in mine.values()]) for k in ("accuracy", *MEASURES)}
        gain = [100 * (float(r["boxes"]) - float(base[s]["boxes"])) for s, r in mine.items() if s in base]
        i = paired_t(np.array(gain)) if len(gain) > 1 and (arm, maps) != ("supervised", "cam") else None
        sd = f" ({value['boxes'].std(ddof=1):.1f})" if len(mine) > 1 else ""
        lines.append(
            f"| {arm} | {maps} | {len(mine)} | {value['accuracy'].mean():.1f} | {value['boxes'].mean():.1f}{sd} | "
            f"{f'{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})' if i else ''} | "
            f"{value['boxes_chosen'].mean():.1f} | {value['known'].mean():.1f} | "
            f"{np.mean([float(r['cpu_seconds']) for r in mine.values()]):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Fill the cells that are missing, seeds first; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__)
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    for seed in range(asked.seeds):
        for arm in asked.arms:
            if (arm, str(seed)) not in done("cells", *KEYS):
                for row in cell(arm, seed):
                    keep("cells", row)
    print(table())


if __name__ == "__main__":
    main()
