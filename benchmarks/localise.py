"""`python -m benchmarks.localise`: what training for maps adds to the maps of a plain classifier.

Scenes of 64 x 64 grey pixels, one MNIST digit each, of 20 to 44 pixels, anywhere; 2,000 scenes with their digit's class
are trained on.  Behind the digit is noise (plain), a texture of several scales (texture), or that with strokes of other
digits (clutter).  Maps are those of the true class, on 300 other scenes; thresholds are chosen on 100 further ones.
Boxes and masks are the digit's own pixels.  Every arm takes as many steps, from the same start; a network that learns
nothing, whose map is a bump in the middle, stands beside them.
"""

from __future__ import annotations

import argparse
import gzip
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arena import RESULTS, Arena, done, keep

SIDE, TRAIN, HELD, TEST, STEPS = 64, 2000, 100, 300, 400
LEVELS = ("plain", "texture", "clutter")
CONV, VIT, MIDDLE = "tiny-conv:width=12", "tiny-vit:depth=4,patch=8", "the middle"
ADAM = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01}


class Arm(NamedTuple):
    """A method with settings on a network, and the ways in which its maps are read; "" trains nothing."""

    method: str
    settings: dict[str, Any]
    maps: tuple[str, ...]
    net: str = CONV


ARMS: dict[str, Arm] = {
    MIDDLE: Arm("", {}, (MIDDLE,)),
    "supervised": Arm("supervised", {}, ("cam", "layer-cam")),
    "bas": Arm("bas", {}, ("own-map", "cam")),
    "bas after=0": Arm("bas", {"after": 0.0}, ("own-map",)),
    "bas amc=0": Arm("bas", {"amc": 0.0}, ("own-map",)),
    "bas frg=0": Arm("bas", {"frg": 0.0}, ("own-map",)),
    "bas area=0": Arm("bas", {"area": 0.0}, ("own-map",)),
    "ppl": Arm("ppl", {}, ("cam",)),
    "ppl way=explicit": Arm("ppl", {"way": "explicit"}, ("cam",)),
    "vit supervised": Arm("supervised", {}, ("gradient-rollout",), VIT),
    "toco": Arm("toco", {}, ("own-map", "gradient-rollout"), VIT),
    "toco ptc=0": Arm("toco", {"ptc": 0.0}, ("own-map",), VIT),
    "toco ctc=0": Arm("toco", {"ctc": 0.0}, ("own-map",), VIT),
    "toco ptc=0 ctc=0": Arm("toco", {"ptc": 0.0, "ctc": 0.0}, ("own-map", "gradient-rollout"), VIT),
}
MEASURES = ("boxes", "boxes_chosen", "known", "pxap", "miou")
KEYS = ("level", "arm", "seed")


# -- scenes ----------------------------------------------------------------------------------------------------------


