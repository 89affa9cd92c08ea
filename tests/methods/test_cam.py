"""CAM and Grad-CAM as weighings, against loops over maps; the captured pass is tested in tests/nn/test_capture.py."""

from __future__ import annotations

import pytest
import torch

from modicum.core import registry
from modicum.core.errors import ModelError

B, T, C, K, H, W = 2, 3, 5, 4, 2, 3


def test_weighted_sums_of_maps() -> None:
    torch.manual_seed(0)
    acts, grads, head = torch.randn(B, K, H, W), torch.randn(B, T, K, H, W), torch.randn(C, K)
    targets = torch.randint(C, (B, T))
    cam = registry.make("cam").weigh(acts, None, head, targets)
    grad = registry.make("grad-cam").weigh(acts, grads, None, targets)
    for b in range(B):
        for t in range(T):
            wanted = sum(head[targets[b, t], k] * acts[b, k] for k in range(K))
            assert torch.allclose(cam[b, t], wanted, atol=1e-6)
            wanted = sum(grads[b, t, k].sum() / (H * W) * acts[b, k] for k in range(K))
            assert torch.allclose(grad[b, t], wanted, atol=1e-6)
    assert (cam < 0).any() and (grad < 0).any()


def test_what_was_not_captured_is_refused() -> None:
    acts, targets = torch.randn(B, K, H, W), torch.zeros(B, T, dtype=torch.int64)
    with pytest.raises(ModelError, match="weights of the head"):
        registry.make("cam").weigh(acts, None, None, targets)
    with pytest.raises(ModelError, match="gradient"):
        registry.make("grad-cam").weigh(acts, None, None, targets)
    assert registry.load("grad-cam").gradient and not registry.load("cam").gradient
