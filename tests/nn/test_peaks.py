"""A classifier of the strongest patches, and the maps that it ships."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from modicum.core.errors import ModelError
from modicum.models import files
from modicum.models.doors import make
from modicum.nn.capture import explain
from modicum.nn.peaks import peaked, projector
from modicum.nn.stages import placed

NETS = ("tiny-vit:depth=3,width=16", "tiny-conv:width=4", "tiny-res:depth=10")


def changed(name: str, side: int = 32):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    return peaked(make(name, classes=3, channels=3, side=side)).eval()


@pytest.mark.parametrize("name", NETS)
def test_logits_and_places_are_those_of_the_weights(name: str) -> None:
    net, x = changed(name), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        out, tokens = net(x), net.tokens(net.early(net.normalise(x)))
    weight = net.head.weight.detach()
    for b in range(2):
        patches = tokens[b, 1:] if tokens.ndim == 3 else tokens[b].flatten(1).T
        assert torch.allclose(out.logits[b], weight @ patches.amax(0), atol=1e-5)
        for c in range(3):
            cam = (patches @ weight[c]).clamp_min(0)
            expected = cam / cam.max() if bool(cam.any()) else cam
            assert torch.allclose(out.places[b, c].flatten(), expected, atol=1e-5)
    summary = tokens[:, 0] if tokens.ndim == 3 else tokens.mean((2, 3))
    assert torch.allclose(net.summary(tokens), summary) and net.head.bias is None


@pytest.mark.parametrize("name", NETS)
def test_saved_copied_and_the_same_again(name: str, tmp_path: Path) -> None:
    net, x = changed(name), torch.rand(2, 3, 32, 32)
    files.save(net, tmp_path, classes=("a", "b", "c"))
    for again in (files.load(tmp_path)[0], copy.deepcopy(net)):
        assert torch.equal(again(x).logits, net(x).logits) and torch.equal(again(x).places, net(x).places)
    with pytest.raises(ModelError, match="already"):
        peaked(net)


def test_own_map_draws_the_places_and_rollout_follows_the_patches() -> None:
    net, x = changed(NETS[0]), torch.rand(2, 3, 32, 32)
    maps = explain(net, x, torch.tensor([2, 0]), ("own-map", "gradient-rollout")).maps
    with torch.no_grad():
        places = net(x).places
    assert torch.allclose(maps["own-map", "generator"][:, 0], torch.stack([places[0, 2], places[1, 0]]), atol=1e-5)
    assert bool(maps["gradient-rollout", "attention"].any())
    with pytest.raises(ModelError, match="not linear"):
        explain(net, x, 0, "cam")


def test_a_network_has_one_way_to_say_where() -> None:
    for first, second in ((placed, peaked), (peaked, placed)):
        with pytest.raises(ModelError, match="says where each class is already"):
            second(first(make(NETS[1], classes=3, channels=3, side=16)))


def test_the_projector_ends_in_cosines() -> None:
    torch.manual_seed(0)
    found = projector(8, 64)
    assert [tuple(p.shape) for p in found.parameters()] == [(64, 8), (64,), (8, 64), (8,), (32, 8)]
    assert float(found(100 * torch.randn(5, 8)).detach().abs().max()) <= 1 + 1e-6
