"""The tiny vision transformer: its forward pass written out once more, sizes, and what explain sees of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.models.doors import make
from modicum.nn.capture import explain
from modicum.nn.stages import patched, placed

SIZE = {"classes": 3, "channels": 3, "side": 16}


def drawn(name: str = "tiny-vit:depth=3,width=16", **size: int) -> Net:
    torch.manual_seed(0)
    net = make(name, **{**SIZE, **size}).eval()
    for p in net.parameters():
        p.data.add_(0.1 * torch.rand_like(p))  # norms, biases and the class token that are not 1 and 0
    return net


def slowly(w: dict[str, Any], x: Tensor, heads: int) -> Tensor:
    """One image (c,16,16), from the weights' names alone."""
    x = F.conv2d(x[None], w["stem.0.0.weight"], stride=2, padding=1)
    x = (x - w["stem.0.1.running_mean"][:, None, None]) / (w["stem.0.1.running_var"][:, None, None] + 1e-5).sqrt()
    x = (x * w["stem.0.1.weight"][:, None, None] + w["stem.0.1.bias"][:, None, None]).clamp_min(0)
    x = F.conv2d(x, w["stem.1.0.weight"], w["stem.1.0.bias"], stride=2, padding=1)
    x = (x + w["positions"])[0]
    tokens = [w["cls"][0, 0], *(x[:, i // 4, i % 4] for i in range(16))]

    def norm(name: str, t: Tensor) -> Tensor:
        return (t - t.mean()) / (t.var(correction=0) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(name: str, t: Tensor) -> Tensor:
        return w[f"{name}.weight"] @ t + w[f"{name}.bias"]

    for block in ("blocks.0", "blocks.1", "blocks.2"):
        parts = [linear(f"{block}.qkv", norm(f"{block}.norm1", t)).view(3, heads, -1) for t in tokens]
        after = []
        for n, t in enumerate(tokens):
            seen = []
            for h in range(heads):
                scores = torch.stack([parts[n][0, h] @ p[1, h] for p in parts]) / math.sqrt(parts[n].shape[2])
                seen.append(sum(s * p[2, h] for s, p in zip(scores.softmax(0), parts, strict=True)))
            t = t + linear(f"{block}.join", torch.cat(seen))  # type: ignore[arg-type]
            hidden = linear(f"{block}.mlp.0", norm(f"{block}.norm2", t))
            after.append(t + linear(f"{block}.mlp.2", hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))))
        tokens = after
    return linear("head", norm("norm", tokens[0]))


def test_the_forward_pass_is_the_one_of_the_docstring() -> None:
    net, x = drawn(), torch.rand(2, 3, 16, 16)
    net(torch.rand(8, 3, 16, 16))
    with torch.no_grad():
        ours = net(x)
        theirs = torch.stack([slowly(net.state_dict(), net.normalise(one[None])[0], 2) for one in x])
    assert torch.allclose(ours.logits, theirs, atol=1e-4) and ours.maps is None and ours.features.shape == (2, 16)


def test_the_two_stages_are_the_network_and_every_part_learns() -> None:
    net, x = drawn().train(), torch.rand(4, 3, 16, 16)
    early = net.early(net.normalise(x))
    assert early.shape == (4, 17, 16) and torch.equal(net.late(early), net.spatial(net.normalise(x)))
    net(x).logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_size_and_the_start() -> None:
    assert sum(p.numel() for p in make("tiny-vit", classes=10, channels=1, side=64).parameters()) == 335_978
    net = make("tiny-vit:depth=2,patch=8", classes=2, channels=1, side=32)
    assert net.positions.shape == (1, 64, 4, 4) and net(torch.rand(2, 1, 32, 32)).logits.shape == (2, 2)
    waves = net.positions[0].flatten(1)
    assert torch.allclose(waves.square().sum(0), torch.full((16,), 0.09 * 32))  # sin^2 + cos^2, of 16 waves an axis
    assert len(waves.T.unique(dim=0)) == 16  # no two places alike


def test_images_of_another_size_are_read_at_interpolated_places() -> None:
    net = drawn()
    with torch.no_grad():
        net.positions.copy_(torch.linspace(0, 1, 4)[:, None].expand(1, 16, 4, 4))
        found = net.placed(8, 4)
        assert found.shape == (1, 16, 8, 4) and bool((found[0, 0, 1:, 0] > found[0, 0, :-1, 0]).all())
        assert net(torch.rand(1, 3, 32, 16)).logits.shape == (1, 3)


@pytest.mark.parametrize("args", ["heads=3", "width=10", "patch=3", "patch=6", "patch=32", "depth=1", "width=66"])
def test_numbers_that_do_not_divide_are_refused(args: str) -> None:
    with pytest.raises(ModelError):
        make(f"tiny-vit:{args}", **SIZE)


def test_explain_reads_its_attention_and_its_tokens() -> None:
    net, x = drawn(side=32), torch.rand(2, 3, 32, 32)
    maps = explain(net, x, 1, ("gradient-rollout", "attention-rollout")).maps
    assert {k[0] for k in maps} == {"gradient-rollout", "attention-rollout"}
    assert all(m.shape == (2, 1, 8, 8) and bool(m.any()) for m in maps.values())
    named = explain(net, x, 1, "layer-cam").maps  # before the last attention: later patches have no gradient
    assert list(named) == [("layer-cam", "blocks.2.norm1")]
    larger = explain(net, x, 1, "gradient-rollout", tta=("flip", 1.5)).maps
    assert larger["gradient-rollout", "attention"].shape == (2, 1, 8, 8)


def test_changes_of_early_maps_are_refused_for_tokens() -> None:
    for change in (placed, lambda net: patched(net, [2])):
        with pytest.raises(ModelError, match="on tokens, not on maps"):
            change(drawn())
