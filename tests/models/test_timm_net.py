"""timm's door against timm itself."""

from __future__ import annotations

import time

import pytest
import timm
import torch

from modicum.core.errors import ModelError
from modicum.models import timm_net
from modicum.models.timm_net import TimmNet, fetch

NAMES = ["test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_mambaout", "resnetv2_18"]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_weights_give_timms_logits(name: str) -> None:
    torch.manual_seed(0)
    fixed = {"img_size": 64} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    theirs = timm.create_model(name, num_classes=5, **fixed).eval()
    state = {k: v.clone() for k, v in theirs.state_dict().items()}
    ours = TimmNet(name, classes=5, channels=3, side=64, state=state).eval()
    x = torch.rand(2, 3, 64, 64)
    cfg = theirs.pretrained_cfg
    centred = (x - torch.tensor(cfg["mean"])[:, None, None]) / torch.tensor(cfg["std"])[:, None, None]
    with torch.no_grad():
        out, expected, whole = ours(x), theirs(centred), theirs.forward_features(centred)
    assert ours.notes == () and torch.allclose(out.logits, expected, atol=1e-5)
    assert torch.allclose(ours.head(out.features), out.logits) and torch.equal(ours.body(x), out.features)
    if whole.ndim == 4:
        nhwc = getattr(theirs, "output_fmt", "") == "NHWC"
        whole = whole.permute(0, 3, 1, 2) if nhwc else whole
        assert out.maps is not None and torch.allclose(out.maps, whole, atol=1e-5)
    else:
        assert out.maps is None


def test_another_number_of_classes_leaves_the_head_new() -> None:
    state = timm.create_model("test_resnet", num_classes=9).state_dict()
    net = TimmNet("test_resnet", classes=4, channels=3, side=32, state=state)
    assert net.head.weight.shape[0] == 4 and "new" in net.notes[0]
    assert torch.equal(net.model.conv1[0].weight, state["conv1.0.weight"])


def test_grey_images_sum_the_first_layer() -> None:
    state = timm.create_model("test_resnet", num_classes=4).state_dict()
    net = TimmNet("test_resnet", classes=4, channels=1, side=32, state=dict(state))
    assert torch.allclose(net.model.conv1[0].weight, state["conv1.0.weight"].sum(1, keepdim=True))
    assert "1 channels" in net.notes[0] and net.mean.shape == (1,)


def test_position_embeddings_are_resampled() -> None:
    state = timm.create_model("test_vit", num_classes=4).state_dict()
    net = TimmNet("test_vit", classes=4, channels=3, side=64, state=state)
    assert net.model.pos_embed.shape[1] == 17 and state["pos_embed"].shape[1] == 101
    assert torch.equal(net.model.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])


def test_weights_of_another_network_are_refused() -> None:
    state = timm.create_model("test_vit", num_classes=4).state_dict()
    with pytest.raises(ModelError, match="of another network"):
        TimmNet("test_resnet", classes=4, channels=3, side=32, state=state)


@pytest.mark.parametrize("name", ["resnet81", "resnet18.a1_in2k", "hf_hub:someone/thing", "local-dir:/", ""])
def test_unknown_names_are_refused_with_a_hint(name: str) -> None:
    with pytest.raises(ModelError, match="no network") as caught:
        TimmNet(name, classes=2, channels=3, side=32)
    assert caught.value.fix


def test_two_classifiers_are_refused() -> None:
    with pytest.raises(ModelError, match="not one linear layer"), torch.device("meta"):
        TimmNet("levit_128", classes=2, channels=3, side=224)


def test_an_unreachable_hub_is_one_quick_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def nobody(*_: object, **given: object) -> None:
        assert given["timeout"] == 3
        raise TimeoutError("timed out")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", nobody)
    start = time.perf_counter()
    with pytest.raises(ModelError, match=r"timed out[\s\S]*--weights FILE[\s\S]*--no-pretrained"):
        fetch("test_resnet.r160_in1k")
    assert time.perf_counter() - start < 4


def test_known_needs_a_real_tag() -> None:
    assert timm_net.known("resnet18") and timm_net.known("resnet18.a1_in1k") and not timm_net.known("resnet18.no")
