"""Objectives against plain loops, and the cosine head."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from modicum.core.errors import ModelError, SettingsError
from modicum.core.program import Info
from modicum.core.registry import parts
from modicum.models import doors, files
from modicum.nn.cosine import CosineLinear, cosine_head
from modicum.nn.objective import make_objective

COUNTS = (50, 5, 1)
INFO = Info(("a", "b", "c"), COUNTS, 100, 56)
Z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 0, 1, 2, 2])


def slow(z: list[float], y: int) -> float:
    return math.log(sum(math.exp(v - z[y]) for v in z))


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
def test_logit_adjustment(tau: float) -> None:
    values, weights = make_objective(f"logit-adjustment:tau={tau}", INFO)(Z, Y, 0.5)
    wanted = [slow([v + tau * math.log(n / 56) for v, n in zip(z, COUNTS)], y) for z, y in zip(Z.tolist(), Y.tolist())]
    assert values.tolist() == pytest.approx(wanted, rel=1e-6) and weights.tolist() == [1.0] * 7


def test_balanced_softmax_is_its_case_of_tau_1() -> None:
    values, _ = make_objective("logit-adjustment", INFO)(Z, Y, 0.0)
    powers = torch.tensor(COUNTS, dtype=torch.float64) * Z.exp()
    assert torch.allclose(values, -(powers.gather(1, Y[:, None])[:, 0] / powers.sum(1)).log())


@pytest.mark.parametrize("done", [0.0, 0.79, 0.8, 1.0])
def test_ldam_with_deferred_weights(done: float) -> None:
    term = make_objective("ldam:margin=0.5,scale=10,defer=0.8,beta=0.9", INFO).term(10 * Z.tanh(), Y, done)
    roots = [n**-0.25 for n in COUNTS]
    weights = [(1 - 0.9) / (1 - 0.9**n) for n in COUNTS]
    weights = [3 * w / sum(weights) if done >= 0.8 else 1.0 for w in weights]
    total = 0.0
    for z, y in zip(Z.tanh().tolist(), Y.tolist(), strict=True):
        moved = [10 * (v - (0.5 * roots[y] / max(roots) if c == y else 0)) for c, v in enumerate(z)]
        total += weights[y] * slow(moved, y)
    assert float(term.total / term.count) == pytest.approx(total / sum(weights[y] for y in Y.tolist()), rel=1e-5)


@pytest.mark.parametrize("name", sorted(parts("nn/objective")))
def test_a_class_without_a_label_is_allowed(name: str) -> None:
    term = make_objective(name, Info(("a", "b", "c"), (3, 2, 0), 9, 5)).term(Z, Y.clamp_max(1), 1.0)
    assert torch.isfinite(term.total) and float(term.count) > 0


def test_a_wrong_knob_is_refused() -> None:
    with pytest.raises(SettingsError, match="Did you mean 'tau'"):
        make_objective("logit-adjustment:tua=1", INFO)
    with pytest.raises(SettingsError, match="Allowed: 0 to 1"):
        make_objective("ldam:defer=7", INFO)


def test_a_cosine_head_is_a_cosine_and_comes_back_from_disk(tmp_path: Path) -> None:
    net = cosine_head(doors.make("tiny-conv:width=4", classes=3, channels=1, side=16), 12.0).eval()
    x = torch.rand(5, 1, 16, 16)
    with torch.no_grad():
        out = net(x)
    for f, z in zip(out.features, out.logits, strict=True):
        for w, value in zip(net.head.weight.detach(), z, strict=True):
            assert float(value) == pytest.approx(12 * float(f @ w / (f.norm() * w.norm())), abs=1e-4)
    files.save(net, tmp_path, classes=("a", "b", "c"))
    again, _ = files.load(tmp_path)
    assert isinstance(again.head, CosineLinear) and torch.equal(again(x).logits, out.logits)
    with pytest.raises(ModelError, match="not linear"):
        cosine_head(net)
