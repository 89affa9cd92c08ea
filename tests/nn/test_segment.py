"""Networks with a decoder: what they say, and that they are built, saved and loaded as what they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.models import files
from modicum.models.doors import make
from modicum.nn.capture import explain
from modicum.nn.segment import LEAST, Decoder, clearest, segmenting

NETS = ("tiny-conv:width=4", "tiny-res", "wrn-28-2", "mobilenetv2_100", "convnext_atto")


def built(name: str, side: int = 33, classes: int = 3, channels: int = 3) -> Net:
    torch.manual_seed(0)
    return segmenting(make(name, classes=classes, channels=channels, side=side))


@pytest.mark.parametrize("name", NETS)
def test_levels_lead_to_the_maps_and_grow_smaller(name: str) -> None:
    net = make(name, classes=2, channels=3, side=48).eval()
    x = net.normalise(torch.rand(2, 3, 48, 48))
    maps, levels = net.levels(x)
    assert torch.equal(maps, net.spatial(x))
    sides = [m.shape[-1] for m in levels]
    assert sides == sorted(set(sides), reverse=True) and len(levels) >= 3


@pytest.mark.parametrize("name", NETS)
def test_each_pixel_gets_an_answer_and_every_part_of_the_decoder_learns(name: str) -> None:
    net = built(name).train()
    out = net(torch.rand(2, 3, 33, 33))
    assert out.masks is not None and out.masks.shape == (2, 4, 33, 33) and out.logits.shape == (2, 3)
    out.masks.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.decoder.parameters())
    assert sum(p.grad is not None for p in net.parameters()) > 0.9 * len(list(net.parameters()))


@pytest.mark.parametrize("side", [1, 2, 3, 5, 16, 64])
def test_any_side(side: int) -> None:
    net = built("tiny-conv:width=4", side).eval()
    assert net(torch.rand(1, 3, side, side)).masks.shape == (1, 4, side, side)
    assert net(torch.rand(1, 3, side + 7, side + 2)).masks.shape == (1, 4, side + 7, side + 2), "and others later"


def test_the_coarsest_maps_are_small_enough_to_see_the_whole() -> None:
    net, side = built("tiny-conv:width=4", 64), 16
    for down in net.decoder.down:
        side = down(torch.rand(2, down[0].in_channels, side, side)).shape[-1]
    assert side == LEAST
    assert not len(Decoder([4, 8], LEAST, 3).down) and max(p.shape[0] for p in net.decoder.parameters()) <= 128


def test_a_logit_is_positive_where_a_pixel_has_the_class() -> None:
    masks = torch.randn(6, 5, 4, 3, generator=torch.Generator().manual_seed(2))
    masks[5] = 0
    found = clearest(masks)
    for b in range(6):
        for c in range(4):
            gaps = []
            for y in range(4):
                for x in range(3):
                    rest = [float(masks[b, k, y, x]) for k in range(5) if k != c + 1]
                    gaps.append(float(masks[b, c + 1, y, x]) - max(rest))
            assert found[b, c].item() == pytest.approx(max(gaps), abs=1e-6)
    assert torch.equal(
        (found > 0)[:5], torch.stack([(masks[:5].argmax(1) == c + 1).flatten(1).any(1) for c in range(4)], 1)
    )


@pytest.mark.parametrize("name", ["tiny-conv:width=4", "tiny-res", "resnet18"])
def test_it_comes_back_from_disk(name: str, tmp_path: Path) -> None:
    net = built(name).eval()
    files.save(net, tmp_path, classes=("a", "b", "c"))
    again, meta = files.load(tmp_path)
    assert meta["edits"] == [{"edit": "decoder", "most": 128}]
    x = torch.rand(2, 3, 33, 33)
    for one, two in zip(net(x), again(x), strict=True):
        assert (one is None and two is None) or torch.equal(one, two)


def test_where_it_looks_can_be_asked() -> None:
    net = built("tiny-conv:width=4", 32).eval()
    found = explain(net, torch.rand(2, 3, 32, 32), torch.tensor([[0, 1, 2]] * 2), "grad-cam").maps
    assert [m.shape for m in found.values()] == [(2, 3, 8, 8)] and all(m.std() > 0 for m in found.values())


def test_a_classifiers_weights_are_the_encoders(tmp_path: Path) -> None:
    torch.manual_seed(5)
    first = make("tiny-conv:width=4", classes=7, channels=3, side=16)
    files.save(first, tmp_path)
    torch.manual_seed(6)
    net = segmenting(make("tiny-conv:width=4", classes=3, channels=3, side=16, weights=tmp_path / "net.safetensors"))
    assert all(torch.equal(v, first.state_dict()[k]) for k, v in net.state_dict().items() if k.startswith("stages"))
    assert net.spec["args"]["classes"] == 3 and not [k for k in net.state_dict() if k.startswith("head")]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="already"):
        segmenting(built("tiny-conv:width=4"))
    with pytest.raises(ModelError, match="0 channels"):
        segmenting(make("tiny-conv:width=4", classes=3, channels=3, side=16), 0)
    net = built("tiny-conv:width=4")
    files.save(net, tmp_path)
    page = json.loads((tmp_path / "net.json").read_text())
    for most in (-1, 10**9, "many", None):
        page["edits"][0]["most"] = most
        (tmp_path / "net.json").write_text(json.dumps(page))
        with pytest.raises(ModelError, match="cannot be built"):
            files.load(tmp_path)
