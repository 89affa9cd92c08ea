"""Trust rules against plain loops over images, written from the papers' equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from modicum.core.errors import SettingsError
from modicum.core.program import Info
from modicum.methods.semi.fixmatch import FixMatch
from modicum.nn.trust import make_trust

CLASSES, IMAGES, STEPS, U = 4, 40, 6, 16
INFO = Info(("a", "b", "c", "d"), (2, 2, 2, 2), IMAGES, 8)


def batches(sharp: float = 4.0) -> list[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(3)
    out = []
    for _ in range(STEPS):
        z = sharp * rng.normal(size=(U, CLASSES)) + np.array([1.0, 0.5, 0, -0.5])
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        out.append((torch.tensor(p, dtype=torch.float32), torch.tensor(rng.permutation(IMAGES)[:U])))
    return out


def test_curriculum() -> None:
    for warmup in (0, 1):
        rule, last, tau = make_trust(f"curriculum:tau=0.9,warmup={warmup}", INFO), [-1] * IMAGES, 0.9
        for probs, rows in batches():
            count = [last.count(c) for c in range(CLASSES)]
            most = max([*count, last.count(-1)] if warmup else count) or 1
            wanted = []
            for p in probs.tolist():
                beta = count[p.index(max(p))] / most
                wanted.append(float(max(p) >= np.float32(tau * beta / (2 - beta))))
            target, weight = rule(probs, rows)
            assert weight.tolist() == wanted and target.tolist() == probs.argmax(1).tolist()
            for p, row in zip(probs.tolist(), rows.tolist(), strict=True):
                if max(p) > tau:
                    last[row] = p.index(max(p))
        assert 0 < sum(c >= 0 for c in last) < IMAGES and rule.last.tolist() == last


def test_curriculum_counts_images_that_may_be_drawn_and_no_others() -> None:
    rule = make_trust("curriculum:tau=0.5", Info(("a", "b"), (1, 1), 100, 2, pool=4))
    rule(torch.tensor([[0.9, 0.1]]), torch.tensor([7]))
    assert rule.thresholds().tolist() == pytest.approx([0.5 * (1 / 3) / (2 - 1 / 3), 0.0])


def test_adaptive() -> None:
    rule, m = make_trust("adaptive:decay=0.7", INFO), 0.7
    level, share = 1 / CLASSES, [1 / CLASSES] * CLASSES
    for probs, rows in batches(1.0):
        p = probs.double().numpy()
        level = m * level + (1 - m) * p.max(1).mean()
        share = [m * s + (1 - m) * q for s, q in zip(share, p.mean(0), strict=True)]
        wanted = [float(max(q) >= level * share[int(np.argmax(q))] / max(share)) for q in p]
        assert rule(probs, rows).weight.tolist() == wanted
    assert 0 < sum(wanted) < U


def test_gaussian() -> None:
    rule, m, mu, var = make_trust("gaussian:sigmas=2,decay=0.6", INFO), 0.6, 1 / CLASSES, 1.0
    for probs, rows in batches(1.0):
        top = probs.double().numpy().max(1)
        mu, var = m * mu + (1 - m) * top.mean(), m * var + (1 - m) * np.var(top, ddof=1)
        wanted = [math.exp(-4 * min(c - mu, 0) ** 2 / (2 * var)) for c in top]
        assert rule(probs, rows).weight.tolist() == pytest.approx(wanted, rel=1e-4)
    assert min(wanted) < 0.9 and max(wanted) == 1.0


def test_top_k() -> None:
    rule = make_trust("top-k:share=0.5,tau=0.4", INFO)
    for probs, rows in batches(1.0):
        p, k = probs.tolist(), math.ceil(0.5 * U / CLASSES)
        wanted = []
        for i, q in enumerate(p):
            rivals = [max(r) for j, r in enumerate(p) if j != i and r.index(max(r)) == q.index(max(q))]
            wanted.append(float(sum(v > max(q) for v in rivals) < k and max(q) >= np.float32(0.4)))
        found = rule(probs, rows)
        assert found.weight.tolist() == wanted
        assert torch.bincount(found.target[found.weight > 0]).max() <= k


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("curriculum:tau=2", "Allowed: 0 to 1"), ("adaptive:decay=nan", "'nan' is not a number"),
        ("gaussian:sigmas=-1", "Allowed: 0 to 100"), ("top-k:share=1.5", "Allowed: 0 to 1"),
        ("risk:share=0", "Allowed: 0.001 to 0.9"), ("risk:level=1", "Allowed: 0.5 to 0.999"),
    ],
)  # fmt: skip
def test_knobs_out_of_range_are_refused(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        make_trust(text, INFO)
    with pytest.raises(SettingsError, match=says):
        FixMatch(trust=text)  # before any work


@pytest.mark.parametrize("text", ["curriculum", "adaptive", "gaussian"])
def test_what_a_rule_remembers_is_in_its_state(text: str) -> None:
    first, second = make_trust(text, INFO), make_trust(text, INFO)
    for probs, rows in batches():
        first(probs, rows)
    second.load_state_dict(first.state_dict())
    probs, rows = batches()[0]
    assert first(probs, rows).weight.equal(second(probs, rows).weight)
