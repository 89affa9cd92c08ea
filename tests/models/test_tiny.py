"""The tiny nets: size, shape, gradient, and what seeds them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.models.tiny import TinyConv, TinyRes


def count(net: Net) -> int:
    return sum(p.numel() for p in net.parameters())


def convs(*shapes: tuple[int, int, int]) -> int:
    return sum(a * b * k * k for a, b, k in shapes)


def test_tiny_conv_has_the_weights_of_its_five_layers() -> None:
    net = TinyConv(classes=10, channels=1, side=16)
    layers = convs((1, 16, 3), (16, 32, 3), (32, 32, 3), (32, 64, 3), (64, 64, 3))
    assert count(net) == layers + 2 * (16 + 32 + 32 + 64 + 64) + 64 * 10 + 10
    assert count(TinyConv(classes=10, channels=3, side=28)) == 157_762


def test_wide_resnet_28_2_has_the_published_size() -> None:
    net = TinyRes(classes=10, channels=3, side=32, depth=28, width=2)
    assert round(count(net) / 1e6, 2) == 1.47  # Zagoruyko and Komodakis: 1.5 million
    assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == 28  # 25 3x3 and three 1x1 skips
    assert count(TinyRes(classes=10, channels=3, side=32)) < 80_000


@pytest.mark.parametrize("kind", [TinyConv, TinyRes])
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (17, 3), (64, 2)])
def test_out_is_what_it_says(kind: type[Net], side: int, channels: int) -> None:
    net = kind(classes=4, channels=channels, side=side)  # type: ignore[call-arg]
    x = torch.rand(3, channels, side, side, requires_grad=True)
    out = net(x)
    assert out.logits.shape == (3, 4) and out.maps is not None and out.maps.shape[2] == -(-side // 4)
    assert torch.allclose(out.features, out.maps.flatten(2).mean(2))
    assert torch.allclose(out.logits, F.linear(out.features, net.head.weight, net.head.bias))
    out.logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters()) and x.grad is not None


@pytest.mark.parametrize("kind", [TinyConv, TinyRes])
def test_seed_gives_the_weights_and_layout_does_not_matter(kind: type[Net]) -> None:
    def make(seed: int) -> Net:
        torch.manual_seed(seed)
        return kind(classes=3, channels=3, side=16).eval()  # type: ignore[call-arg]

    a, b, c, x = make(0), make(0), make(1), torch.rand(2, 3, 16, 16)
    assert torch.equal(a(x).logits, b(x).logits) and not torch.equal(a(x).logits, c(x).logits)
    last = b.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert torch.allclose(a(x).logits, last.logits, atol=1e-5)


def test_signal_neither_vanishes_nor_explodes() -> None:
    torch.manual_seed(0)
    for kind, args in ((TinyConv, {}), (TinyRes, {"depth": 28, "width": 2})):
        net = kind(classes=10, channels=3, side=32, **args)  # type: ignore[operator]
        net.mean.fill_(0.5)
        net.std.fill_(0.3)
        assert 0.05 < net(torch.rand(8, 3, 32, 32)).logits.std() < 5


def test_a_batch_of_one_pixel_trains() -> None:
    assert TinyConv(classes=2, channels=1, side=4)(torch.rand(1, 1, 4, 4)).logits.shape == (1, 2)


@pytest.mark.parametrize("depth", [11, 27, 9])
def test_depth_must_be_6n_plus_4(depth: int) -> None:
    with pytest.raises(ModelError, match=r"nearest depth is (10|28)"):
        TinyRes(classes=2, channels=1, side=16, depth=depth)
