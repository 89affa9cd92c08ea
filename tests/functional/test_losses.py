"""Losses against torch's own and against what an unknown target must not do."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from modicum.functional.losses import cross_entropy, focal, kl, mse_probs

B, C = 12, 5


def made(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(B, C, generator=g, dtype=torch.float64)).requires_grad_()
    return logits, torch.randint(C, (B,), generator=g), torch.rand(B, C, generator=g, dtype=torch.float64).softmax(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_is_torchs(smoothing: float) -> None:
    logits, hard, soft = made()
    for target in (hard, soft):
        values, weights = cross_entropy(logits, target, smoothing)
        wanted = F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
        assert torch.allclose(values, wanted, atol=1e-12) and weights.tolist() == [1.0] * B


def test_a_one_hot_target_is_its_class() -> None:
    logits, hard, _ = made()
    assert torch.allclose(cross_entropy(logits, hard)[0], cross_entropy(logits, F.one_hot(hard, C).double())[0])


@pytest.mark.parametrize("kind", ["hard", "soft", "kl", "mse"])
def test_unknown_rows_have_no_value_no_weight_and_no_gradient(kind: str) -> None:
    logits, hard, soft = made()
    hard[3], soft[3], soft[4, 1] = -1, torch.nan, torch.nan
    loss = {"hard": lambda: cross_entropy(logits, hard, 0.1), "soft": lambda: cross_entropy(logits, soft, 0.1),
            "kl": lambda: kl(logits, soft), "mse": lambda: mse_probs(logits, soft)}[kind]  # fmt: skip
    values, weights = loss()
    unknown = [3] if kind == "hard" else [3, 4]
    assert (weights == 0).nonzero()[:, 0].tolist() == unknown and (values[unknown] == 0).all()
    values.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert (logits.grad.abs().sum(1) == 0).nonzero()[:, 0].tolist() == unknown


def test_kl_and_squares_are_torchs() -> None:
    logits, _, soft = made()
    soft[0] = F.one_hot(torch.tensor(2), C).double()
    wanted = F.kl_div(logits.log_softmax(1), soft, reduction="none").sum(1)
    assert torch.allclose(kl(logits, soft)[0], wanted, atol=1e-12)
    assert torch.allclose(kl(logits, logits.softmax(1).detach())[0], torch.zeros(B, dtype=torch.float64), atol=1e-12)
    wanted = F.mse_loss(logits.softmax(1), soft, reduction="none").mean(1)
    assert torch.allclose(mse_probs(logits, soft)[0], wanted, atol=1e-12)


def test_half_precision_is_lifted_and_large_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]], dtype=torch.bfloat16)
    values, weights = cross_entropy(logits, torch.tensor([1]))
    assert values.dtype == weights.dtype == torch.float32 and values.item() == pytest.approx(2e4, rel=0.01)
    flat = cross_entropy(torch.zeros(1, C), torch.tensor([0]))[0]
    assert flat.item() == pytest.approx(math.log(C))


def test_no_rows_and_no_known_rows() -> None:
    assert cross_entropy(torch.zeros(0, C), torch.zeros(0, dtype=torch.int64))[0].shape == (0,)
    values, weights = cross_entropy(torch.zeros(2, C), torch.full((2,), -1))
    assert values.tolist() == weights.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.9, 1.5)])
def test_the_focal_loss_is_torchvisions(alpha: float, gamma: float) -> None:
    from torchvision.ops import sigmoid_focal_loss

    logits, target, _ = made(3)
    yes = F.one_hot(target, C).double()
    assert torch.allclose(focal(logits, yes, alpha, gamma), sigmoid_focal_loss(logits, yes, alpha, gamma), atol=1e-12)
    assert focal(torch.tensor([[1e4, -1e4]], dtype=torch.bfloat16), torch.tensor([[0, 1]])).isfinite().all()
