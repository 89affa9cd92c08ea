"""Methods that learn maps from image-level labels: each loss against a plain loop over images, from the equations."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.batch import Labels
from modicum.core.errors import ModelError
from modicum.core.loss import value
from modicum.core.net import Net
from modicum.core.program import Train
from modicum.functional.losses import binary_cross_entropy
from modicum.functional.patches import cut, joined, patchwise
from modicum.models import files
from modicum.models.doors import make
from modicum.nn.capture import explain
from modicum.nn.stages import constant, patched, placed
from modicum.testing import toy
from modicum.testing.case import Case, Scene, losses

NETS = ("tiny-conv:width=4", "tiny-res:depth=16,width=1", "wrn-28-2")
TAGS = Case.open("tagger").facts


def scene(name: str, world: Any = None, steps: int = 3, **settings: Any) -> Scene:
    """One step of the method on toy data, nets and batch as they are in the middle of training."""
    case = Case.open(name)
    loop = case.loop(world, method=case.method(**settings), recipe=case.recipe(8))
    phase = loop.program[-1]
    assert isinstance(phase, Train)
    loop.optimisers[0] = loop.fresh(phase, loop.nets)
    loop.nets.train()
    for step in range(steps):
        loop.step(phase, loop.nets, loop.clock(phase, 0, step))
    batch = {n: loop.feed.draw(s, n, steps) for n, s in phase.streams.items()}
    return Scene(loop, loop.nets, phase, loop.clock(phase, 0, steps), batch)


def small(name: str = NETS[0], side: int = 16) -> Net:
    torch.manual_seed(0)
    return make(name, classes=3, channels=3, side=side)


# -- labels ----------------------------------------------------------------------------------------------------------


def test_an_unknown_tag_is_not_an_absent_one_and_a_class_tells_every_tag() -> None:
    cls = torch.tensor([1, -1, -1, 2])
    tags = torch.tensor([[-1, -1, -1], [1, -1, 0], [-1, -1, -1], [-1, 1, -1]], dtype=torch.int8)
    assert Labels(cls, tags=tags).tagged(3).tolist() == [[0, 1, 0], [1, -1, 0], [-1, -1, -1], [0, 1, 1]]
    assert Labels(cls).tagged(3).tolist() == [[0, 1, 0], [-1] * 3, [-1] * 3, [0, 0, 1]]
    logits = torch.randn(4, 3, requires_grad=True)
    values, known = binary_cross_entropy(logits, Labels(cls, tags=tags).tagged(3))
    assert known.tolist() == [[1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]]
    values.sum().backward()
    assert logits.grad is not None and bool(
        (logits.grad[known == 0] == 0).all() and (logits.grad[known == 1] != 0).all()
    )


@pytest.mark.parametrize("kind", ["tags", "class"])
def test_tagger_is_a_plain_loop_over_known_tags(kind: str) -> None:
    world = toy.world(TAGS if kind == "tags" else Case.open("bas").facts)
    at = scene("tagger", world)
    part, net = at.batch["l"], copy.deepcopy(at.nets["net"])
    logits, expected, known = net(part["weak"]).logits.detach(), 0.0, 0
    for i, row in enumerate(part.rows.tolist()):
        for c in range(3):
            p = float(torch.sigmoid(logits[i, c]))
            expected -= np.log(p if world.truth[row] == c else 1 - p)
            known += 1
    term = at.loop.method.loss(at.nets, at.batch, at.clock)["labelled"]
    assert float(term.total.detach()) == pytest.approx(expected, rel=1e-4) and float(term.count) == known
    assert term.weight == 3


def test_tags_that_nobody_gave_do_not_count() -> None:
    at = scene("tagger", toy.world(TAGS))
    part = at.batch["l"]
    assert part.labels.tags is not None
    other = part.labels.tags.clone()
    other[::2, 1] = -1
    less = at.loop.method.loss(at.nets, {"l": replace(part, labels=replace(part.labels, tags=other))}, at.clock)
    assert float(less["labelled"].count) == 3 * len(part.rows) - len(part.rows[::2])


# -- stages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_the_two_stages_are_the_network(name: str) -> None:
    net, x = small(name).train(), torch.rand(4, 3, 16, 16)
    other = copy.deepcopy(net)
    early = other.early(other.normalise(x))
    out = net(x)
    assert early.shape[2:] == (8, 8) and out.maps is not None and torch.equal(other.late(early), out.maps)
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), other.buffers(), strict=True))


def test_networks_without_early_maps_are_refused_in_words() -> None:
    class Plain(Net):
        pass

    for change in (placed, lambda net: patched(net, [2])):
        with pytest.raises(ModelError, match="does not show its maps before the last stage"):
            net = Plain(3)
            net.spec = {"args": {"classes": 2, "channels": 3, "side": 8}, "edits": []}
            change(net)


@pytest.mark.parametrize("change", [placed, lambda net: patched(net, [2]), lambda net: patched(net, [1, 2, 4])])
def test_a_changed_network_is_saved_copied_and_the_same_again(change: Any, tmp_path: Path) -> None:
    net, x = change(small()).eval(), torch.rand(2, 3, 16, 16)
    files.save(net, tmp_path, classes=("a", "b", "c"))
    for again in (files.load(tmp_path)[0], copy.deepcopy(net)):
        assert type(again) is type(net) and again.spec["edits"] == net.spec["edits"]
        ours, theirs = net(x), again(x)
        assert torch.equal(ours.logits, theirs.logits)
        assert (ours.places is None) == (theirs.places is None)
        assert ours.places is None or torch.equal(ours.places, theirs.places)
    with pytest.raises(ModelError, match="already"):
        change(net)


@pytest.mark.parametrize("grids", [[], [0], [1, 1], [65], [2.0], ["2"], list(range(1, 66))])
def test_grids_from_a_file_are_checked(grids: list[Any]) -> None:
    with pytest.raises(ModelError, match="not allowed"):
        patched(small(), grids)


def test_constant_weights_get_no_gradient_and_come_back() -> None:
    net, x = small().eval(), torch.rand(2, 3, 16, 16, requires_grad=True)
    net.stages[0].requires_grad_(False)
    learning = [p.requires_grad for p in net.parameters()]
    begun = net(x.detach()).logits.sum()
    with constant(net):
        net(x).logits.sum().backward()
    assert x.grad is not None and all(p.grad is None for p in net.parameters())
    assert [p.requires_grad for p in net.parameters()] == learning
    begun.backward()  # what was computed before still reaches the weights
    assert net.head.weight.grad is not None


# -- BAS -------------------------------------------------------------------------------------------------------------


def slow_bas(at: Scene, labels: list[tuple[int, int]], many: bool) -> dict[str, float]:
    """Its terms one image and class at a time; batch norm's statistics are taken once, over the batch."""
    net, x = copy.deepcopy(at.nets["net"]), at.batch["l"]["weak"]
    fixed = copy.deepcopy(net).eval()  # running statistics as before this step's forward
    out = {"background": 0.0, "foreground": 0.0, "area": 0.0}
    with torch.no_grad():
        early = net.early(net.normalise(x))
        late = net.late(early)
        fixed.load_state_dict(net.state_dict())  # the step's own forward has moved them
        conv = net.generator[0]
        for i, c in labels:
            m = torch.sigmoid(F.conv2d(early[i : i + 1], conv.weight[c : c + 1], conv.bias[c : c + 1], padding=1))[0, 0]
            score = max(0.0, float(net.head(late[i].mean((1, 2)))[c]))
            rest = max(0.0, float(fixed.head(fixed.late((early[i] * (1 - m))[None])[0].mean((1, 2)))[c]))
            out["background"] += 1.0 if rest > score else rest / (score + 1e-8)
            small_m = m.reshape(late.shape[2], 2, late.shape[3], 2).mean((1, 3))
            logits = net.head((late[i] * small_m).mean((1, 2)))
            out["foreground"] -= float(F.logsigmoid(logits[c]) if many else logits.log_softmax(0)[c])
            out["area"] += float(m.mean())
    return out


