"""Networks that read regions: what they say, and that they are built, saved and loaded as what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.functional.boxes import iou, unpacked
from modicum.functional.seeds import scored
from modicum.models import files
from modicum.models.doors import make
from modicum.nn import regions
from modicum.nn.drop import ConcreteDrop, place
from modicum.nn.regions import MOST, TAU, TOP, in_view, proposals, regional

NETS = ("tiny-conv:width=4", "tiny-res", "resnet18", "mobilenetv2_100")


def built(name: str = "tiny-conv:width=4", side: int = 33, heads: int = 2, sides: bool = True, **more: object) -> Net:
    torch.manual_seed(0)
    net = make(name, classes=3, channels=3, side=side)
    return regional(net, heads, sides, 16, 8, **{"most": 40, **more})  # type: ignore[arg-type]


def pictures(n: int = 2, side: int = 33) -> torch.Tensor:
    """Squares on noise."""
    luck = torch.Generator().manual_seed(3)
    x = 0.3 + 0.02 * torch.randn(n, 3, side, side, generator=luck)
    x[:, 0, 5:16, 8:20] = 0.9
    x[1:, 2, 18:30, 4:14] = 0.8
    return x.clamp(0, 1)


@pytest.mark.parametrize("name", NETS)
def test_it_answers_and_every_part_of_the_reader_learns(name: str) -> None:
    net, x = built(name, 64).train(), pictures(2, 64)
    assert net(x).boxes is None and net(x).logits.shape == (2, 3)
    xyxy, image = unpacked(net.proposed(x))
    said = net.regions(x, xyxy, image)
    m = len(xyxy)
    assert said.what.shape == said.where.shape == (m, 3)
    assert [r.shape for r in said.refined] == [(m, 4)] * 2 and [o.shape for o in said.offsets] == [(m, 3, 4)] * 2
    values = [said.what, said.where, *said.refined, *(o.flatten(1) for o in said.offsets)]
    torch.cat(values, 1).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.reader.parameters())
    assert sum(p.grad is not None for p in net.parameters()) > 0.9 * len(list(net.parameters()))


def test_boxes_against_a_plain_loop() -> None:
    net, x = built(heads=2, sides=False).eval(), pictures()
    torch.nn.init.normal_(net.reader.refined[0].weight, std=1)
    out, column = net(x), net.proposed(x)
    xyxy, image = unpacked(column)
    said = net.regions(x, xyxy, image)
    scores = sum(r.softmax(1)[:, :3] for r in said.refined) / 2
    expected = []
    for b in range(2):
        kept: list[tuple[float, int, int]] = []
        for c in range(3):
            mine = sorted((m for m in range(len(xyxy)) if image[m] == b), key=lambda m: -scores[m, c].item())[:TOP]
            taken: list[int] = []
            for m in mine:
                if all(iou(xyxy[m], xyxy[t]) <= TAU for t in taken):
                    taken.append(m)
            kept += [(scores[m, c].item(), c, m) for m in taken]
        expected += [(b, *k) for k in sorted(kept, reverse=True)[:MOST]]
    assert out.boxes.image.tolist() == [e[0] for e in expected] and out.boxes.cls.tolist() == [e[2] for e in expected]
    assert out.boxes.score.tolist() == pytest.approx([e[1] for e in expected], rel=1e-4)
    assert torch.allclose(out.boxes.xyxy, xyxy[[e[3] for e in expected]])
    whole = scored(said.what, said.where, image, 2)
    for b in range(2):
        s = whole[image == b].sum(0)
        assert torch.allclose(out.logits[b], (s / (1 - s)).log(), atol=1e-4)


def test_without_refinements_the_first_scores_count() -> None:
    net, x = built(heads=0, sides=False).eval(), pictures(1)
    out = net(x)
    xyxy, image = unpacked(net.proposed(x))
    said = net.regions(x, xyxy, image)
    assert out.boxes.score.max().item() == pytest.approx(scored(said.what, said.where, image, 1).max().item())


def test_an_answer_depends_on_its_own_image_alone() -> None:
    net, x = built().eval(), pictures(3)
    one, all_ = net(x[1:2]), net(x)
    mine = all_.boxes.image == 1
    assert torch.allclose(one.logits[0], all_.logits[1], atol=1e-5)
    assert torch.allclose(one.boxes.xyxy, all_.boxes.xyxy[mine], atol=1e-3)


def test_proposals_begin_with_the_whole_image_and_stay_within_it() -> None:
    black = np.zeros((20, 30, 3), np.uint8)
    for find in ("regions", "one", "grid"):
        boxes = proposals(black, find, 7)
        assert boxes[0].tolist() == [0, 0, 30, 20] and len(boxes) <= 7
    assert len(proposals(black, "regions", 7)) == 1 and len(proposals(black, "grid", 7)) == 7
    x = pictures()
    found = built().proposed(x)
    assert found.shape == (2, 40, 4) and found.nan_to_num(0).amax() == 33 and found.nan_to_num(0).amin() == 0
    best = [iou(torch.tensor([8.0, 5, 20, 16]), f[~f.isnan().any(1)]).max() for f in found]
    assert min(best) > 0.9


def test_remembered_proposals_are_those_that_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    luck = np.random.default_rng(0)
    some = [luck.integers(0, 255, (16, 16, 3)).astype(np.uint8) for _ in range(4)]
    monkeypatch.setattr(regions, "KEPT", 2)
    monkeypatch.setattr(regions, "_kept", {})
    first = [proposals(i, "one", 20) for i in some]
    assert len(regions._kept) == 2
    assert all(np.array_equal(a, proposals(i, "one", 20)) for a, i in zip(first, some, strict=True))
    assert len(proposals(some[0], "one", 3)) <= 3 and not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("name", ["tiny-conv:width=4", "resnet18"])
def test_it_comes_back_from_disk(name: str, tmp_path: Path) -> None:
    net, x = built(name).eval(), pictures()
    files.save(net, tmp_path, classes=("a", "b", "c"), tells="boxes")
    again, meta = files.load(tmp_path)
    assert meta["edits"] == [
        {"edit": "regions", "heads": 2, "sides": True, "width": 16, "thin": 8, "most": 40, "find": "regions"}
    ]
    one, two = net(x), again(x)
    assert torch.equal(one.logits, two.logits) and torch.equal(one.boxes.xyxy, two.boxes.xyxy)
    assert torch.equal(one.boxes.score, two.boxes.score) and len(one.boxes.cls) > 2


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="already"):
        regional(built())
    plain = make("tiny-conv:width=4", classes=3, channels=3, side=16)
    for bad in ({"width": 0}, {"heads": 9}, {"find": "luck"}, {"most": 0}):
        with pytest.raises(ModelError, match="refinements"):
            regional(plain, **bad)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="does not show"):
        regional(make("tiny-vit:depth=2,width=8", classes=3, channels=3, side=16))
    files.save(built(), tmp_path)
    page = json.loads((tmp_path / "net.json").read_text())
    for key, bad in (("width", -1), ("most", 10**9), ("find", "../x"), ("sides", 3), ("heads", None)):
        changed = {**page, "edits": [{**page["edits"][0], key: bad}]}
        (tmp_path / "net.json").write_text(json.dumps(changed))
        with pytest.raises(ModelError, match="cannot be built"):
            files.load(tmp_path)


def test_it_says_what_to_do_where_it_is_exported() -> None:
    net = built().eval()
    with pytest.raises(Exception, match="Train a detector"):
        torch.export.export(net, (pictures(1),), strict=False)


def test_hidden_cells_hurt_and_keep_the_mean() -> None:
    torch.manual_seed(0)
    drop, maps = ConcreteDrop(4, 0.5), torch.rand(6, 4, 7, 7, requires_grad=True)
    luck = torch.rand(6, 7, 7)
    out = drop(maps, luck)
    scale = (out / maps)[:, 0]
    assert torch.allclose(scale.mean((1, 2)), torch.ones(6), atol=1e-5) and (scale < 0.1).any()
    before = out.sum()
    before.backward()
    with torch.no_grad():
        for p in drop.parameters():
            assert p.grad is not None and p.grad.abs().sum() > 0
            p -= 1e-2 * p.grad
    assert drop(maps, luck).sum() > before, "a step down the gradient makes the loss larger"
    assert torch.allclose(ConcreteDrop(4, 0.0)(maps, luck), maps, atol=1e-2)
    assert place(torch.tensor([0, 0, 2, 2, 2])).tolist() == [0, 1, 0, 1, 2]


def test_only_what_a_view_still_shows_is_read() -> None:
    from modicum.core.batch import Labels, Part, View

    column = torch.tensor([[[0.0, 0, 20, 10], [0, 0, 4, 4], [12, 2, 18, 8]]])
    affine = torch.tensor([[[0.5, 0, 10.0], [0, 0.5, 0]]])  # the right half of the image, twice as large
    view = View(torch.zeros(1, 3, 20, 20), affine, torch.tensor([[10, 20]]))
    part = Part(torch.tensor([0]), {"weak": view}, Labels(torch.tensor([0])), {"proposals": column})
    xyxy, image = in_view(part, "weak")
    assert xyxy.tolist() == [[0, 0, 20, 20], [4, 4, 16, 16]] and image.tolist() == [0, 0]


def test_a_fast_head_tells_class_and_place(tmp_path: Path) -> None:
    net, plain, x = built(sides=False, fast=True).eval(), built(sides=False).eval(), pictures()
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in plain.state_dict().items()), "it is built last"
    xyxy, image = unpacked(net.proposed(x))
    logits, offsets = net.regions(x, xyxy, image).fast
    assert logits.shape == (len(xyxy), 4) and not offsets.any(), "boxes stay until it has learned to move them"
    assert plain.regions(x, xyxy, image).fast is None
    with torch.no_grad():
        net.reader.fast.weight[:4] *= 100
        net.reader.fast.bias[-4:] = torch.tensor([1.0, 0, 0, -1.0])  # a tenth of a side to the right, flatter
    files.save(net, tmp_path, classes=("a", "b", "c"), tells="boxes")
    again = files.load(tmp_path)[0]
    said, out = again.regions(x, xyxy, image), again(x)
    heads = [*said.refined, said.fast[0]]
    score = sum(h.softmax(1)[:, :3] for h in heads) / 3
    top = out.boxes.score.argmax()
    assert out.boxes.score[top].item() == pytest.approx(score.max().item(), rel=1e-5)
    x0, y0, x1, y1 = xyxy[score.max(1).values.argmax()].tolist()
    flat = (y1 - y0) * (1 - np.exp(-0.2)) / 2
    moved = [x0 + 0.1 * (x1 - x0), y0 + flat, x1 + 0.1 * (x1 - x0), y1 - flat]
    assert out.boxes.xyxy[top].tolist() == pytest.approx(np.clip(moved, 0, 33).tolist(), abs=1e-3)
