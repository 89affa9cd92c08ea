"""Average precision against COCO's own program, where it is installed (`pip install faster-coco-eval`)."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from modicum.evaluate import boxes as ev
from modicum.evaluate.boxes import Found, Truth

from .test_boxes import scenes

COCO = pytest.importorskip("faster_coco_eval")


def theirs(found: Found, truth: Truth, classes: int) -> np.ndarray:
    """AP of each class and threshold, (C,10); -1 where there is no object.

    What is ignored for every class is a crowd in each; classes that nobody looked for in an image are left out of it.
    Recalls are asked for a hair lower: 7 of 20 is less than 0.35 in its arithmetic, and costs it a point of 101.
    """
    marks: list[dict[str, Any]] = []
    for box, cls, state, i in zip(truth.xyxy.tolist(), truth.cls, truth.state, truth.image, strict=True):
        for c in range(classes) if cls < 0 else [int(cls)]:
            if truth.looked[i, c]:
                size = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
                about = {"id": len(marks) + 1, "image_id": int(i), "category_id": c, "bbox": size}
                marks.append({**about, "area": size[2] * size[3], "iscrowd": int(cls < 0 or state == 0)})
    said = [
        {"image_id": int(i), "category_id": int(c), "score": float(s), "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
        for b, c, s, i in zip(found.xyxy.tolist(), found.cls, found.score, found.image, strict=True)
        if truth.looked[i, c]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        real = COCO.COCO()
        real.dataset = {
            "info": {}, "annotations": marks, "categories": [{"id": c, "name": str(c)} for c in range(classes)],
            "images": [{"id": i, "height": 90, "width": 90} for i in range(len(truth.looked))],
        }  # fmt: skip
        real.createIndex()
        graded = COCO.COCOeval_faster(real, real.loadRes(said), "bbox")
        graded.params.areaRng, graded.params.areaRngLbl = [[0, 1e10]], ["all"]
        graded.params.recThrs = graded.params.recThrs - 1e-9
        graded.evaluate()
        graded.accumulate()
    return np.asarray(graded.eval["precision"])[:, :, :, 0, -1].mean(1).T


def crowded(found: Found, seed: int) -> Found:
    """With 150 boxes more, most of which do not count: of an image and class 100 do."""
    luck = np.random.default_rng(seed)
    corner, many = luck.uniform(0, 60, (150, 2)), np.zeros(150, int)
    boxes = np.c_[corner, corner + luck.uniform(4, 30, (150, 2))]
    parts = (boxes, many, luck.random(150), many)
    return Found(*(np.concatenate(p) for p in zip(found, parts, strict=True)))


@pytest.mark.parametrize("many", [False, True])
def test_average_precision_is_cocos(many: bool) -> None:
    some = 0
    for seed in range(30):
        found, truth = scenes(8, seed)
        found = crowded(found, seed) if many else found
        want = theirs(found, truth, 3)
        for c in range(3):
            m = ev.matched(found, truth, c)
            ours = [
                ev.average_precision(m.score, m.image, m.right[t], m.wrong[t], m.objects, np.ones((1, 8)))[0]
                for t in range(len(ev.THRESHOLDS))
            ]
            assert np.nan_to_num(ours, nan=-1) == pytest.approx(want[c], abs=1e-9)
            some += bool(0 < ours[0] < 1)
    assert some > 50