@pytest.mark.parametrize("kind", ["class", "tags"])
def test_bas_is_a_plain_loop_over_images_and_their_classes(kind: str) -> None:
    at = scene("bas", toy.world(Case.open("bas").facts if kind == "class" else TAGS), labels=kind)
    part = at.batch["l"]
    pairs = [(i, int(toy.pictures()[1][row])) for i, row in enumerate(part.rows.tolist())]
    if kind == "tags":  # one image shows two classes, of another nothing is known
        assert part.labels.tags is not None
        tags = part.labels.tags.clone()
        tags[0], tags[1] = 1, -1
        part = replace(part, labels=replace(part.labels, tags=tags))
        pairs = [(0, 0), (0, 1), (0, 2), *pairs[2:]]
    at = replace(at, batch={"l": part})
    expected = slow_bas(at, pairs, kind == "tags")
    found = at.losses()[0]
    weights = {"background": 1.0, "foreground": 0.5, "area": 1.0}
    for name, total in expected.items():
        term = found[name]
        assert float(term.total.detach()) == pytest.approx(total, rel=1e-4), name
        assert term.count == len(pairs) and term.weight == weights[name]


def test_the_background_teaches_the_map_alone_and_foreground_and_area_all_before_it() -> None:
    at = scene("bas")

    def pulled(name: str) -> set[str]:
        at.nets.zero_grad(set_to_none=True)
        at.loop.method.loss(at.nets, at.batch, at.clock)[name].total.backward()
        return {k for k, p in at.nets["net"].named_parameters() if p.grad is not None and bool(p.grad.any())}

    every = {k for k, _ in at.nets["net"].named_parameters()}
    generator = {k for k in every if k.startswith("generator.")}
    last = {k for k in every if k.startswith(("stages.3.", "stages.4.", "head."))}
    assert pulled("labelled") == every - generator
    background = pulled("background")
    assert generator <= background and not background & last
    assert generator | {"head.weight"} <= pulled("foreground")
    assert generator <= pulled("area") and not pulled("area") & last


