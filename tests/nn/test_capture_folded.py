"""Batch norm folded into convolutions: the same answers, no other weights, and nothing folded that is read twice."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from modicum.nn.capture import explain
from modicum.nn.capture.folded import folded
from modicum.nn.norm import BatchNorm2d


def lively(net: nn.Module) -> nn.Module:
    """Statistics and weights of norms as after training."""
    luck = torch.Generator().manual_seed(3)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for values, low in ((m.running_mean, -1), (m.running_var, 0.5), (m.weight, 0.5), (m.bias, -1)):
                if values is not None:
                    values.data = low + torch.rand(values.shape, generator=luck) * 1.5
    return net.eval()


@pytest.mark.parametrize("name", ["resnet10t", "test_efficientnet", "test_vit"])
@torch.no_grad()
def test_what_is_folded_answers_the_same(name: str) -> None:
    torch.manual_seed(0)
    fixed = {"img_size": 64} if "vit" in name else {}
    net, x = lively(timm.create_model(name, num_classes=4, **fixed)), torch.rand(2, 3, 64, 64)
    before, wanted = copy.deepcopy(net.state_dict()), net(x)
    found = folded(lambda: net(x[:1]), float(wanted.abs().max()))
    assert len(found.weights) == sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    with found:
        got = net(x)
    assert torch.allclose(got, wanted, atol=1e-5 * float(wanted.abs().max()))
    assert torch.equal(net(x), wanted) and str(net.state_dict()) == str(before)


class Small(nn.Module):
    """A convolution, its norm, and what `body` makes of both."""

    def __init__(self, body: Callable[[Small, Tensor], Tensor], norm: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.other = nn.Conv2d(3, 3, 3, padding=1), norm(3), nn.BatchNorm2d(3)
        self.bare = nn.BatchNorm2d(3, track_running_stats=False)
        self.body, self.head = body, nn.Linear(3, 4)
        lively(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self, x).relu_().mean((2, 3)).tanh())


def once(net: Small, x: Tensor) -> Tensor:
    return net.norm(net.conv(x))


def hidden(net: Small, x: Tensor) -> Tensor:
    """What no torch function reads: only the scores tell."""
    maps = net.conv(x)
    return net.norm(maps) + float(maps.detach().numpy().mean())


NOT = {
    "read twice": lambda net, x: net.norm(maps := net.conv(x)) + maps,
    "two norms": lambda net, x: net.norm(maps := net.conv(x)) + net.other(maps),
    "joined": lambda net, x: torch.cat([net.norm(maps := net.conv(x)), maps], 2),
    "run twice": lambda net, x: net.other(net.conv(net.norm(net.conv(x)))),
    "something between": lambda net, x: net.norm(net.conv(x).relu()),
    "weights made anew": lambda net, x: net.norm(nn.functional.conv2d(x, 2 * net.conv.weight, None, 1, 1)),
    "statistics of the batch": lambda net, x: net.bare(net.conv(x)),
    "read in secret": hidden,
}  # fmt: skip


@pytest.mark.parametrize("what", NOT)
@torch.no_grad()
def test_what_cannot_be_folded_is_left(what: str) -> None:
    net, x = Small(NOT[what]), torch.rand(1, 3, 8, 8)
    assert not folded(lambda: net(x), 1.0).weights


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNorm2d])
@torch.no_grad()
def test_one_convolution_and_its_norm_are_folded(norm: type[nn.BatchNorm2d]) -> None:
    net, x = Small(once, norm), torch.rand(1, 3, 8, 8)
    found = folded(lambda: net(x), 1.0)
    assert len(found.weights) == 1
    wanted = net(x)
    with found:
        assert torch.allclose(net(x), wanted, atol=1e-6)
        assert not torch.allclose(net.conv(x), nn.functional.conv2d(x, net.conv.weight.clone(), net.conv.bias, 1, 1))


@pytest.mark.parametrize("layer", ["conv", "norm"])
def test_maps_by_a_folded_network_are_those_of_the_network(layer: str) -> None:
    """Also where the layer that is looked at is the convolution itself, whose output is not the norm's."""
    net, x = Small(once), torch.rand(1, 3, 8, 8)
    found = explain(net, x, 2, ("ablation-cam", "score-cam:score=logit"), layer)
    with torch.no_grad():
        conv = net.conv(x)
        acts = conv if layer == "conv" else net.norm(conv)
        after = (lambda a: net.norm(a)) if layer == "conv" else (lambda a: a)

        def said(a: Tensor) -> Tensor:
            return net.head(after(a).relu().mean((2, 3)).tanh())[0, 2]

        ablated, scored = torch.zeros(8, 8), torch.zeros(8, 8)
        for k in range(3):
            without = acts.clone()
            without[:, k] = 0
            ablated += (said(acts) - said(without)) * acts[0, k]
            mask = (acts[0, k] - acts[0, k].min()) / (acts[0, k].max() - acts[0, k].min())
            scored += net(x * mask)[0, 2] * acts[0, k]
    assert torch.allclose(found.maps["ablation-cam", layer][0, 0], ablated, atol=1e-5)
    assert torch.allclose(found.maps["score-cam:score=logit", layer][0, 0], scored, atol=1e-5)
