"""torchvision's detectors over our networks: they are torchvision's, answer in view pixels, and come back from disk."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.models import files
from modicum.models.doors import make
from modicum.nn.capture import explain
from modicum.nn.detect import detecting
from modicum.nn.torchvision_detect import KINDS, visioned

NETS = ("tiny-conv:width=4", "tiny-res", "resnet18", "mobilenetv2_100")
SIDE = 64


def built(kind: str, name: str = "tiny-conv:width=4", side: int = SIDE, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return visioned(make(name, classes=3, channels=3, side=side), kind, 64, 4)


def targets() -> list[dict[str, Tensor]]:
    boxes = torch.tensor([[4.0, 4, 40, 30], [20.0, 22, 60, 63]])
    return [{"boxes": boxes, "labels": torch.tensor([0, 2])}, {"boxes": boxes[:0], "labels": torch.zeros(0).long()}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETS)
def test_every_level_and_every_part_learns(kind: str, name: str) -> None:
    net = built(kind, name).train()
    levels: list[Tensor] = []
    seen = net.seen

    def kept(x: Tensor) -> Any:
        maps, mine = seen(x)
        for m in mine:
            m.retain_grad()
        levels.extend(mine)
        return maps, mine

    net.seen = kept
    torch.manual_seed(1)
    found = net.losses(torch.rand(2, 3, SIDE, SIDE), targets())
    torch.stack([share.mean for share in found.values()]).sum().backward()
    used = len(net.vision.backbone.fpn.inner_blocks)
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in levels[-used:])
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.vision.parameters())
    assert all(share.over > 0 for share in found.values()) and used == (1 if name.startswith("tiny") else 3)


class Plain(nn.Module):
    """A backbone for torchvision's own model: the same network and pyramid, by a plain call."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.fpn, self.out_channels = [net], net.vision.backbone.fpn, 64

    def forward(self, x: Tensor) -> Any:
        net = self.net[0]
        levels = net.levels((x - net.mean[:, None, None]) / net.std[:, None, None])[1]
        return self.fpn({str(i): m for i, m in enumerate(levels[-len(self.fpn.inner_blocks) :])})


