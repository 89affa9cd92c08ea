"""The ONNX file against the net, and the refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError
from modicum.core.net import Out
from modicum.deploy.export import export
from modicum.deploy.predict import OnnxModel

from .conftest import CLASSES, Exported, digits, warm


def test_facts_are_true(exported: Exported) -> None:
    facts = exported.facts
    assert facts["images"] == 500 and facts["largest_difference"] <= 1e-4 and facts["opset"] == 20
    assert facts["bytes"] == exported.path.stat().st_size and facts["parameters"] == 70_330
    times = facts["latency_ms"]
    assert 0 < times["low"] <= times["median"] <= times["high"] < 1000 and times["runs"] == 20
    json.dumps(facts)
    assert [p.name for p in exported.path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("size", [1, 2, 500])
def test_any_batch_gives_the_nets_logits_and_tempered_probs(exported: Exported, size: int) -> None:
    images = exported.images[:size]
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    logits, probs = session.run(["logits", "probs"], {"images": images})
    x = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        exported.net.eval()
        expected = exported.net(x).logits
        exported.net.train()
    assert np.abs(logits - expected.numpy()).max() < 1e-4
    assert np.abs(probs - (expected / 2).softmax(1).numpy()).max() < 1e-5


def test_the_file_says_what_it_is_and_nothing_of_this_machine(exported: Exported) -> None:
    model = onnx.load(exported.path)
    props = {p.key: p.value for p in model.metadata_props}
    assert json.loads(props["classes"]) == list(CLASSES) and props["side"] == "16" and props["temperature"] == "2.0"
    content = exported.path.read_bytes()
    assert b".py" not in content and str(Path(torch.__file__).parent).encode() not in content
    assert not any(len(i.external_data) for i in model.graph.initializer)


def test_the_net_is_left_as_it_was(exported: Exported) -> None:
    assert exported.net.training and all(p.requires_grad for p in exported.net.parameters())


def test_sixteen_bits_and_token_models(tmp_path: Path) -> None:
    images = digits(32, 20).astype(np.uint16) * 257
    net = warm("test_vit", images, classes=3)
    meta = {"classes": ["a", "b", "c"], "side": 32, "channels": 1, "temperature": None, "shorter": 40}
    facts = export(net, meta, images, tmp_path / "vit.onnx", runs=3)
    assert facts["largest_difference"] <= 1e-4
    model = OnnxModel(tmp_path / "vit.onnx")
    assert model.dtype == np.uint16 and model.temperature is None and model.shorter == 40


class Tampered(nn.Module):
    """Says something else when it is traced."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.by = by

    def forward(self, x: Tensor) -> Out:
        z = x.mean((2, 3)) * self.weight * torch.tensor([[1.0, 2.0]])
        if torch.compiler.is_exporting():
            z = z + torch.tensor([[self.by, 0.0]])
        return Out(z, z)


BY = [(1e-3, "logits by up to 0.001"), (float("nan"), "nan"), (5.0, "class of 20 of 20")]


@pytest.mark.parametrize(("by", "words"), BY)
def test_a_file_that_differs_is_not_written(by: float, words: str, tmp_path: Path) -> None:
    meta = {"classes": ["a", "b"], "side": 16, "channels": 1}
    with pytest.raises(ModelError, match=words):
        export(Tampered(by), meta, digits(16, 20), tmp_path / "bad.onnx")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


class Wild(Tampered):
    """Chooses by value: no graph can follow."""

    def forward(self, x: Tensor) -> Out:
        return super().forward(x if x.sum() > 0 else -x)


def test_a_net_that_cannot_be_exported_is_one_short_error(tmp_path: Path) -> None:
    meta = {"classes": ["a", "b"], "side": 16, "channels": 1}
    with pytest.raises(ModelError, match="cannot be exported") as caught:
        export(Wild(0), meta, digits(16, 4), tmp_path / "bad.onnx")  # type: ignore[arg-type]
    assert len(str(caught.value)) < 400 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("shape", "kind"), [((0, 16, 16, 1), "u1"), ((4, 8, 8, 1), "u1"), ((4, 16, 16, 1), "f4")])
def test_wrong_images_are_refused(shape: tuple[int, ...], kind: str, exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="images of"):
        export(exported.net, exported.meta, np.zeros(shape, kind), tmp_path / "x.onnx")
