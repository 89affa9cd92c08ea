"""The wide nets: their published size, and their forward pass written out once more."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.models.doors import build, make, parse
from modicum.models.wide import Wide

SIZE = {"classes": 10, "channels": 3, "side": 32}


def test_sizes_are_the_published_ones() -> None:
    small, large = make("wrn-28-2", **SIZE), make("wrn-28-8", **{**SIZE, "classes": 100})
    counts = [sum(p.numel() for p in net.parameters()) / 1e6 for net in (small, large)]
    assert [round(c, 2) for c in counts] == [1.47, 23.40]  # Zagoruyko and Komodakis; USB: 1.5 and 23.4 million
    assert sum(isinstance(m, torch.nn.Conv2d) for m in small.modules()) == 28
    assert all(m.eps == 1e-3 and m.momentum == 0.1 for m in small.modules() if isinstance(m, torch.nn.BatchNorm2d))


def slowly(net: Wide, x: Tensor) -> Tensor:
    """The same from the weights' names alone."""
    w = net.state_dict()

    def active(name: str, x: Tensor) -> Tensor:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        y = (x - mean) / (var + 1e-3).sqrt() * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]
        return torch.maximum(y, 0.1 * y)

    x = F.conv2d(x, w["stem.weight"], padding=1)
    for i in range(12):
        name, stride = f"blocks.{i}", 2 if i in (4, 8) else 1
        a = active(f"{name}.norm1", x)
        y = F.conv2d(a, w[f"{name}.conv1.weight"], stride=stride, padding=1)
        y = F.conv2d(active(f"{name}.norm2", y), w[f"{name}.conv2.weight"], padding=1)
        if i in (0, 4, 8):
            x = F.conv2d(x if i else a, w[f"{name}.skip.weight"], stride=stride)
        x = x + y
    return F.linear(active("norm", x).mean((2, 3)), w["head.weight"], w["head.bias"])


def test_the_forward_pass_is_the_one_of_the_docstring() -> None:
    torch.manual_seed(0)
    net, x = make("wrn-28-2", **SIZE), torch.rand(4, 3, 16, 16)
    for p in net.parameters():
        p.data.add_(0.1 * torch.rand_like(p))  # norms and biases that are not 1 and 0
    assert torch.allclose(net(x).logits, slowly(net, x), rtol=1e-3, atol=1e-4)


def test_a_spec_builds_it_again_and_momentum_is_an_argument() -> None:
    spec = parse("wrn-28-2:momentum=0.001", **SIZE)
    assert spec["args"] == {**SIZE, "momentum": 0.001} and build(spec).norm.momentum == 0.001
    with pytest.raises(Exception, match="momentum"):
        parse("wrn-28-2:width=4", **SIZE)