def test_the_classifier_learns_first_and_nothing_is_asked_of_the_map_before() -> None:
    case = Case.open("bas")
    loop = case.loop(method=case.method(after=0.5), steps=6)
    assert [(p.name, p.steps) for p in loop.program if isinstance(p, Train)] == [("classifier", 3), ("train", 3)]
    drawn, seen = loop.nets["net"].generator[0].weight.detach().clone(), list[bool]()
    loop.tick = lambda *_: seen.append(torch.equal(loop.nets["net"].generator[0].weight, drawn))
    loop.run()
    assert seen == [True] * 3 + [False] * 3
    for after, steps in ((0.0, [("train", 6)]), (1.0, [("classifier", 6)])):
        method = case.method(after=after)
        assert [(p.name, p.steps) for p in method.program(loop.info)] == steps  # type: ignore[union-attr]


def test_no_term_but_the_labels_moves_a_running_statistic() -> None:
    at = scene("bas")
    plain, ours = copy.deepcopy(at.nets["net"]), at.nets["net"]
    at.loop.method.loss(at.nets, at.batch, at.clock)
    plain(at.batch["l"]["weak"])
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), ours.buffers(), strict=True))
    assert ours.training and all(m.training for m in ours.modules())


def run(steps: int = 60, **settings: Any) -> tuple[float, Net]:
    case = Case.open("bas")
    loop = case.loop(method=case.method(**settings), steps=steps)
    loop.run()
    net = loop.method.deliver(loop.nets).eval()
    images, truth = toy.pictures()
    x = torch.from_numpy(images[: toy.POOL]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        places = net(x).places
    assert places is not None
    return float(places[torch.arange(toy.POOL), torch.from_numpy(truth[: toy.POOL])].mean()), net


def test_each_constraint_does_what_it_is_for() -> None:
    """Without the area's the map covers all; without what asks for evidence it is nowhere."""
    covered, both, nowhere = run(after=0.2, area=0.0)[0], run(after=0.2)[0], run(after=0.2, amc=0.0, frg=0.0)[0]
    assert nowhere < 0.1 and nowhere < both < covered and covered > 0.6


# -- own map ---------------------------------------------------------------------------------------------------------


def test_own_map_is_what_the_network_says_of_each_target_beside_other_methods() -> None:
    net, x = placed(small()).eval(), torch.rand(4, 3, 16, 16)
    targets = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 2]])
    maps = explain(net, x, targets, ("cam", "own-map")).maps
    assert sorted(maps) == [("cam", "spatial"), ("own-map", "generator")]
    with torch.no_grad():
        places = net(x).places
    assert places is not None and places.shape == (4, 3, 8, 8) and bool(((places > 0) & (places < 1)).all())
    for i, row in enumerate(targets.tolist()):
        for t, c in enumerate(row):
            assert torch.equal(maps["own-map", "generator"][i, t], places[i, c])
    named = explain(net, x, 1, ("own-map", "layer-cam"), "stages.2").maps
    assert sorted(named) == [("layer-cam", "stages.2"), ("own-map", "generator")]


def test_own_map_is_refused_by_networks_that_did_not_learn_one_and_for_functions() -> None:
    x = torch.rand(1, 3, 16, 16)
    with pytest.raises(ModelError, match="no layer 'generator'"):
        explain(small().eval(), x, 0, "own-map")
    with pytest.raises(ModelError, match="the target is none"):
        explain(placed(small()).eval(), x, lambda out: out.logits[:, 0], "own-map")


# -- PPL -------------------------------------------------------------------------------------------------------------


