"""Scores of proposals, seeds and what they say, against plain loops; images, ties and unknown tags among them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss

from modicum.core.loss import value
from modicum.functional import seeds as sd
from modicum.functional.boxes import encode, iou

CLASSES = 3
IMAGE = torch.tensor([0] * 9 + [1] + [2] * 6 + [3] * 12)  # an image of one proposal among them
TAGS = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, -1, 0]], dtype=torch.int8)  # and one without tags


def world(seed: int, ties: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores (M,C), boxes (M,4), offsets (M,C,4)."""
    luck = torch.Generator().manual_seed(seed)
    scores = torch.rand(len(IMAGE), CLASSES, generator=luck)
    scores = (scores * 3).round() / 3 if ties else scores
    corner = torch.rand(len(IMAGE), 2, generator=luck) * 10
    xyxy = torch.cat([corner, corner + 3 + 8 * torch.rand(len(IMAGE), 2, generator=luck)], 1)
    return scores, xyxy, torch.randn(len(IMAGE), CLASSES, 4, generator=luck)


def test_scores_and_tags_against_a_loop() -> None:
    luck = torch.Generator().manual_seed(1)
    what, where = (2 * torch.randn(len(IMAGE), CLASSES, generator=luck) for _ in range(2))
    found = sd.scored(what, where, IMAGE, 4)
    total, known = 0.0, 0
    for b in range(4):
        mine = (b == IMAGE).nonzero()[:, 0].tolist()
        whole = [0.0] * CLASSES
        for r in mine:
            for c in range(CLASSES):
                first = math.exp(what[r, c]) / sum(math.exp(v) for v in what[r].tolist())
                second = math.exp(where[r, c]) / sum(math.exp(where[k, c]) for k in mine)
                assert found[r, c].item() == pytest.approx(first * second, rel=1e-4)
                whole[c] += first * second
        for c, tag in enumerate(TAGS[b].tolist()):
            if tag >= 0:
                total -= math.log(whole[c] if tag else 1 - whole[c])
                known += 1
    term = sd.tagged(found, IMAGE, TAGS)
    assert value({"tags": term}).item() == pytest.approx(CLASSES * total / known, rel=1e-4)


def test_unknown_tags_have_no_slope() -> None:
    what = torch.randn(len(IMAGE), CLASSES, requires_grad=True)
    nothing = torch.full((4, CLASSES), -1, dtype=torch.int8)
    term = sd.tagged(sd.scored(what, what, IMAGE, 4), IMAGE, nothing)
    term.total.backward()
    assert term.total == 0 == term.count and what.grad is not None and not what.grad.any()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_each_class(seed: int, ties: bool) -> None:
    scores, _, _ = world(seed, ties)
    found = sd.top(scores, IMAGE, TAGS)
    expected = []
    for b, c in (TAGS == 1).nonzero().tolist():
        mine = [r for r in range(len(IMAGE)) if IMAGE[r] == b]
        expected.append((max(mine, key=lambda r: (scores[r, c].item(), -r)), c))
    assert [*zip(found.proposal.tolist(), found.cls.tolist())] == expected
    assert torch.equal(found.score, scores[found.proposal, found.cls])


@pytest.mark.parametrize(("share", "tau"), [(0.15, 0.2), (0.6, 0.3), (1.0, 0.0), (0.0, 0.2)])
@pytest.mark.parametrize("seed", range(4))
def test_several_of_each_class(seed: int, share: float, tau: float) -> None:
    scores, xyxy, _ = world(seed)
    found = sd.several(scores, xyxy, IMAGE, TAGS, share, tau)
    expected = []
    for b, c in (TAGS == 1).nonzero().tolist():
        mine = sorted((r for r in range(len(IMAGE)) if IMAGE[r] == b), key=lambda r: -scores[r, c].item())
        taken: list[int] = []
        for r in mine[: max(1, math.ceil(share * len(mine)))]:
            if all(iou(xyxy[r], xyxy[t]) <= tau for t in taken):
                taken.append(r)
        expected += [(t, c) for t in taken]
    assert sorted(zip(found.proposal.tolist(), found.cls.tolist())) == sorted(expected)
    place = [(IMAGE[p].item(), c) for p, c in zip(found.proposal.tolist(), found.cls.tolist())]
    assert place == sorted(place)


