"""Kinds of mistakes against a plain loop and by hand; curves against average precision."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from modicum.core.errors import DataError
from modicum.evaluate import boxes as ev
from modicum.evaluate.box_faults import KINDS, faults, staircase
from modicum.evaluate.boxes import Found, Truth, evaluate_boxes

from .test_boxes import NAMES, area, both, scenes

A, B, FAR = (0.0, 0, 10, 10), (50.0, 50, 60, 60), (80.0, 0, 90, 10)
BELOW = (0.0, 5, 10, 15)  # a third of A


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    common = both(tuple(a), tuple(b))
    return common / (area(tuple(a)) + area(tuple(b)) - common)


def plain(found: Found, truth: Truth, cls: int) -> tuple[dict[int, str], int]:
    """The kinds of boxes and how many objects are missed, box by box from the rule."""
    looked = truth.looked[:, cls]
    crowd = [k for k in range(len(truth.cls)) if truth.cls[k] < 0 or (truth.cls[k] == cls and truth.state[k] == 0)]
    own = [k for k in range(len(truth.cls)) if truth.cls[k] == cls and truth.state[k] == 1 and looked[truth.image[k]]]
    other = [k for k in range(len(truth.cls)) if truth.cls[k] not in (cls, -1) and truth.state[k] == 1]
    mine = [d for d in range(len(found.cls)) if found.cls[d] == cls and looked[found.image[d]]]
    said, taken = dict[int, str](), set[int]()
    for d in sorted(mine, key=lambda d: -found.score[d]):
        if len(said) == len(own):
            break
        box, i = found.xyxy[d], found.image[d]
        near, far = ({k: overlap(box, truth.xyxy[k]) for k in some if truth.image[k] == i} for some in (own, other))
        free = {k: v for k, v in near.items() if k not in taken and v >= 0.5}
        hidden = [both(tuple(box), tuple(truth.xyxy[k])) / area(tuple(box)) for k in crowd if truth.image[k] == i]
        if free:
            taken.add(max(free, key=lambda k: free[k]))
            said[d] = "found"
        elif max(hidden, default=0) >= 0.5:
            continue
        elif max(near.values(), default=0) >= 0.5:
            said[d] = "doubled"
        elif max(far.values(), default=0) >= 0.5:
            said[d] = "another class"
        elif max(near.values(), default=0) >= 0.1:
            said[d] = "misplaced"
        else:
            said[d] = "another class" if max(far.values(), default=0) >= 0.1 else "ground"
    return said, len(own) - len(taken)


@pytest.mark.parametrize("seed", range(4))
def test_kinds_agree_with_the_plain_loop(seed: int) -> None:
    found, truth = scenes(40, seed)
    luck = np.random.default_rng(seed)
    wrong = luck.random(len(found.cls)) < 0.4
    found = found._replace(cls=np.where(wrong, luck.integers(0, 3, len(found.cls)), found.cls))
    said = faults(found, truth, NAMES, np.arange(40))
    seen = Counter[str]()
    for c, row in enumerate(said["kinds"]):
        each, missed = plain(found, truth, c)
        kinds = Counter(each.values())
        assert dict(zip(KINDS, row["boxes"], strict=True)) == {k: kinds[k] for k in KINDS}
        assert row["missed"] == missed and row["boxes"][0] + missed == row["objects"] and row["class"] == NAMES[c]
        seen += kinds
    assert {*seen} == {*KINDS}, "every kind occurs, so each was compared"
    assert json.loads(json.dumps(said, allow_nan=False)) == said


def test_curves_are_those_of_average_precision() -> None:
    for ties in (False, True):
        found, truth = scenes(ties=ties)
        said, sheet = faults(found, truth, NAMES, np.arange(14)), evaluate_boxes(found, truth, NAMES, resamples=5)
        assert said["precision"][2] is None, "no owl is in any image"
        for line, row in zip(said["precision"][:2], sheet["per_class"], strict=False):
            assert len(line) == 101 and np.mean(line) == pytest.approx(row["ap50"][0]) and min(np.diff(line)) <= 0
        assert said["recall"][0] == pytest.approx(sheet["arms"]["main"]["recall"][0])
        assert np.all(np.diff(said["recall"]) <= 0) and said["recall"][-1] < said["recall"][0]


def one(boxes: list[tuple[float, ...]], true: list[tuple[tuple[float, ...], int]]) -> tuple[Found, Truth]:
    """One image of 100 x 100; boxes of class 0 by falling score, true ones with their classes."""
    m, g = len(boxes), len(true)
    found = Found(np.array(boxes).reshape(-1, 4), np.zeros(m, int), np.linspace(1, 0.5, m), np.zeros(m, int))
    xyxy, cls = np.array([b for b, _ in true]).reshape(-1, 4), np.array([c for _, c in true])
    here = np.zeros(g, int), np.ones((1, 2), bool), np.array([[100, 100]])
    return found, Truth(xyxy, cls, np.ones(g, int), *here)


def test_each_kind_by_hand() -> None:
    two = [(A, 0), (A, 0), (B, 1)]
    cases = {"found": A, "another class": B, "misplaced": BELOW, "ground": FAR}
    for kind, box in cases.items():
        said = faults(*one([box], two), ["cat", "dog"], np.array([7]))
        assert said["kinds"][0]["boxes"] == [int(k == kind) for k in KINDS], kind
    said = faults(*one([A, A], [(A, 0), (FAR, 0)]), ["cat", "dog"], np.array([7]))
    assert said["kinds"][0] == {"class": "cat", "boxes": [1, 1, 0, 0, 0], "missed": 1, "objects": 2}
    assert said["worst"] == [
        {"row": 7, "true": [[*A, 0, 1], [*FAR, 0, 0]], "said": [[*A, 0, 1], [*A, 0, 0]]}
    ], "the second box takes no object, and the far one is missed"
    said = faults(*one([A] * 3, two), ["cat", "dog"], np.array([7]))
    assert said["kinds"][0]["boxes"] == [2, 0, 0, 0, 0], "two objects, so two boxes are told"


def test_the_worst_images_come_first_and_only_those_that_miss_something() -> None:
    found, truth = scenes(30, 1)
    said = faults(found, truth, NAMES, 100 + np.arange(30))
    lost = [sum(not b[5] for b in one["true"]) for one in said["worst"]]
    assert lost == sorted(lost, reverse=True) and lost[-1] > 0 and all(100 <= one["row"] < 130 for one in said["worst"])
    perfect = Found(truth.xyxy, truth.cls, np.ones(len(truth.cls)), truth.image)
    keep = truth.cls >= 0
    perfect = Found(*(column[keep] for column in perfect))
    assert faults(perfect, truth, NAMES, np.arange(30))["worst"] == []


def test_the_surest_wrong_boxes_one_an_image() -> None:
    found, truth = scenes(40, 2)
    said = faults(found, truth, NAMES, 100 + np.arange(40))["surest"]
    wrong = [(d, kind) for c in range(3) for d, kind in plain(found, truth, c)[0].items() if kind != "found"]
    best: dict[int, tuple[int, str]] = {}
    for d, kind in sorted(wrong, key=lambda one: found.score[one[0]]):
        best[found.image[d]] = d, kind
    first = sorted(best.values(), key=lambda one: -found.score[one[0]])[:12]
    assert len(said) == len(first) == 12 and len({kind for _, kind in first}) > 2
    for one, (d, kind) in zip(said, first, strict=True):
        i = found.image[d]
        assert (one["row"], KINDS[one["kind"]]) == (100 + i, kind)
        assert one["score"] == pytest.approx(found.score[d], abs=1e-4)
        assert one["box"] == pytest.approx([*found.xyxy[d], found.cls[d]], abs=0.05)
        assert len(one["true"]) == ((truth.image == i) & (truth.state == 1) & (truth.cls >= 0)).sum()


def test_a_surest_mistake_by_hand() -> None:
    said = faults(*one([A, FAR, BELOW], [(A, 0), (B, 1), (B, 0)]), ["cat", "dog"], np.array([7]))
    wanted = [{"row": 7, "box": [*FAR, 0], "score": 0.75, "kind": KINDS.index("ground"),
               "true": [[*A, 0], [*B, 1], [*B, 0]]}]  # fmt: skip
    assert said["surest"] == wanted, "the third is not among the two surest"
    assert faults(*one([A], [(A, 0)]), ["cat", "dog"], np.array([7]))["surest"] == []


def test_the_ceiling_is_the_reach_of_proposals() -> None:
    found, truth = one([A], [(A, 0), (FAR, 1)])
    proposals = np.array([[A, (80.0, 0, 90, 6), (np.nan,) * 4]])
    ceiling = faults(found, truth, ["cat", "dog"], np.array([0]), proposals)["ceiling"]
    assert ceiling["images"] == 1 and ceiling["boxes"] == 2
    assert ceiling["half"][0] == 1 and ceiling["high"][0] == 0.5
    assert faults(found, truth, ["cat", "dog"], np.array([0]))["ceiling"] is None
    assert faults(found, truth, ["cat", "dog"], np.array([0]), np.empty((1, 0, 4)))["ceiling"]["half"][0] == 0


def test_nothing_is_said_without_objects_and_nothing_found_is_all_missed() -> None:
    found, truth = scenes()
    assert faults(found, truth._replace(state=np.zeros_like(truth.state)), NAMES, np.arange(14)) == {}
    none = Found(np.empty((0, 4)), np.empty(0, int), np.empty(0), np.empty(0, int))
    said = faults(none, truth, NAMES, np.arange(14))
    assert said["recall"] == [0] * 10 and said["precision"][0] == [0] * 101
    assert all(row["missed"] == row["objects"] for row in said["kinds"])
    with pytest.raises(DataError, match="not finite"):
        faults(found._replace(score=found.score * np.nan), truth, NAMES, np.arange(14))


def test_the_staircase_of_a_box_that_comes_late() -> None:
    found, truth = one([FAR, A], [(A, 0), (B, 0)])
    line = staircase(ev.matched(found, truth, 0))
    assert line.tolist() == [0.5] * 51 + [0.0] * 50
