"""A sum of networks: its logits, its gradients, and that it is saved as one network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from modicum.core.errors import ModelError
from modicum.core.net import Net, Out
from modicum.models.doors import make
from modicum.models.files import load, save
from modicum.nn.sum import Sum

SIZE = {"classes": 3, "channels": 1, "side": 16}


def three() -> Sum:
    torch.manual_seed(0)
    parts = [make("tiny-conv:width=2", **SIZE), make("tiny-res", **SIZE).freeze(), make("test_resnet", **SIZE).freeze()]
    return Sum(parts, (1.0, 0.8, -0.8))


def test_logits_are_the_weighted_sum_and_frozen_parts_learn_nothing() -> None:
    net, x = three().train(), torch.rand(4, 1, 16, 16)
    assert net.parts[0].training and not net.parts[1].training
    out = net(x)
    out.logits.sum().backward()
    assert all((p.grad is not None) == (i == 0) for i, part in enumerate(net.parts) for p in part.parameters())
    net.eval()
    out = net(x)
    expected = sum(w * part(x).logits for w, part in zip(net.weights, net.parts))
    assert torch.allclose(out.logits, expected, atol=1e-6)
    assert torch.equal(out.features, net.parts[0](x).features) and torch.equal(net.body(x), out.features)


def test_there_and_back(tmp_path: Path) -> None:
    net, x = three().eval(), torch.rand(4, 1, 16, 16)
    saved = save(net, tmp_path, classes=["a", "b", "c"])
    again, meta = load(tmp_path)
    assert isinstance(again, Sum) and meta == saved and again.spec == net.spec
    assert torch.allclose(again(x).logits, net(x).logits, atol=1e-6)


def test_it_is_exported(tmp_path: Path) -> None:
    from modicum.deploy.export import export

    net = Sum([make("tiny-conv:width=2", **SIZE), make("tiny-conv:width=3", **SIZE)], (0.5, 0.5)).eval()
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), np.uint8)
    meta = {"classes": ["a", "b", "c"], "side": 16, "channels": 1}
    assert export(net, meta, images, tmp_path / "m.onnx", runs=2)["largest_difference"] < 1e-4


def test_what_does_not_go_together_is_refused() -> None:
    small, other = make("tiny-conv", **SIZE), make("tiny-conv", classes=4, channels=1, side=16)
    with pytest.raises(ModelError, match="different sizes"):
        Sum([small, other], (1, 1))
    for parts, weights in (([], []), ([small], [1, 2])):
        with pytest.raises(ModelError, match="weights"):
            Sum(parts, weights)
    with pytest.raises(ModelError, match="no maps"):
        Sum([small], [1]).spatial(torch.rand(1, 1, 16, 16))


class Strange(Net):
    """Made by a method, told by no spec."""

    def forward(self, x: torch.Tensor) -> Out:
        return Out(x.mean((2, 3)), x.mean((2, 3)))


def test_a_network_that_no_spec_tells_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for net in (Strange(1), Sum([make("tiny-conv", **SIZE), Strange(1)], (1, 1))):
        with pytest.raises(ModelError, match="cannot be saved: nothing says how it is built"):
            save(net, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["args"].update(weights=[1.0]),
        lambda p: p["args"].update(weights=[1.0, 2.0, "3"]),
        lambda p: p["args"].pop("weights"),
        lambda p: p["parts"].pop(),
        lambda p: p["parts"].clear(),
        lambda p: p["parts"].extend(p["parts"] * 1000),
        lambda p: p["parts"][1].update(name="tiny-conv"),
        lambda p: p["parts"][1]["args"].update(side=32),
        lambda p: p["parts"][1].update(parts=[]),
        lambda p: p.update(door="product"),
        lambda p: p.update(door="tiny", name="tiny-conv"),
    ],
)
def test_a_page_of_a_sum_edited_by_hand_is_refused(change: object, tmp_path: Path) -> None:
    save(three(), tmp_path)
    page = json.loads((tmp_path / "net.json").read_text())
    change(page)  # type: ignore[operator]
    (tmp_path / "net.json").write_text(json.dumps(page))
    with pytest.raises(ModelError, match=r"net\.json"):
        load(tmp_path)
