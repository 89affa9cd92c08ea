"""Counts of what is drawn, against plain counting."""

from __future__ import annotations

import numpy as np

from modicum.core.dataset import Dataset
from modicum.data.objects import IGNORED, Objects
from modicum.data.tally import lines_of, tally

FRAMES = ((0, 0, 4, 2), (1, 1, 3, 9), (2, 2, 2, 6), (0, 0, 30, 5), (5, 5, 11, 7))


def drawn() -> Dataset:
    said = Objects()
    for at, (row, cls, value) in enumerate(((0, 1, None), (0, 0, None), (1, 1, IGNORED), (1, 1, None), (3, 1, None))):
        said.add("boxes", row, cls, FRAMES[at], None, value)
    for row, complete in ((0, True), (1, False), (2, True)):
        said.look("boxes", row, complete)
    said.add("points", 0, 1, (1, 1, 1, 1))
    said.look("masks", 2)
    size = {"height": np.full(5, 10, np.int32), "width": np.full(5, 20, np.int32)}
    return Dataset.build([f"{i}.png" for i in range(5)], ["cat", "dog"], **size) + said.delta(["cat", "dog"])


def test_boxes_points_and_masks_are_counted() -> None:
    found = tally(drawn())
    assert list(found) == ["points", "boxes", "masks"]
    boxes = found["boxes"]
    assert boxes["objects"] == 4 and boxes["ignored"] == 1 and boxes["images"] == 3
    assert (boxes["looked"], boxes["part"], boxes["empty"]) == (2, 1, 1)
    assert boxes["classes"] == {"cat": 1, "dog": 3}
    assert boxes["wrong"] == 2  # one without width, one that is wider than its image
    width, height = [b[2] - b[0] for b in FRAMES], [b[3] - b[1] for b in FRAMES]
    assert boxes["sizes"]["width_median"] == np.median(width) and boxes["sizes"]["height_max"] == max(height)
    assert found["points"]["sizes"] == {} and found["points"]["wrong"] == 0
    assert found["masks"]["objects"] == 0 and found["masks"]["empty"] == 1 and found["masks"]["sizes"] == {}
    assert tally(Dataset.build(["a"], ["x"], cls=np.array([0]))) == {}


def test_what_is_said_of_it() -> None:
    assert lines_of(tally(drawn())) == [
        "Points: 1 in 1 images: dog 1", "Boxes: 4 in 3 images: cat 1, dog 3; 4 x 4 px, from 0 x 2 to 30 x 8",
        "  2 images looked through, 1 of them without any, 1 only in part, 1 to be ignored, "
        "2 without area or beyond their image",
        "Masks: 0 in 0 images", "  1 images looked through, 1 of them without any",
    ]  # fmt: skip