def test_patches_are_cut_and_joined_as_by_hand() -> None:
    maps = torch.randn(2, 3, 6, 4)
    parts = cut(maps, 2)
    for b in range(2):
        for i in range(2):
            for j in range(2):
                hand = maps[b, :, 3 * i : 3 * i + 3, 2 * j : 2 * j + 2]
                assert torch.equal(parts[4 * b + 2 * i + j], hand)
    assert torch.equal(joined(parts, 2), maps)
    with pytest.raises(ModelError, match="6 x 4 cannot be cut into 3 x 3"):
        cut(maps, 3)


def test_a_stage_sees_no_neighbour_of_its_patch() -> None:
    net = patched(small(), [2]).eval()
    early = torch.randn(1, 8, 8, 8)
    other = early.clone()
    other[:, :, 4:, 4:] += 1
    one, two = net.late(early), net.late(other)
    changed = (one != two).any(1)[0]
    assert changed[2:, 2:].all() and int(changed.sum()) == 4
    plain = small().eval()
    assert int((plain.late(early) != plain.late(other)).any(1).sum()) > 4


def test_several_grids_are_the_mean_and_one_is_the_stage_itself() -> None:
    conv, maps = nn.Conv2d(2, 3, 3, 1, 1), torch.randn(1, 2, 4, 4)
    by_hand = torch.zeros(1, 3, 4, 4)
    for i in range(2):
        for j in range(2):
            at = (..., slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
            by_hand[at] = conv(maps[at])
    assert torch.equal(patchwise(conv, maps, [1]), conv(maps))
    assert torch.allclose(patchwise(conv, maps, [1, 2]), (conv(maps) + by_hand) / 2, atol=1e-6)
    stride = nn.Conv2d(2, 3, 3, 2, 1)
    with pytest.raises(ModelError, match="2 x 2 from 1 x 1, 4 x 4 from 4 x 4 patches"):
        patchwise(stride, maps, [1, 4])


@pytest.mark.parametrize("way", ["progressive", "explicit", "fixed"])
def test_one_patch_is_the_base_to_the_bit(way: str) -> None:
    case, plain = Case.open("ppl"), Case.open("supervised")
    ours = case.loop(method=case.method(finest=1, way=way), recipe=case.recipe(5))
    theirs = plain.loop(case.world(), recipe=case.recipe(5))
    assert losses(ours) == losses(theirs)
    ours_, theirs_ = ours.nets["net"].state_dict(), theirs.nets["net"].state_dict()
    assert ours_.keys() == theirs_.keys() and all(torch.equal(ours_[k], theirs_[k]) for k in ours_)


def test_methods_with_tags_and_nothing_added_are_the_tagger_to_the_bit() -> None:
    tagger = Case.open("tagger")
    expected = losses(tagger.loop(recipe=tagger.recipe(5)))
    for name, given in (("bas", {"amc": 0.0, "frg": 0.0, "area": 0.0}), ("ppl", {"finest": 1})):
        case = Case.open(name)
        loop = case.loop(toy.world(TAGS), method=case.method(labels="tags", **given), recipe=tagger.recipe(5))
        assert losses(loop) == expected, name


def test_granularity_rises_in_equal_shares() -> None:
    case = Case.open("ppl")
    rising = case.method(finest=4)
    assert [rising.stage(d / 6)[0] for d in range(7)] == [1, 1, 2, 2, 4, 4, 4]
    assert case.method(finest=6).grids == case.method(finest=6, way="explicit").stage(0.0) == (1, 2, 4, 6)
    assert case.method(way="fixed", finest=8).stage(0.0) == (8,)


@pytest.mark.parametrize(("way", "step", "grids"), [("progressive", 1, [1]), ("progressive", 4, [2]), ("fixed", 1, [4]),
                                                   ("explicit", 1, [1, 2, 4])])  # fmt: skip
def test_ppl_is_a_plain_loop_over_patches(way: str, step: int, grids: list[int]) -> None:
    at = scene("ppl", steps=step, way=way)
    net, part = copy.deepcopy(at.nets["net"]), at.batch["l"]
    net.__class__ = type(small())  # what it was before it was cut
    with torch.no_grad():
        early, maps = net.early(net.normalise(part["weak"])), list[Tensor]()
        for g in grids:
            edge = early.shape[2] // g
            places = [(edge * i, edge * j) for i in range(g) for j in range(g)]
            late = net.late(torch.cat([early[:, :, y : y + edge, x : x + edge] for y, x in places]))
            rows = late.split(len(early))
            maps.append(torch.cat([torch.cat(rows[g * i : g * i + g], 3) for i in range(g)], 2))
        logits = net.head(torch.stack(maps).mean(0).mean((2, 3)))
    expected = float(F.cross_entropy(logits, part.labels.cls))
    assert float(value(at.losses()[0]).detach()) == pytest.approx(expected, rel=1e-4)
