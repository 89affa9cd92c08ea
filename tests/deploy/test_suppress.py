"""Which boxes stay, against torch's and torchvision's answers."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from modicum.deploy import suppress
from modicum.nn import detect


def said(seed: int, positions: int, classes: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes that overlap much, some out of the view, and scores with ties: float32 (P,4), (P,C)."""
    luck = np.random.default_rng(seed)
    middle, half = luck.uniform(0, side, (positions, 2)), luck.uniform(0.5, side / 3, (positions, 2))
    score = luck.uniform(0, 1, (positions, classes)) ** 3
    score[: positions // 4] = score[: positions // 4].round(1)
    return np.concatenate([middle - half, middle + half], 1).astype(np.float32), score.astype(np.float32)


@pytest.mark.parametrize(("positions", "classes", "side"), [(1, 1, 8), (40, 3, 32), (500, 2, 64), (2000, 5, 200)])
def test_the_same_boxes_stay_as_in_torch(positions: int, classes: int, side: int) -> None:
    for seed in range(3):
        xyxy, score = said(seed, positions, classes, side)
        score += np.random.default_rng(9).permutation(score.size).reshape(score.shape) * 1e-6  # no two are equal
        ours = suppress.found(xyxy, score, (side, side + 3))
        dense = Told(torch.from_numpy(xyxy)[None], torch.from_numpy(score)[None])
        theirs = detect.found(dense, (side, side + 3))  # type: ignore[arg-type]
        assert np.array_equal(ours.xyxy, theirs.xyxy.numpy()) and np.array_equal(ours.cls, theirs.cls.numpy())
        assert theirs.score is not None and np.array_equal(ours.score, theirs.score.numpy())


class Told:
    """What `nn.detect.found` reads of a Dense."""

    def __init__(self, xyxy: torch.Tensor, score: torch.Tensor) -> None:
        self.xyxy, self.score = xyxy, score


def test_both_ask_for_the_same() -> None:
    ours, theirs = (inspect.signature(f).parameters for f in (suppress.found, detect.found))
    assert {k: v.default for k, v in ours.items() if v.kind is v.KEYWORD_ONLY} == {
        k: v.default for k, v in theirs.items() if v.kind is v.KEYWORD_ONLY
    }


@pytest.mark.parametrize("tau", [0.2, 0.5, 0.8])
def test_greedy_suppression_is_torchvisions(tau: float) -> None:
    for seed in range(5):
        xyxy, score = said(seed, 300, 1, 50)
        cls = np.random.default_rng(seed).integers(0, 4, 300)
        order = np.argsort(-score[:, 0], kind="stable")
        ours = suppress.kept(xyxy[order], cls[order], tau, 1000)
        boxes = torch.from_numpy(xyxy[order]).double()
        theirs = batched_nms(boxes, torch.arange(300, 0, -1).double(), torch.from_numpy(cls[order]), tau)
        assert np.array_equal(ours, theirs.numpy())
        assert np.array_equal(suppress.kept(xyxy[order], cls[order], tau, 7), ours[:7])


def test_by_hand() -> None:
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 90, 90], [0, 0, 10, 10], [40, 40, 40, 50], [70, 0, 80, 9]]
    score = np.array([[0.9, 0], [0.8, 0], [0.7, 0], [0, 0.6], [0.9, 0], [0.9, 0]], np.float32)
    out = suppress.found(np.array(boxes, np.float32), score, (30, 60))
    assert out.xyxy.tolist() == [[0, 0, 10, 10], [20, 20, 60, 30], [0, 0, 10, 10]]  # cut; one covers; two have no area
    assert out.cls.tolist() == [0, 0, 1] and out.score.tolist() == pytest.approx([0.9, 0.7, 0.6])
    none = suppress.found(np.zeros((3, 4), np.float32), np.full((3, 2), 0.05, np.float32), (30, 60))
    assert none.xyxy.shape == (0, 4) and none.cls.shape == none.score.shape == (0,)