@pytest.mark.parametrize("least", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_what_seeds_say_and_the_losses(seed: int, least: float) -> None:
    scores, xyxy, offsets = world(seed)
    logits = torch.randn(len(IMAGE), CLASSES + 1)
    given = sd.several(scores, xyxy, IMAGE, TAGS, 0.5, 0.2)
    told = sd.named(given, xyxy, IMAGE, TAGS, 0.5, least)
    loss = shift = 0.0
    for r in range(len(IMAGE)):
        best, who = -1.0, -1
        for s, p in enumerate(given.proposal.tolist()):
            if IMAGE[p] == IMAGE[r] and (over := iou(xyxy[p], xyxy[r]).item()) > best:
                best, who = over, s
        if who < 0:
            assert told.weight[r] == 0
            continue
        target = int(given.cls[who]) if best >= 0.5 else CLASSES
        unsure = target == CLASSES and bool((TAGS[IMAGE[r]] < 0).any())
        weight = 0.0 if best < least or unsure else given.score[who].item()
        assert (int(told.target[r]), told.weight[r].item()) == (target, pytest.approx(weight))
        loss += weight * cross_entropy(logits[r], torch.tensor(target)).item()
        if target < CLASSES:
            goal = encode(xyxy[given.proposal[who]], xyxy[r])
            shift += weight * smooth_l1_loss(offsets[r, target], goal, reduction="sum").item()
    assert value({"": sd.refined(logits, told)}).item() == pytest.approx(loss / len(IMAGE), rel=1e-4)
    assert value({"": sd.moved(offsets, told, xyxy, given)}).item() == pytest.approx(shift / len(IMAGE), rel=1e-4)


def test_without_a_present_class_nothing_is_said() -> None:
    scores, xyxy, offsets = world(0)
    absent = torch.zeros_like(TAGS)
    for given in (sd.top(scores, IMAGE, absent), sd.several(scores, xyxy, IMAGE, absent, 0.15, 0.2)):
        told = sd.named(given, xyxy, IMAGE, absent)
        assert not len(given.cls) and not told.weight.any()
        assert sd.refined(torch.randn(len(IMAGE), CLASSES + 1), told).total == 0
        assert sd.moved(offsets, told, xyxy, given).total == 0


@pytest.mark.parametrize(("most", "tau"), [(5, 0.1), (50, 0.1), (3, 0.5), (1, 0.0)])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_that_are_apart(seed: int, most: int, tau: float) -> None:
    """By hand as the rule is told: the best of a class, then each next one that is apart from all that stay."""
    scores, xyxy, _ = world(seed)
    found = sd.best(scores, xyxy, IMAGE, TAGS, most, tau)
    expected = []
    for b, c in (TAGS == 1).nonzero().tolist():
        left = sorted((r for r in range(len(IMAGE)) if IMAGE[r] == b), key=lambda r: -scores[r, c].item())[:most]
        while left:
            first = left.pop(0)
            expected.append((first, c, scores[first, c].item()))
            left = [r for r in left if iou(xyxy[r], xyxy[first]) <= tau]
    given = [*zip(found.proposal.tolist(), found.cls.tolist(), found.score.tolist())]
    assert sorted(given) == sorted(expected)
    assert most > 1 or len(given) == int((TAGS == 1).sum())


def test_absent_classes_take_no_share() -> None:
    scores, _, _ = world(0)
    logits = torch.cat([scores, scores[:, :1]], 1).log()
    shares, first = (sd.unmasked(z, IMAGE, TAGS).softmax(1) for z in (logits, logits[:, :CLASSES]))
    for r, b in enumerate(IMAGE.tolist()):
        some = [c for c in range(CLASSES) if TAGS[b, c] != 0]  # an unknown one keeps its share
        whole = sum(scores[r, c].item() for c in some)
        for c in range(CLASSES):
            share = scores[r, c].item() if c in some else 0
            assert shares[r, c].item() == pytest.approx(share / (whole + scores[r, 0].item()), rel=1e-4)
            without = share / whole if some else scores[r, c].item() / scores[r].sum().item()
            assert first[r, c].item() == pytest.approx(without, rel=1e-4)
    assert any(not TAGS[b].any() for b in IMAGE.tolist())


@pytest.mark.parametrize("belief", [0.0, 0.8, 1.0])
def test_bootstrapped_cross_entropy_against_a_loop(belief: float) -> None:
    scores, xyxy, _ = world(3)
    logits = torch.randn(len(IMAGE), CLASSES + 1, generator=torch.Generator().manual_seed(5), requires_grad=True)
    told = sd.named(sd.best(scores, xyxy, IMAGE, TAGS, 4, 0.1), xyxy, IMAGE, TAGS)
    total = 0.0
    for r, row in enumerate(logits.tolist()):
        target = [0.0] * (CLASSES + 1)
        target[int(told.target[r])] += belief
        target[row.index(max(row))] += 1 - belief
        norm = math.log(sum(math.exp(v) for v in row))
        total -= told.weight[r].item() * sum(t * (v - norm) for t, v in zip(target, row, strict=True))
    term = sd.bootstrapped(logits, told, belief)
    assert value({"": term}).item() == pytest.approx(total / len(IMAGE), rel=1e-4)
    plain = sd.refined(logits, told)
    assert (belief == 1) == torch.allclose(term.total, plain.total)