def digits(part: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST: images uint8 (N,28,28) and classes (N,) of `train` or `t10k`."""
    from benchmarks.__main__ import data_home

    home = data_home() / "digits" / "MNIST" / "raw"
    images = gzip.decompress((home / f"{part}-images-idx3-ubyte.gz").read_bytes())
    cls = gzip.decompress((home / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(cls, np.uint8, offset=8)


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """uint8 (H,W) -> float (side,side) in [0,1], bilinear."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)) / 255


def ground(level: str, strokes: np.ndarray, luck: np.random.Generator) -> np.ndarray:
    """A background, float (64,64).  strokes: digits uint8 (N,28,28) of which parts may lie about."""
    out = np.full((SIDE, SIDE), luck.uniform(0.2, 0.5))
    if level != "plain":
        for cells in (4, 8, 16, 32):
            out += 0.5 / cells**0.5 * (resized(luck.integers(0, 256, (cells, cells), np.uint8), SIDE) - 0.5)
    for _ in range(10 if level == "clutter" else 0):
        part = resized(strokes[luck.integers(len(strokes))], int(luck.integers(20, 45)))
        y, x = luck.integers(0, len(part) - 9, 2)
        part = part[y : y + 10, x : x + 10]
        y, x = luck.integers(0, SIDE - 9, 2)
        here = out[y : y + 10, x : x + 10]
        here += part * (luck.uniform(0.8, 1) - here)
    return out


def scenes(level: str, part: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 (N,64,64,1), classes int64 (N,), masks bool (N,64,64)."""
    luck = np.random.default_rng([LEVELS.index(level), part == "train", seed])
    pictures, known = digits(part)
    some = luck.permutation(len(pictures))[:count]
    images, masks = np.zeros((count, SIDE, SIDE, 1), np.uint8), np.zeros((count, SIDE, SIDE), bool)
    for i, row in enumerate(some):
        out, ink = ground(level, pictures, luck), resized(pictures[row], int(luck.integers(20, 45)))
        y, x = luck.integers(0, SIDE - len(ink) + 1, 2)
        here = out[y : y + len(ink), x : x + len(ink)]
        here += ink * (luck.uniform(0.8, 1) - here)
        masks[i, y : y + len(ink), x : x + len(ink)] = ink > 0.5
        images[i, ..., 0] = (255 * (out + luck.normal(0, 0.06, out.shape)).clip(0, 1)).round()
    return images, known[some].astype(np.int64), masks


def arena_of(images: np.ndarray, cls: np.ndarray, net: str) -> Arena:
    """The scenes as a set whose first TRAIN are trained on."""
    from modicum.core.dataset import HUMAN, Dataset
    from modicum.testing.toy import pixels_of

    names = [str(c) for c in range(10)]
    split = ["train"] * TRAIN + ["test"] * (len(images) - TRAIN)
    bare = Dataset.build([f"{i:05d}.png" for i in range(len(images))], names, split=split)
    data = bare + bare.delta_class(cls, source="human", who=HUMAN)
    return Arena(data, pixels_of(images), SIDE, net, "32-true")


# -- cells -----------------------------------------------------------------------------------------------------------


def trained(arena: Arena, name: str, settings: dict[str, Any], steps: int, seed: int) -> Any:
    """A method's network, in eval mode; transformers by AdamW."""
    from modicum.core import registry
    from modicum.core.recipe import Optim
    from modicum.engine import choose

    bench = arena.bench(arena.train, arena.cls[arena.train], np.empty(0, np.int64), arena.data.names, seed)
    recipe = registry.load(name).recipes["small"].but(wraps=(), steps=steps)
    recipe = recipe.but(optim=Optim(**ADAM), warmup=0.1) if arena.net == VIT else recipe
    method = choose.compose(name, settings, recipe)
    loop = bench.loop(method, recipe)
    loop.run()
    return method.deliver(loop.nets).eval()


def seen(net: Any, images: np.ndarray, cls: np.ndarray, methods: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Maps of the true class by each method, float (N,64,64) in [0,1]."""
    import torch

    from modicum.functional.regions import at_size
    from modicum.nn.capture import explain

    out: dict[str, list[np.ndarray]] = {m: [] for m in methods}
    for start in range(0, len(images), 100):
        x = torch.from_numpy(images[start : start + 100]).permute(0, 3, 1, 2).float() / 255
        found = explain(net, x, torch.from_numpy(cls[start : start + 100]), methods).maps
        for (name, _), maps in found.items():
            out[name].append(at_size(maps, (SIDE, SIDE))[:, 0].numpy())
    return {m: np.concatenate(parts) for m, parts in out.items()}


def alike(net: Any, images: np.ndarray) -> float:
    """Mean |cosine| of every two places of an image in what the network pools, over 100 images."""
    import torch

    from modicum.functional.tokens import gridded, likeness

    x = torch.from_numpy(images[HELD : HELD + 100]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        found = likeness(gridded(net.spatial(net.normalise(x))))
    places = found.shape[1]
    return float((found.sum((1, 2)) - places).mean()) / (places * (places - 1))


def measured(maps: np.ndarray, cls: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Measures of maps (N,64,64): the first HELD choose thresholds, the rest are measured.

    boxes: MaxBoxAccV2 at the best threshold; boxes_chosen: at the chosen one.  known: known-class localisation at
    IoU 0.5, largest region, chosen threshold.  pxap, miou: see evaluate/localise.py; miou at the chosen threshold.
    """
    from modicum.evaluate.localise import box_overlaps, max_box_acc, pxap, seeds
    from modicum.functional.drafts import frame

    held = np.arange(len(maps)) < HELD
    boxes, image = np.array([frame(m) for m in masks], float), np.arange(len(maps))
    every = max_box_acc(box_overlaps(maps, boxes, image), held=held)
    largest = max_box_acc(box_overlaps(maps, boxes, image, every=False), deltas=(0.5,), held=held)
    stacks = [np.where(np.arange(10)[:, None, None] == c, m, 0).astype(np.float32) for c, m in zip(cls, maps)]
    truth = masks * (cls[:, None, None] + 1)
    found = seeds(stacks, truth, cls[:, None] == np.arange(10), held=held)
    values = (every.best, every.chosen, largest.chosen, pxap(maps[HELD:], masks[HELD:]), found.miou.chosen)
    return dict(zip(MEASURES, values, strict=True))


def cell(level: str, arm: str, seed: int, steps: int) -> list[dict[str, Any]]:
    """Train one arm on one set of scenes; -> a row for each way of reading maps."""
    images, cls, masks = (
        np.concatenate(both)
        for both in zip(scenes(level, "train", TRAIN, seed), scenes(level, "t10k", HELD + TEST, seed))
    )
    way = ARMS[arm]
    arena, begun = arena_of(images, cls, way.net), time.process_time()
    images, cls, masks = images[TRAIN:], cls[TRAIN:], masks[TRAIN:]
    accuracy, same = 0.1, 1.0
    if way.method:
        net = trained(arena, way.method, way.settings, steps, seed)
        took = time.process_time() - begun
        maps, same = seen(net, images, cls, way.maps), alike(net, images)
        bench = arena.bench(arena.train[:1], arena.cls[:1], arena.train[:0], arena.data.names, seed)
        accuracy = float((arena.logits(net, bench, arena.test).argmax(1) == cls)[HELD:].mean())
    else:
        away = np.hypot(*(np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2)) / SIDE
        took, maps = 0.0, {MIDDLE: np.repeat(np.exp(-8 * away**2)[None], len(images), 0)}
    return [
        {
            "level": level, "arm": arm, "maps": m, "seed": seed, "steps": steps, "accuracy": f"{accuracy:.4f}",
            **{k: f"{v:.4f}" for k, v in measured(maps[m], cls, masks).items()}, "alike": f"{same:.4f}",
            "cpu_seconds": f"{took:.1f}",
        }
        for m in way.maps
    ]  # fmt: skip


def table() -> str:
    """Means over seeds, and the difference in boxes to the plain classifier's CAM, in Markdown."""
    import csv

    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "localise.csv").open()))
    lines = [
        "| background | arm | maps | seeds | accuracy, % | MaxBoxAccV2, % (sd) | minus supervised CAM, points (95 % "
        "paired t) | the same at a chosen threshold, % | known class, IoU 0.5, % | PxAP, % | seed mIoU, % "
        "| places alike, % | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for level, arm, maps in dict.fromkeys((r["level"], r["arm"], r["maps"]) for r in rows):
        mine = {r["seed"]: r for r in rows if (r["level"], r["arm"], r["maps"]) == (level, arm, maps)}
        base = {r["seed"]: r for r in rows if (r["level"], r["arm"], r["maps"]) == (level, "supervised", "cam")}
        measures = ("accuracy", *MEASURES, "alike")
        value = {k: np.array([100 * float(r[k] or "nan") for r in mine.values()]) for k in measures}
        gain = [100 * (float(r["boxes"]) - float(base[s]["boxes"])) for s, r in mine.items() if s in base]
        i = paired_t(np.array(gain)) if len(gain) > 1 and (arm, maps) != ("supervised", "cam") else None
        sd = f" ({value['boxes'].std(ddof=1):.1f})" if len(mine) > 1 else ""
        lines.append(
            f"| {level} | {arm} | {maps} | {len(mine)} | {value['accuracy'].mean():.1f} | "
            f"{value['boxes'].mean():.1f}{sd} | {f'{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})' if i else ''} | "
            + " | ".join(f"{value[k].mean():.1f}".replace("nan", "") for k in measures[2:])
            + f" | {np.mean([float(r['cpu_seconds']) for r in mine.values()]):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Fill the cells that are missing, seeds first; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.localise", description=__doc__)
    parser.add_argument("--levels", nargs="*", choices=LEVELS, default=LEVELS)
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    for seed in range(asked.seeds):
        for level in asked.levels:
            for arm in asked.arms:
                if (level, arm, str(seed)) not in done("localise", *KEYS):
                    for row in cell(level, arm, seed, STEPS):
                        keep("localise", row)
    print(table())


if __name__ == "__main__":
    main()
