"""What a network may be made to tell of an image, and how each is measured on images that training never saw.

A task is a kind of label (`config["want"]`): what its logits mean, how its confidence is calibrated, what
evaluation.json says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.kinds import UNKNOWN
from modicum.core.net import Net
from modicum.data.masks import Painter, looked
from modicum.data.vault import Vault
from modicum.deploy.suppress import Located
from modicum.engine.arms import Bench
from modicum.engine.dense import boxes_of, masks_of
from modicum.engine.folds import Unseen
from modicum.engine.loop import logits_of
from modicum.evaluate import baselines, calibration
from modicum.evaluate.box_faults import faults
from modicum.evaluate.boxes import Found, Truth, evaluate_boxes
from modicum.evaluate.calibration import Temperature, softmax
from modicum.evaluate.evaluate import evaluate
from modicum.evaluate.masks import evaluate_masks
from modicum.evaluate.tags import evaluate_tags

SIMPLE = 5000  # labelled images at most that the nearest mean is taken of
CEILING = 100  # images at most of which the reach of proposals is measured
FROM = "the test split; training never saw these labels"


class Said(NamedTuple):
    """What the net says of all images that can be read.  rows: int64 (R,).  sure: confidence, float32 (R,).

    held: rows outside training, int64 (H,), and their logits, float32 (H,C): the others' are on disk alone.
    """

    rows: np.ndarray
    sure: np.ndarray
    held: np.ndarray
    logits: np.ndarray

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Logits (N,C) of rows among `held`."""
        return self.logits[np.searchsorted(self.held, rows)]


@dataclass(frozen=True)
class Task:
    """kind: of label.  probs: logits (N,C) -> probabilities.  calibrate(bench, vault, said, arm, unseen) -> the arm's
    temperature or why it has none.  measure(bench, vault, nets, main, method, said, temperature) -> evaluation.json
    without the vault's openings."""

    kind: str
    probs: Callable[[np.ndarray], np.ndarray]
    calibrate: Callable[[Bench, Vault, Said, str, Unseen | None], Temperature]
    measure: Callable[[Bench, Vault, Mapping[str, Net], str, str, Said, Temperature], dict[str, Any]]


# -- one class -------------------------------------------------------------------------------------------------------


def _temperature(bench: Bench, vault: Vault, said: Said, main: str, unseen: Unseen | None) -> Temperature:
    """From out-of-fold answers of nets that took all steps, else from labels held out of training."""
    if unseen is not None and unseen.whole and main in unseen.logits:
        return calibration.temperature(unseen.logits[main], unseen.cls)
    rows = said.held[bench.data.of_split("val")[said.held]]
    truth = vault.open("temperature from held-out labels")[rows] if len(rows) else np.empty(0, np.int64)
    return calibration.temperature(said.of(rows), truth)


def _classes(
    bench: Bench, vault: Vault, nets: Mapping[str, Net], main: str, method: str, said: Said, held: Temperature
) -> dict[str, Any]:
    data, test = bench.data, _test(bench, said)
    truth = vault.open("evaluation on the test split")[test] if len(test) else np.empty(0, np.int64)
    test, truth = test[truth >= 0], truth[truth >= 0]
    feed = bench.feed({})
    arms = {
        name: softmax(logits_of(net, feed, test, bench.fabric))
        for name, net in nets.items()
        if name != main and len(test)
    }
    arms = {main: softmax(said.of(test)), **arms}
    seen, group = np.flatnonzero(bench.pool & (data.cls >= 0) & bench.pixels.good), data.columns["together"]
    simple = _baselines(bench, seen, test) if len(test) and len(seen) else {}
    return evaluate(
        arms if len(test) else {main: np.empty((0, len(data.names)))}, truth, data.names, main=main, calibrated=held,
        baselines=simple, rows=test, labels_from=FROM,
        twins=None if main == method else [method],
        copied=np.isin(group[test], group[bench.pool & (group >= 0)]),
    )  # fmt: skip


def _test(bench: Bench, said: Said) -> np.ndarray:
    """Rows of the test split that can be read."""
    return said.held[bench.data.of_split("test")[said.held]]


