"""How good maps are, in numbers, beside maps that never saw the network.

Two questions: does the network rely on what a map marks (evaluate/faithful.py, for the class it names), and do maps lie
on the things that people drew (evaluate/localise.py, for each class drawn in it)?  All is as the network sees it:
images, maps and boxes squeezed to its side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.disk import whole
from modicum.core.errors import DataError
from modicum.core.kinds import UNKNOWN
from modicum.core.space import writing
from modicum.data.masks import Painter, squeezed
from modicum.engine.explain import probabilities
from modicum.engine.inputs import Inputs
from modicum.engine.table import Finished
from modicum.evaluate import faithful, localise
from modicum.evaluate.intervals import Interval, averaged
from modicum.evaluate.sanity import centre_maps, edge_maps, random_maps

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 32
FILE = "grades.json"
STEPS = 20  # of insertion and deletion: the area changes little with more
DELTAS = (0.3, 0.5, 0.7)
BOX = ("x0", "y0", "x1", "y1")
Values = dict[str, dict[str, Interval]]
Progress = Callable[[int, int], None]

SCORES = {  # whether more is better, and what it is
    "insertion": (True, "the class's probability as the marked pixels come back, area under the curve"),
    "deletion": (False, "the class's probability as the marked pixels go, area under the curve"),
    "road": (True, "what losing the marked pixels costs more than losing the others, holes filled"),
    "average drop": (False, "share of the class's probability lost where only the marked part is shown"),
    "increase": (True, "share of images whose class becomes more probable by that"),
    "pointing": (True, "share of maps whose highest pixel lies in a box"),
    "energy": (True, "share of a map's positive part that lies in boxes"),
    "MaxBoxAccV2": (True, "share of maps from which a box can be cut that fits, best threshold"),
    "PxAP": (True, "average precision of a map's pixels against masks"),
}


class Grades(NamedTuple):
    """scores: map -> score -> interval over images; maps are methods (and layers), then `random`, `centre`, `edges`.
    images: how many were asked about.  drawn: pairs of an image and a class drawn in it.  faults: (where, reason)."""

    scores: Values
    images: int
    drawn: int
    faults: list[tuple[str, str]]

    def json(self) -> dict[str, Any]:
        """As grades.json has it; an interval is [value, low, high]."""
        rows = {maps: {score: v.json() for score, v in found.items()} for maps, found in self.scores.items()}
        about = {name: {"higher": SCORES[name][0], "what": SCORES[name][1]} for name in next(iter(rows.values()))}
        return {"images": self.images, "drawn": self.drawn, "about": about, "scores": rows}


def grade(
    run: str | Path, images: Sequence[str | Path], methods: Sequence[str] = (), layers: Sequence[str] = (),
    most: int = 50, progress: Progress | None = None,
) -> Grades:  # fmt: skip
    """Grades of explain methods on at most `most` images, spread over those that are given.

    methods, layers: none = the usual one.  progress(done, of): after each kind of map.  DataError where no image can be
    read.
    """
    done, inputs = Finished.open(run), Inputs.of(images)
    seen = _seen(done, inputs, most)
    made, cls = _maps(done, seen.x, None, methods, layers)
    sets, out = {**made, **_others(seen.x)}, Values()
    for n, (name, maps) in enumerate(sets.items()):
        out[name] = _faithful(done, seen.x, maps, cls)
        if progress:
            progress(n + 1, len(sets))
    drawn = dict.fromkeys([*((i, c) for i, c, _ in seen.boxes), *((i, c) for i, c, _ in seen.masks)])
    for name, found in (_located(done, seen, sorted(drawn), methods, layers) if drawn else {}).items():
        out[name] |= found
    return Grades(out, len(seen.x), len(drawn), [*inputs.faults, *seen.faults])


def save(found: Grades, folder: Path) -> Path:
    """Write grades.json into a folder, which is made; -> the file."""
    text = json.dumps(found.json(), indent=1, ensure_ascii=False, allow_nan=False)
    with writing(folder, "the grades"):
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / FILE) as making:
            making.write_text(text, encoding="utf-8")
    return folder / FILE


class _Seen(NamedTuple):
    """x: (B,c,S,S).  boxes: (image, class, xyxy in the network's pixels).  masks: (image, class, uint8 (S,S)), 1 the
    class, 0 not, 255 unknown.  faults: (where, reason)."""

    x: Tensor
    boxes: list[tuple[int, int, tuple[float, ...]]]
    masks: list[tuple[int, int, np.ndarray]]
    faults: list[tuple[str, str]]


def _seen(done: Finished, inputs: Inputs, most: int) -> _Seen:
    """The images and what people drew in them, of classes that the network knows."""
    wanted = set(np.unique(np.linspace(0, len(inputs) - 1, min(most, len(inputs))).round().astype(int)).tolist())
    side, painters = int(done.meta["side"]), dict[int, Painter]()
    fitted: list[np.ndarray] = []
    out = _Seen(done.tensor([np.zeros((side, side, int(done.meta["channels"])), np.uint8)]), [], [], [])
    for given in inputs.some(wanted):
        if given.pixels is None:
            out.faults.append((given.name, given.fault))
            continue
        if given.data is not None:
            place = {
                k: done.meta["classes"].index(n) for k, n in enumerate(given.data.names) if n in done.meta["classes"]
            }
            height, width = given.pixels.shape[:2]
            scale = np.tile([side / width, side / height], 2)
            out.boxes.extend((len(fitted), c, tuple(scale * box)) for c, box in _boxes(given.data, given.row, place))
            if id(given.data) not in painters:
                painters[id(given.data)] = Painter(given.data)
            out.masks.extend(
                (len(fitted), c, mask) for c, mask in _masks(painters[id(given.data)], given.row, place, side)
            )
        fitted.append(done.fitted(given.pixels))
    if not fitted:
        found = f"none of {len(wanted)} images can be read; the first: {out.faults[0][0]}: {out.faults[0][1]}"
        raise DataError(found, where="explain", fix="Give other image files, or folders of them.")
    return out._replace(x=done.tensor(fitted))


def _boxes(data: Dataset, row: int, place: Mapping[int, int]) -> list[tuple[int, np.ndarray]]:
    """Class of the network and xyxy of each box of a row."""
    given = data.of_kind("boxes")
    some = given.take(np.flatnonzero(given["row"].to_numpy() == row)).to_pylist()
    return [(place[b["class"]], np.array([b[k] for k in BOX], np.float64)) for b in some if b["class"] in place]


def _masks(painter: Painter, row: int, place: Mapping[int, int], side: int) -> list[tuple[int, np.ndarray]]:
    """Class of the network and its mask, of each class that is painted in a row."""
    whole = squeezed(painter.whole(row), side) if painter else np.zeros((0, 0), np.uint8)
    here = [int(v) - 1 for v in np.unique(whole) if 0 < v < UNKNOWN]
    return [(place[k], np.where(whole == UNKNOWN, whole, whole == k + 1).astype(np.uint8)) for k in here if k in place]


def _maps(
    done: Finished, x: Tensor, targets: np.ndarray | None, methods: Sequence[str], layers: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Maps of each method at the images' size, float32 (B,S,S), and the class explained, int64 (B,).

    Values that are not finite become 0.
    """
    import torch

    from modicum.functional.heat import resized
    from modicum.nn.capture import explain as capture

    parts = []
    for start in range(0, len(x), BATCH):
        aims = None if targets is None else torch.from_numpy(targets[start : start + BATCH])
        parts.append(capture(done.net, x[start : start + BATCH], aims, methods or None, layers or None))
    size = (x.shape[2], x.shape[3])
    several = len({layer for _, layer in parts[0].maps}) > 1
    out = {}
    for method, layer in parts[0].maps:
        maps = torch.cat([resized(p.maps[method, layer], size)[:, 0] for p in parts])
        out[f"{method} at {layer}" if several else method] = torch.nan_to_num(maps, 0, 0, 0).numpy()
    return out, torch.cat([p.targets[:, 0] for p in parts]).numpy()


def _others(x: Tensor) -> dict[str, np.ndarray]:
    """Maps that no network made."""
    size = (x.shape[2], x.shape[3])
    return {"random": random_maps(len(x), size), "centre": centre_maps(len(x), size), "edges": edge_maps(x.numpy())}


def _faithful(done: Finished, x: Tensor, maps: np.ndarray, cls: np.ndarray) -> dict[str, Interval]:
    """Grades of maps (B,S,S) of the classes (B,)."""
    predict, images = _predictor(done), x.numpy()
    whole, kept = (_asked(predict, some, cls) for some in (images, faithful.masked(images, maps)))
    each = {
        "insertion": faithful.insertion(predict, images, maps, cls, STEPS, batch=BATCH).area,
        "deletion": faithful.deletion(predict, images, maps, cls, STEPS, batch=BATCH).area,
        "road": faithful.road(predict, images, maps, cls, batch=BATCH).score,
        "average drop": faithful.drop(whole, kept),
        "increase": (kept > whole).astype(np.float64),
    }
    return {name: averaged(values) for name, values in each.items()}


def _predictor(done: Finished) -> faithful.Predict:
    """The network as numbers in, probabilities out, as `predict` gives them."""
    import torch

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return probabilities(done.net(torch.from_numpy(images)).logits, done.meta)

    return predict


def _asked(predict: faithful.Predict, images: np.ndarray, cls: np.ndarray) -> np.ndarray:
    """Each image's probability of its class, (B,)."""
    found = [predict(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    return np.asarray(np.concatenate(found)[np.arange(len(images)), cls])


def _located(
    done: Finished, seen: _Seen, pairs: list[tuple[int, int]], methods: Sequence[str], layers: Sequence[str]
) -> Values:
    """Grades against what people drew: a map for each pair of an image and a class that is drawn in it."""
    few = seen.x[[i for i, _ in pairs]]
    made, _ = _maps(done, few, np.array([c for _, c in pairs]), methods, layers)
    place = {pair: k for k, pair in enumerate(pairs)}
    boxes = np.array([box for *_, box in seen.boxes], np.float64).reshape(-1, 4)
    whose = np.array([place[i, c] for i, c, _ in seen.boxes], np.int64)
    painted = [(place[i, c], mask) for i, c, mask in seen.masks]
    group, out = np.array([i for i, _ in pairs]), Values()
    for name, maps in {**made, **_others(few)}.items():
        boxed, at = np.unique(whose, return_inverse=True)
        out[name] = _in_boxes([maps[k] for k in boxed], boxes, at, group[boxed]) if len(boxed) else {}
        if painted:
            counts = np.stack([localise.pixel_counts(maps[k], mask).ravel() for k, mask in painted])
            out[name]["PxAP"] = averaged(counts, group[[k for k, _ in painted]], _precision)
    return out


def _in_boxes(maps: list[np.ndarray], boxes: np.ndarray, whose: np.ndarray, group: np.ndarray) -> dict[str, Interval]:
    hits = localise.box_overlaps(maps, boxes, whose)[..., None] >= np.array(DELTAS)  # (P,T,3)
    return {
        "pointing": averaged(localise.pointing(maps, boxes, whose, near=0), group),
        "energy": averaged(localise.energy(maps, boxes, whose), group),
        "MaxBoxAccV2": averaged(hits.reshape(len(maps), -1), group, _best),
    }


def _best(shares: np.ndarray) -> np.ndarray:
    """Shares of maps that reach each delta at each threshold (R,T*3) -> MaxBoxAccV2 (R,)."""
    return np.asarray(shares.reshape(len(shares), -1, len(DELTAS)).max(1).mean(1))


def _precision(counts: np.ndarray) -> np.ndarray:
    """Mean counts of pixels (R,2*bins) -> pixel average precision (R,)."""
    return localise.average_precision(counts.reshape(len(counts), 2, -1))
