"""Names to nets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from modicum.core.errors import ModelError
from modicum.models.doors import default_name, make

SIZE = {"classes": 3, "channels": 1, "side": 16}


def test_names_give_specs_with_every_argument() -> None:
    spec = {"door": "tiny", "name": "tiny-conv", "args": SIZE | {"width": 16}, "edits": []}
    assert make("tiny-conv", **SIZE).spec == spec
    assert make("tiny-conv", classes=3, channels=1, side=28).spec["args"]["width"] == 24
    res = make("tiny-res:depth=16, width=2", **SIZE)
    assert res.spec["args"] == SIZE | {"depth": 16, "width": 2} and res.head.in_features == 128
    assert make("timm/test_resnet", **SIZE).spec == {"door": "timm", "name": "test_resnet", "args": SIZE, "edits": []}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny-conf", "tiny-conv"), ("tiny-res:depht=10", "depth"), ("tiny-res:depth=ten", "whole number"),
        ("tiny-res:depth=12", "6n"), ("tiny-res:width=9999", "Allowed"), ("resnet19", "resnet"),
        ("test_resnet:width=2", "no arguments"), ("tiny-conv:", ""), ("", "no network"),
    ],
)  # fmt: skip
def test_bad_names_are_model_errors(name: str, words: str) -> None:
    if not words:
        assert make(name, **SIZE)
        return
    with pytest.raises(ModelError, match=words):
        make(name, **SIZE)


@pytest.mark.parametrize("size", [{"classes": 0}, {"channels": 0}, {"side": 0}, {"side": 10**6}])
def test_impossible_sizes_are_refused(size: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="Allowed"):
        make("tiny-conv", **{**SIZE, **size})


def test_a_side_the_network_cannot_take_is_refused_at_once() -> None:
    with pytest.raises(ModelError, match="30 x 30"):
        make("test_vit", classes=3, channels=3, side=30)


def test_making_a_net_leaves_it_in_train_mode_with_its_statistics() -> None:
    net = make("test_resnet", **SIZE)
    assert net.training and all(b == 0 for n, b in net.named_buffers() if n.endswith("num_batches_tracked"))


def test_default_name() -> None:
    assert default_name(64, 3, False) == "tiny-conv"
    assert default_name(65, 3, False) == default_name(32, 1, True) == "mobilenetv4_conv_small"


@pytest.mark.parametrize("name", ["tiny-conv", "test_resnet"])
def test_weights_of_ours(name: str, tmp_path: Path) -> None:
    first = make(name, **SIZE)
    save_file({k: v.clone() for k, v in first.state_dict().items()}, tmp_path / "w.safetensors")
    again = make(name, weights=tmp_path / "w.safetensors", **SIZE)
    assert all(torch.equal(v, first.state_dict()[k]) for k, v in again.state_dict().items()) and again.notes == ()
    other = make(name, classes=7, channels=1, side=16, weights=tmp_path / "w.safetensors")
    assert other.head.weight.shape[0] == 7 and "classifier is new" in other.notes[0]
    with pytest.raises(ModelError, match="another network"):
        make("tiny-res", weights=tmp_path / "w.safetensors", **SIZE)


def test_weights_of_timm(tmp_path: Path) -> None:
    import timm

    theirs = timm.create_model("test_resnet", num_classes=1000)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    net = make("test_resnet", classes=3, channels=3, side=32, weights=tmp_path / "model.safetensors", pretrained=True)
    assert torch.equal(net.model.conv1[0].weight, theirs.conv1[0].weight) and "classifier is new" in net.notes[0]
    with pytest.raises(ModelError, match="not of tiny-conv"):
        make("tiny-conv", weights=tmp_path / "model.safetensors", **SIZE)


def test_pretrained_tiny_nets_do_not_exist() -> None:
    with pytest.raises(ModelError, match="no published weights"):
        make("tiny-conv", pretrained=True, **SIZE)


def test_pretrained_without_a_hub_names_the_ways_on() -> None:
    with pytest.raises(ModelError, match=r"--weights FILE.*--no-pretrained"):
        make("test_resnet", pretrained=True, **SIZE)


@pytest.mark.parametrize("file", ["w.pth", "w.pt", "w.ckpt", "w.bin"])
def test_pickles_are_refused_unread(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ModelError, match=r"pickle[\s\S]*save_file"):
        make("tiny-conv", weights=tmp_path / file, **SIZE)