def _baselines(bench: Bench, seen: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    classes, cls = len(bench.data.names), bench.data.cls
    few = seen[:: max(1, -(-len(seen) // SIMPLE))]

    def features(some: np.ndarray) -> np.ndarray:
        parts = (p["plain"].permute(0, 2, 3, 1).cpu().numpy() for p in bench.feed({}).sweep(some, 64))
        return np.concatenate([baselines.reduced((255 * part).astype(np.uint8)) for part in parts])

    return {
        "majority": baselines.majority(cls[seen], classes, len(test)),
        "nearest-centroid": baselines.nearest_centroid(features(few), cls[few], features(test), classes),
    }


# -- tags ------------------------------------------------------------------------------------------------------------


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Each class is a yes or no of its own, float64."""
    return 1 / (1 + np.exp(-np.clip(np.asarray(logits, np.float64), -60, 60)))


def _uncalibrated(bench: Bench, vault: Vault, said: Said, main: str, unseen: Unseen | None) -> Temperature:
    return calibration.temperature(np.empty((0, len(bench.data.names))), np.empty(0, np.int64))


def _tags(
    bench: Bench, vault: Vault, nets: Mapping[str, Net], main: str, method: str, said: Said, held: Temperature
) -> dict[str, Any]:
    data, test = bench.data, _test(bench, said)
    whole = vault.reveal(data, "evaluation of tags on the test split") if len(test) else data
    truth = np.full((len(test), len(data.names)), -1, np.int8) if whole.tags is None else whole.tags[test]
    seen = data.tags if data.tags is not None else np.full((len(data), len(data.names)), -1, np.int8)
    mine = seen[bench.pool]
    common = (mine == 1).sum(0) / np.maximum((mine >= 0).sum(0), 1)
    arms = {main: sigmoid(said.of(test)), "as-common": np.repeat(common[None], len(test), 0)}
    return evaluate_tags(arms, truth, data.names, main=main, labels_from=FROM)


# -- masks -----------------------------------------------------------------------------------------------------------


def _masks(
    bench: Bench, vault: Vault, nets: Mapping[str, Net], main: str, method: str, said: Said, held: Temperature
) -> dict[str, Any]:
    data, test = bench.data, _test(bench, said)
    painter = Painter(vault.reveal(data, "evaluation of masks on the test split") if len(test) else data)
    known = [int(r) for r in test if (painter.whole(int(r)) < UNKNOWN).any()]
    found, left = predicted(bench, nets[main], known), len(test) - len(known)
    return evaluate_masks(
        found, map(painter.whole, known), data.names, main=main, unlabelled=left, labels_from=FROM
    )  # fmt: skip


def predicted(bench: Bench, net: Net, rows: Sequence[int]) -> Iterator[np.ndarray]:
    """The class map of each row, uint8 (H,W) of the stored image: 0 background, c + 1 class c."""
    return masks_of(net, map(bench.pixels.image, rows), _sizes(bench, rows), shorter=bench.pixels.side)


def _sizes(bench: Bench, rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Height and width of the stored images."""
    height, width = (bench.data.field(f) for f in ("height", "width"))
    return ((int(height[r]), int(width[r])) for r in rows)


# -- boxes -----------------------------------------------------------------------------------------------------------


def _boxes(
    bench: Bench, vault: Vault, nets: Mapping[str, Net], main: str, method: str, said: Said, held: Temperature
) -> dict[str, Any]:
    data, test = bench.data, _test(bench, said)
    whole = vault.reveal(data, "evaluation of boxes on the test split") if len(test) else data
    found = together([*located(bench, nets[main], test.tolist())])
    truth = drawn_boxes(whole, test)
    measured = evaluate_boxes(found, truth, data.names, main=main, labels_from=FROM)
    return {**measured, "boxes": faults(found, truth, data.names, test, _proposals(bench, nets[main], test))}


def _proposals(bench: Bench, net: Net, rows: np.ndarray) -> np.ndarray | None:
    """What a network that stands on proposals (it has `proposed`) may choose from in the first images, float32
    (n,R,4), pixels of the stored image, padded with NaN; None for any other."""
    proposed = getattr(net, "proposed", None)
    if proposed is None or not len(rows):
        return None
    some = rows[:CEILING]
    sides = np.array([*_sizes(bench, some.tolist())], np.float32)[:, None, [1, 0, 1, 0]]
    boxes = np.concatenate([proposed(p["plain"]).cpu().numpy() for p in bench.feed({}).sweep(some, 16)])
    return np.asarray(boxes * sides / bench.side)


def located(bench: Bench, net: Net, rows: Sequence[int]) -> Iterator[Located]:
    """The boxes found in each row's image, in pixels of the stored image."""
    return boxes_of(net, map(bench.pixels.image, rows), _sizes(bench, rows), shorter=bench.pixels.side)


def together(parts: Sequence[Located]) -> Found:
    """Boxes of images, one after the other."""
    image = np.repeat(np.arange(len(parts)), [len(p.cls) for p in parts])
    if not parts:
        return Found(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0), image)
    xyxy, cls, score = (np.concatenate(column) for column in zip(*parts))
    return Found(xyxy, cls, score, image)


def packed(parts: Sequence[Located]) -> np.ndarray:
    """Boxes of R images as a column, float32 (R,K,6): corners, class, score; NaN where an image has fewer."""
    out = np.full((len(parts), max((len(p.cls) for p in parts), default=0), 6), np.nan, np.float32)
    for row, p in zip(out, parts, strict=True):
        row[: len(p.cls)] = np.column_stack([p.xyxy, p.cls, p.score])
    return out


def drawn_boxes(data: Dataset, rows: np.ndarray) -> Truth:
    """What people drew in these rows, numbered by their place in `rows`."""
    place = np.full(len(data), -1)
    place[rows] = np.arange(len(rows))
    said = data.of_kind("boxes")
    image = place[said["row"].to_numpy()]
    mine = image >= 0
    xyxy = np.stack([said[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1).astype(np.float64)
    cls, state = said["class"].fill_null(-1).to_numpy(), said["value"].fill_null(1).to_numpy() > 0.5
    size = np.stack([data.field(f)[rows].astype(np.int64) for f in ("height", "width")], 1)
    seen = looked(data, "boxes")[rows]
    return Truth(xyxy[mine], cls[mine].astype(np.int64), state[mine].astype(np.int64), image[mine], seen, size)


TASKS = {
    "class": Task("class", softmax, _temperature, _classes),
    "tags": Task("tags", sigmoid, _uncalibrated, _tags),
    "masks": Task("masks", sigmoid, _uncalibrated, _masks),
    "boxes": Task("boxes", sigmoid, _uncalibrated, _boxes),
}
