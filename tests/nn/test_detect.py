"""Networks with a dense head: what they say, and that they are built, saved and loaded as what they are."""

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
from modicum.nn.detect import LEAST, Dense, detecting, found
from modicum.nn.segment import segmenting

NETS = ("tiny-conv:width=4", "tiny-res", "wrn-28-2", "resnet18", "mobilenetv2_100", "convnext_atto")


def built(name: str, side: int = 33, classes: int = 3, channels: int = 3, width: int = 16) -> Net:
    torch.manual_seed(0)
    return detecting(make(name, classes=classes, channels=channels, side=side), width, 1)


@pytest.mark.parametrize("name", NETS)
def test_each_position_gets_an_answer_and_every_part_of_the_head_learns(name: str) -> None:
    net = built(name, 64).train()
    x = torch.rand(2, 3, 64, 64)
    out = net(x)
    assert out.boxes is None and out.logits.shape == (2, 3)
    said = net.dense(x)
    positions = len(said.at)
    assert said.logits.shape == (2, positions, 3) and said.far.shape == (2, positions, 4) and (said.far > 0).all()
    assert said.middle.shape == (2, positions) and said.stride.shape == (positions,)
    for stride in said.stride.unique():
        here = said.at[said.stride == stride]
        assert (
            len(here) == (64 / stride) ** 2
            and (here.amin(0) == stride / 2).all()
            and (here.amax(0) == 64 - stride / 2).all()
        )
    assert 64 / said.stride.max() <= LEAST
    (said.logits.square().mean() + said.far.square().mean() + said.middle.square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.detector.parameters())
    assert sum(p.grad is not None for p in net.parameters()) > 0.9 * len(list(net.parameters()))


@pytest.mark.parametrize("side", [1, 2, 3, 5, 16, 64])
def test_any_side(side: int) -> None:
    net = built("tiny-conv:width=4", side).eval()
    for x in (torch.rand(1, 3, side, side), torch.rand(1, 3, side + 7, side + 2)):
        out = net(x)
        assert out.boxes is not None and out.logits.isfinite().all() and (net.dense(x).at > 0).all()


def test_an_answer_depends_on_its_own_image_alone() -> None:
    net, x = built("tiny-conv:width=4", 32).eval(), torch.rand(3, 3, 32, 32)
    for one, all_ in zip(net.dense(x[1:2])[:3], net.dense(x)[:3], strict=True):
        assert torch.allclose(one[0], all_[1], atol=1e-5)


def said(n: int = 40, images: int = 3, classes: int = 2, seed: int = 0) -> Dense:
    luck = torch.Generator().manual_seed(seed)
    at = torch.rand(n, 2, generator=luck) * 32
    logits, middle = (torch.randn(*shape, generator=luck) for shape in ((images, n, classes), (images, n)))
    return Dense(logits, middle, 8 * torch.rand(images, n, 4, generator=luck), at, torch.full((n,), 4.0))


def test_boxes_against_a_plain_loop() -> None:
    given = said()
    boxes = found(given, (32, 30), least=0.4, tau=0.3, top=25, most=7)
    expected = []
    for b in range(3):
        every = []
        for p, (x, y) in enumerate(given.at.tolist()):
            left, up, right, down = given.far[b, p].tolist()
            box = (max(x - left, 0), max(y - up, 0), min(x + right, 30), min(y + down, 32))
            for c in range(2):
                sure = (given.logits[b, p, c].sigmoid() * given.middle[b, p].sigmoid()).sqrt().item()
                every.append((sure, c, box))
        best = [e for e in sorted(every, reverse=True)[:25] if e[0] > 0.4]
        stay: list[tuple[float, int, tuple[float, ...]]] = []
        for sure, c, box in best:
            if all(c != k or overlap(box, other) <= 0.3 for _, k, other in stay):
                stay.append((sure, c, box))
        expected += [(b, *e) for e in stay[:7]]
    assert boxes.score is not None and boxes.image.tolist() == [e[0] for e in expected]
    assert boxes.score.tolist() == pytest.approx([e[1] for e in expected]) and boxes.cls.tolist() == [
        e[2] for e in expected
    ]
    assert torch.allclose(boxes.xyxy, torch.tensor([e[3] for e in expected]), atol=1e-5)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    both = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_nothing_found_is_no_box() -> None:
    boxes = found(said(), (32, 32), least=1.0)
    assert boxes.xyxy.shape == (0, 4) and boxes.score is not None and len(boxes.score) == len(boxes.image) == 0


@pytest.mark.parametrize("name", ["tiny-conv:width=4", "tiny-res", "resnet18"])
def test_it_comes_back_from_disk(name: str, tmp_path: Path) -> None:
    net = built(name).eval()
    torch.nn.init.constant_(net.detector.cells.bias, 0.0)  # so that there are boxes
    files.save(net, tmp_path, classes=("a", "b", "c"), tells="boxes")
    again, meta = files.load(tmp_path)
    assert meta["edits"] == [{"edit": "detector", "width": 16, "depth": 1}] and meta["tells"] == "boxes"
    x = torch.rand(2, 3, 33, 33)
    one, two = net(x), again(x)
    assert torch.equal(one.logits, two.logits) and torch.equal(one.features, two.features)
    assert torch.equal(one.boxes.xyxy, two.boxes.xyxy) and torch.equal(one.boxes.score, two.boxes.score)
    assert len(one.boxes.cls) > 2


def test_where_it_looks_can_be_asked() -> None:
    net = built("tiny-conv:width=4", 32).eval()
    maps = explain(net, torch.rand(2, 3, 32, 32), torch.tensor([[0, 1, 2]] * 2), "grad-cam").maps
    assert [m.shape for m in maps.values()] == [(2, 3, 8, 8)] and all(m.std() > 0 for m in maps.values())


def test_what_is_refused(tmp_path: Path) -> None:
    plain = make("tiny-conv:width=4", classes=3, channels=3, side=16)
    for bad in (built("tiny-conv:width=4"), segmenting(make("tiny-conv:width=4", classes=3, channels=3, side=16))):
        with pytest.raises(ModelError, match="already"):
            detecting(bad)
    with pytest.raises(ModelError, match="width 0"):
        detecting(plain, 0)
    with pytest.raises(ModelError, match="does not show"):
        detecting(make("tiny-vit:depth=2,width=8", classes=3, channels=3, side=16))
    files.save(built("tiny-conv:width=4"), tmp_path)
    page = json.loads((tmp_path / "net.json").read_text())
    for width in (-1, 10**9, "many", None):
        page["edits"][0]["width"] = width
        (tmp_path / "net.json").write_text(json.dumps(page))
        with pytest.raises(ModelError, match="cannot be built"):
            files.load(tmp_path)
