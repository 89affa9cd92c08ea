"""`python -m benchmarks.tags_to_masks`: masks learned from image labels, beside masks learned from masks.

The scenes of `benchmarks.localise` (a digit on three kinds of ground) with their classes and class maps, 1,500 for
training and 300 to measure on, are written to disk and handed to `fit --want masks`: with the class alone (`--have
class`) or, as tags, a yes or no for each class (`--have tags`), by several ways to maps; and with masks.  Every network
takes as many steps.  Seeds: overlap of the drafts, which the segmenter learns from, with the true masks of the training
scenes.
"""

from __future__ import annotations

import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arena import RESULTS, fill
from benchmarks.localise import LEVELS, scenes

TRAIN, TEST, STEPS, SIDE, NET = 1500, 300, 800, 48, "tiny-conv:width=12"
TRUE = "masks"
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    TRUE: ("masks", ()),
    "class: cam": ("class", ("supervised", "cam")),
    "class: bas, own-map": ("class", ("bas", "own-map")),
    "class: cam, not refined": ("class", ("supervised", "cam", "map-masks:refine=none")),
    "tags: cam": ("tags", ()),
}
MEASURES = ("miou", "accuracy", "precision", "recall")
HEAD = (
    "| background | learned from | seeds | mean IoU, % (sd) | of that from masks, % | foreground precision, % | "
    "recall, % | mean IoU of the drafts, % | CPU s |\n|---|---|---|---|---|---|---|---|---|"
)


def written(level: str, seed: int, home: Path) -> None:
    """Scenes as folders images/ and masks/, each with train/ and test/."""
    from PIL import Image

    lines = ["image,class"]
    for split, part, count in (("train", "train", TRAIN), ("test", "t10k", TEST)):
        images, cls, masks = scenes(level, part, count, seed)
        for kind in ("images", "masks"):
            (home / kind / split).mkdir(parents=True)
        for i in range(count):
            name = f"{split}/{i:04d}.png"
            Image.fromarray(images[i, ..., 0]).save(home / "images" / name)
            Image.fromarray((masks[i] * (cls[i] + 1)).astype(np.uint8)).save(home / "masks" / name)
            lines.append(f"images/{name},{cls[i]}")
    (home / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (home / "classes.txt").write_text("background\n" + "\n".join(map(str, range(10))) + "\n", encoding="utf-8")


def cell(level: str, arm: str, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """One run of `fit`, and what was measured."""
    from modicum.engine.fit import fit

    have, via = ARMS[arm]
    with tempfile.TemporaryDirectory() as place:
        written(level, seed, home := Path(place, "scenes"))
        begun = time.process_time()
        run = fit(
            home, Path(place, "run"), want="masks", have=(have,), via=via, net=NET, side=SIDE, steps=steps, seed=seed,
            flip="no", precision="32", export=False,
        )  # fmt: skip
        took = time.process_time() - begun
        found = run.read("evaluation.json")["arms"]["segmenter"]
        drafts = "" if arm == TRUE else f"{overlap(Path(place)):.4f}"
    values = {m: f"{found[m][0] or 0:.4f}" for m in MEASURES}
    about = {"level": level, "arm": arm, "seed": seed, "steps": steps}
    return {**about, **values, "drafts": drafts, "cpu_seconds": f"{took:.1f}"}


def overlap(place: Path) -> float:
    """Mean IoU of the drafts of a run's training scenes; what they leave unknown counts as background."""
    from modicum.core.dataset import Dataset
    from modicum.core.kinds import UNKNOWN
    from modicum.data.masks import Painter
    from modicum.data.read import read
    from modicum.evaluate.masks import evaluate_masks

    made, whole = Dataset.load(place / "run" / "made" / "map-masks"), read(place / "scenes").data
    said, true = Painter(made), Painter(whole)
    rows = np.unique(made.annotations["row"].to_numpy()).tolist()
    drafts = (np.where((labels := said.whole(r)) == UNKNOWN, 0, labels) for r in rows)
    found = evaluate_masks(drafts, map(true.whole, rows), whole.names, main="drafts", resamples=2)
    return float(found["arms"]["drafts"]["miou"][0])


def table() -> str:
    """Means over seeds, and the share of what masks give, paired by seed, in Markdown."""
    from modicum.evaluate.intervals import paired_t

    rows = list(csv.DictReader((RESULTS / "tags_to_masks.csv").open(encoding="utf-8")))
    lines = [HEAD]
    for level, arm in dict.fromkeys((r["level"], r["arm"]) for r in rows):
        mine = {r["seed"]: r for r in rows if (r["level"], r["arm"]) == (level, arm)}
        true = {r["seed"]: r for r in rows if (r["level"], r["arm"]) == (level, TRUE)}
        value = {m: np.array([100 * float(r[m] or "nan") for r in mine.values()]) for m in (*MEASURES, "drafts")}
        share = [100 * float(r["miou"]) / float(true[s]["miou"]) for s, r in mine.items() if s in true]
        i = paired_t(np.array(share)) if len(share) > 1 and arm != TRUE else None
        sd = f" ({value['miou'].std(ddof=1):.1f})" if len(mine) > 1 else ""
        lines.append(
            f"| {level} | {arm} | {len(mine)} | {value['miou'].mean():.1f}{sd} | "
            f"{f'{i.value:.0f} ({i.low:.0f} to {i.high:.0f})' if i else ''} | {value['precision'].mean():.1f} | "
            f"{value['recall'].mean():.1f} | {'' if arm == TRUE else format(value['drafts'].mean(), '.1f')} | "
            f"{np.mean([float(r['cpu_seconds']) for r in mine.values()]):.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    fill("tags_to_masks", __doc__, cell, table, levels=LEVELS, arms=ARMS)
