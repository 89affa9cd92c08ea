"""The sets of the benchmark of adjusters: who knows what, and that a moved box is measured where it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import adjusters
from modicum.core.batch import Boxes
from modicum.core.net import Out
from modicum.engine.tasks import drawn_boxes


@pytest.fixture(scope="module")
def sets() -> adjusters.Split:
    return adjusters.split("scenes", 0)


def test_images_and_classes_are_apart(sets: adjusters.Split) -> None:
    from modicum.data.samples import sample

    data = sample("scenes-texture")
    said = data.of_kind("boxes")
    row, cls = said["row"].to_numpy(), said["class"].to_numpy()
    other, weak = np.flatnonzero(sets.other.pool), np.flatnonzero(sets.weak.pool)
    assert not set(other) & set(weak) and set(other) | set(weak) == set(data.rows("split:train"))
    assert cls[np.isin(row, other)].max() == 4 and set(sets.train) == set(row[(cls > 4) & np.isin(row, weak)])
    known = sets.other.data.of_kind("boxes")
    assert sorted(known["row"].to_numpy()) == sorted(row[np.isin(row, other)]) and sets.other.data.names[-1] == "4"
    kinds = set(sets.weak.data.annotations["kind"].to_pylist())
    assert kinds == {"tags"} and not sets.weak.data.looked.num_rows and sets.weak.data.names[0] == "5"
    for r in weak[:50].tolist():
        assert sets.weak.data.tags[r].tolist() == [int(c in cls[row == r]) for c in range(5, 10)]
    assert (sets.weak.data.tags[other] == -1).all() and (sets.weak.data.tags[sets.test] == -1).all()


class Oracle(torch.nn.Module):
    """Says the true boxes of all rows, an image after the other, eight pixels to the left."""

    def __init__(self, sets: adjusters.Split, rows: np.ndarray) -> None:
        super().__init__()
        self.truth, self.at = drawn_boxes(sets.whole, rows), 0
        self.images = len(rows)

    def forward(self, x: torch.Tensor) -> Out:
        mine = np.flatnonzero((self.truth.image >= self.at) & (self.truth.image < self.at + len(x)))
        mine = mine[np.argsort(self.truth.image[mine], kind="stable")]
        xyxy = torch.from_numpy(self.truth.xyxy[mine] - [8, 0, 8, 0])
        cls, image = (torch.from_numpy(values[mine]) for values in (self.truth.cls, self.truth.image))
        boxes = Boxes(xyxy, cls, torch.ones_like(cls, dtype=torch.int8), image - self.at, torch.ones(len(cls)))
        self.at = (self.at + len(x)) % self.images
        return Out(x.new_zeros(len(x), 5), x.new_zeros(len(x), 1), boxes=boxes)


def test_moved_boxes_are_measured_where_they_are(sets: adjusters.Split) -> None:
    some = sets._replace(train=sets.train[:80], test=sets.train[:80])
    oracle = Oracle(some, some.train)
    back = adjusters.measured(some, oracle, lambda x, xyxy, image: xyxy + torch.tensor([8.0, 0, 8, 0]))
    assert back == {"corloc50": 1, "corloc70": 1, "iou": pytest.approx(1), "ap50": 1}
    away, truth = adjusters.measured(some, oracle), oracle.truth
    width = truth.xyxy[:, 2] - truth.xyxy[:, 0]
    overlap = (width - 8).clip(0) / (width + 8)
    alone = [
        np.mean([overlap[(truth.image == i) & (truth.cls == c)][0] for i in np.unique(truth.image[truth.cls == c])])
        for c in range(5)
    ]  # of one box of a class in an image, which may lie nearer to another of its class
    assert away["iou"] == pytest.approx(np.mean(alone), abs=0.03) and away["corloc50"] < 1