def theirs(kind: str, net: Any) -> Any:
    """torchvision's own model with the weights of ours, its own transform told to leave images as they are."""
    steps = [8, 16, 32]  # of resnet18's last three levels
    given: dict[str, Any] = {"min_size": SIDE, "max_size": SIDE, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    if kind == "fcos":
        anchors = AnchorGenerator(tuple((s,) for s in (*steps, 64, 64)), ((1.0,),) * 5)
        model: Any = FCOS(Plain(net), 3, anchor_generator=anchors, score_thresh=0.05, **given)
    else:
        anchors = AnchorGenerator(tuple((8 * s,) for s in (*steps, 64)), ((0.5, 1.0, 2.0),) * 4)
        pool = torchvision.ops.MultiScaleRoIAlign(["0", "1", "2"], 4, 2)
        head = copy.deepcopy(net.vision.roi_heads)
        model = FasterRCNN(
            Plain(net), rpn_anchor_generator=anchors, box_roi_pool=pool, box_head=head.box_head,
            box_predictor=head.box_predictor, **given,
        )  # fmt: skip
    model.load_state_dict(net.vision.state_dict())
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_torchvisions_own_model(kind: str) -> None:
    net = built(kind, "resnet18")
    other = theirs(kind, net)
    x, first = torch.rand(2, 3, SIDE, SIDE), int(kind == "faster-rcnn")
    torch.manual_seed(3)
    ours = net.eval().losses(x, targets())  # the network's own norms stay as they are
    torch.manual_seed(3)
    told = [{**t, "labels": t["labels"] + first} for t in targets()]
    expected = other.train()(list(x), told)
    assert {k: s.mean.item() for k, s in ours.items()} == pytest.approx({k: v.item() for k, v in expected.items()})
    with torch.no_grad():
        boxes, answers = net(x).boxes, other.eval()(list(x))
    assert len(boxes.cls) > 5
    for i, answer in enumerate(answers):
        mine = boxes.image == i
        assert torch.allclose(boxes.xyxy[mine], answer["boxes"], atol=1e-3)
        assert torch.equal(boxes.cls[mine], answer["labels"] - first)
        assert torch.allclose(boxes.score[mine], answer["scores"], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_a_box_and_says_it_in_pixels_of_the_view(kind: str) -> None:
    net = built(kind, side=32).train()
    x = torch.full((2, 3, 32, 48), 0.2)
    frames = torch.tensor([[[6.0, 4, 22, 20]], [[26.0, 10, 42, 26]]])
    for image, frame in zip(x, frames[:, 0].int().tolist(), strict=True):
        image[:, frame[1] : frame[3], frame[0] : frame[2]] = 0.9
    said = [{"boxes": f, "labels": torch.tensor([i])} for i, f in enumerate(frames)]
    steps = torch.optim.AdamW(net.parameters(), 3e-3)
    for step in range(60):
        torch.manual_seed(step)
        steps.zero_grad()
        sum(share.mean for share in net.losses(x, said).values()).backward()  # type: ignore[union-attr]
        steps.step()
    net.eval()
    with torch.no_grad():
        out = net(x)
    for i in range(2):
        best = (out.boxes.image == i).nonzero()[0, 0]  # each image's best comes first
        assert (out.boxes.xyxy[best] - frames[i, 0]).abs().max() < 4
    assert out.logits.shape == (2, 3) and out.logits.isfinite().all()
    assert (out.boxes.score <= 1).all() and (out.boxes.image.diff() >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_leaves_the_generator_and_the_modes_as_they_were(kind: str) -> None:
    net, x = built(kind, "resnet18").train(), torch.rand(2, 3, SIDE, SIDE)
    state, modes = torch.get_rng_state(), [m.training for m in net.modules()]
    one = net.losses(x, targets())
    assert torch.equal(state, torch.get_rng_state())
    two = net.losses(x, targets())
    assert {k: s.mean.item() for k, s in one.items()} == {k: s.mean.item() for k, s in two.items()}
    out = net(x)
    assert out.boxes is None and modes == [m.training for m in net.modules()]


@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_back_from_disk(kind: str, tmp_path: Path) -> None:
    net = built(kind, "resnet18", 33).eval()
    files.save(net, tmp_path, classes=("a", "b", "c"), tells="boxes")
    again, meta = files.load(tmp_path)
    assert meta["edits"] == [{"edit": "torchvision", "kind": kind, "width": 64, "cells": 4}]
    x = torch.rand(2, 3, 33, 33)
    one, two = net(x), again(x)
    assert torch.equal(one.logits, two.logits) and torch.equal(one.boxes.xyxy, two.boxes.xyxy)
    assert torch.equal(one.boxes.score, two.boxes.score) and len(one.boxes.cls) > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [1, 3, 16])
def test_any_side(kind: str, side: int) -> None:
    net = built(kind, side=side).eval()
    for x in (torch.rand(1, 3, side, side), torch.rand(1, 3, side + 7, side + 2)):
        with torch.no_grad():
            out = net(x)
        assert out.logits.isfinite().all()
        assert (out.boxes.xyxy[:, 2] <= x.shape[-1]).all() and (out.boxes.xyxy[:, 3] <= x.shape[-2]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_where_it_looks_can_be_asked(kind: str) -> None:
    net = built(kind, side=32).eval()
    if kind == "faster-rcnn":
        nn.init.normal_(net.vision.roi_heads.box_predictor.cls_score.weight, std=0.1)
    else:
        nn.init.zeros_(net.vision.head.classification_head.cls_logits.bias)  # so that each class has boxes
    maps = explain(net, torch.rand(2, 3, 32, 32), torch.tensor([[0, 1, 2]] * 2), "grad-cam").maps
    assert [m.shape for m in maps.values()] == [(2, 3, 8, 8)]
    assert all(m.isfinite().all() and m.std() > 0 for m in maps.values())


@pytest.mark.parametrize(
    ("kind", "width", "cells"), [("yolo", 64, 7), ("fcos", 32, 7), ("fcos", 65, 7), ("fcos", 64, 1)]
)
def test_what_cannot_be_built_is_said(kind: str, width: int, cells: int) -> None:
    with pytest.raises(ModelError, match="width"):
        visioned(make("tiny-conv", classes=3, channels=3, side=32), kind, width, cells)


def test_one_head_a_network() -> None:
    net: Net = detecting(make("tiny-conv", classes=3, channels=3, side=32))
    with pytest.raises(ModelError, match="already"):
        visioned(net, "fcos", 64, 7)


def test_export_is_refused() -> None:
    with pytest.raises(Exception, match="cannot be exported"):
        torch.export.export(built("fcos").eval(), (torch.rand(1, 3, SIDE, SIDE),))
