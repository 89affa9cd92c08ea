"""Networks that move boxes: what they answer and believe, which parts learn, and that they come back from disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError, NeedsError
from modicum.core.net import Net
from modicum.functional.boxes import decode, iou
from modicum.models import files
from modicum.models.doors import make
from modicum.nn.adjusting import FAR, NEAR, adjusting, known
from modicum.nn.regions import regional

IMAGE = torch.tensor([0, 0, 0, 1])
BOXES = torch.tensor([[4.0, 4, 20, 16], [0, 0, 33, 33], [20, 10, 30, 31], [8, 8, 16, 16]])


def built(name: str = "tiny-conv:width=4", wild: bool = True, **more: float) -> Net:
    torch.manual_seed(0)
    net = adjusting(make(name, classes=3, channels=3, side=33), **{"width": 16, "thin": 8, **more})  # type: ignore[arg-type]
    for k, stage in enumerate(net.mover.stages if wild else ()):
        nn.init.normal_(stage[-1].weight, std=3 * 3**k)
    return net


def pictures() -> Tensor:
    return torch.rand(2, 3, 33, 33, generator=torch.Generator().manual_seed(1))


def test_boxes_move_as_far_as_is_believed() -> None:
    net, x = built(stages=3).eval(), pictures()
    kinds = set()
    for stage in range(3):
        told, moved = net.offsets(x, BOXES, IMAGE, stage), net.adjust(x, BOXES, IMAGE, stage)
        held, good = net.moves(x, BOXES, IMAGE, stage)
        for m, box in enumerate(BOXES):
            cut = torch.tensor([min(max(v, -FAR), FAR) for v in told[m].tolist()])
            new = decode(cut, box)
            assert torch.equal(held[m], cut) and bool(good[m]) == bool(iou(new, box) >= NEAR)
            expected = new.clamp(0, 33) if good[m] else box
            assert torch.allclose(moved[m], expected)
            kinds |= {bool(good[m]), "cut" if cut.abs().max() == FAR else "whole"}
    assert kinds == {True, False, "cut", "whole"}
    assert not torch.equal(net.adjust(x, BOXES, IMAGE, 0), net.adjust(x, BOXES, IMAGE, 1))


def test_an_answer_rests_on_the_box_and_what_is_around_it() -> None:
    net, x = built(wild=False, around=1.5).eval(), pictures()
    many, one = net.offsets(x, BOXES, IMAGE, 0), net.offsets(x[1:], BOXES[3:], IMAGE[:1], 0)
    assert torch.allclose(many[3], one[0], atol=1e-6) and len(net.offsets(x, BOXES[:0], IMAGE[:0], 0)) == 0
    wider = built(wild=False, around=1.0).eval()
    grown = torch.tensor([[6.0, 6, 18, 18]])  # BOXES[3], half as large again
    assert torch.allclose(wider.offsets(x[1:], grown, IMAGE[:1], 0), one, atol=1e-5)


def test_what_it_is_used_for_leaves_no_trace() -> None:
    """In training mode it answers as in evaluation mode, and neither statistics nor modes move."""
    net, x = built(wild=False).train(), pictures()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    used = net.adjust(x, BOXES, IMAGE, 0)
    assert not used.requires_grad and all(m.training for m in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(used, net.eval().adjust(x, BOXES, IMAGE, 0))


def test_the_first_stage_learns_with_the_network_and_others_alone() -> None:
    net, x = built(wild=False, stages=2).train(), pictures()
    net.offsets(x, BOXES, IMAGE, 0).square().sum().backward()
    touched = {n for n, p in net.named_parameters() if p.grad is not None}
    assert {n for n, _ in net.named_parameters()} - touched == {
        n for n, _ in net.named_parameters() if n.startswith("mover.stages.1")
    }
    net.zero_grad(set_to_none=True)
    running = {k: v.clone() for k, v in net.named_buffers()}
    net.offsets(x, BOXES, IMAGE, 1).square().sum().backward()
    assert {n for n, p in net.named_parameters() if p.grad is not None} == {
        n for n, _ in net.named_parameters() if n.startswith("mover.stages.1")
    }
    assert all(torch.equal(v, running[k]) for k, v in net.named_buffers())


@pytest.mark.parametrize("name", ["tiny-conv:width=4", "resnet18"])
def test_it_comes_back_from_disk(name: str, tmp_path: Path) -> None:
    net, x = built(name, stages=2).eval(), pictures()
    files.save(net, tmp_path, classes=("a", "b", "c"))
    again, meta = files.load(tmp_path)
    assert meta["edits"] == [{"edit": "adjuster", "stages": 2, "width": 16, "thin": 8, "around": 1.5}]
    for stage in range(2):
        assert torch.equal(net.adjust(x, BOXES, IMAGE, stage), again.adjust(x, BOXES, IMAGE, stage))
    assert not again(x).logits.any() and again(x).logits.shape == (2, 3) and again(x).boxes is None


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="already"):
        adjusting(built())
    with pytest.raises(ModelError, match="already"):
        regional(built())
    plain = make("tiny-conv:width=4", classes=3, channels=3, side=16)
    for bad in ({"stages": 0}, {"stages": 9}, {"width": 0}, {"thin": True}, {"around": 0.5}, {"around": float("nan")}):
        with pytest.raises(ModelError, match="stages"):
            adjusting(plain, **bad)  # type: ignore[arg-type]
    files.save(built(), tmp_path)
    page = json.loads((tmp_path / "net.json").read_text())
    for key, value in (("stages", 10**9), ("width", -1), ("thin", "8"), ("around", 1e9), ("around", None)):
        changed = {**page, "edits": [{**page["edits"][0], key: value}]}
        (tmp_path / "net.json").write_text(json.dumps(changed))
        with pytest.raises(ModelError, match="cannot be built"):
            files.load(tmp_path)


def test_it_says_what_it_is_where_it_is_exported() -> None:
    with pytest.raises(Exception, match="finds none"):
        torch.export.export(built().eval(), (pictures(),), strict=False)


def test_true_boxes_are_those_that_the_view_shows() -> None:
    from modicum.core.batch import Boxes, Labels, Part, View

    xyxy = torch.tensor([[2.0, 2, 8, 8], [0, 0, 12, 4], [9, 0, 15, 6], [2, 2, 8, 8]])
    boxes = Boxes(xyxy, torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 1, 0], dtype=torch.int8), torch.zeros(4).long())
    affine = torch.tensor([[[0.5, 0, 0.0], [0, 0.5, 0]]])  # the upper left quarter, twice as large
    view = View(torch.zeros(1, 3, 20, 20), affine, torch.tensor([[20, 20]]))
    found = known(Part(torch.tensor([0]), {"weak": view}, Labels(torch.tensor([0]), boxes=boxes)))
    assert found.xyxy.tolist() == [[4, 4, 16, 16], [0, 0, 20, 8]] and found.cls.tolist() == [0, 1]
    with pytest.raises(NeedsError, match="no image has boxes"):
        known(Part(torch.tensor([0]), {"weak": view}, Labels(torch.tensor([0]))))


def test_a_stage_adds_to_those_before() -> None:
    net, x = built(wild=False, stages=3).eval(), pictures()
    first = net.offsets(x, BOXES, IMAGE, 0)
    assert first.any() and all(torch.equal(net.offsets(x, BOXES, IMAGE, k), first) for k in (1, 2))
    with torch.no_grad():
        net.mover.stages[1][-1].bias += 1.0
        net.mover.stages[2][-1].bias += torch.tensor([0.5, 0, 0, 0])
    for k, more in enumerate(([0, 0, 0, 0], [1, 1, 1, 1], [1.5, 1, 1, 1])):
        assert torch.allclose(net.offsets(x, BOXES, IMAGE, k), first + torch.tensor(more))
