"""FixMatch's kin: each loss against a plain loop over images, written from the method's equations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from modicum.core import draws, registry
from modicum.core.errors import SettingsError
from modicum.core.loss import Loss
from modicum.core.net import Nets
from modicum.core.program import Clock, Train
from modicum.testing.case import Case, Scene

EVERY = "fixed:tau=0"


def scene(name: str, **settings: Any) -> Scene:
    """One step of the method on toy data, nets and batch as they are in the middle of training."""
    case = Case.open(name)
    loop = case.loop(method=case.method(**settings), recipe=case.recipe(8))
    phase = loop.program[0]
    assert isinstance(phase, Train)
    loop.optimisers[0] = loop.fresh(phase, loop.nets)
    loop.nets.train()
    for step in range(3):
        loop.step(phase, loop.nets, loop.clock(phase, 0, step))
    batch = {n: loop.feed.draw(s, n, 3) for n, s in phase.streams.items()}
    return Scene(loop, loop.nets, phase, loop.clock(phase, 0, 3), batch)


def terms(at: Scene, **changed: Any) -> Loss:
    return at.loop.method.but(**changed).loss(at.nets, at.batch, at.clock)


def pull_of(at: Scene, term: str, **changed: Any) -> dict[str, Tensor]:
    """Gradients of one term by parameter, under other settings on the same nets."""
    at.nets.zero_grad(set_to_none=True)
    loss = terms(at, **changed)[term]
    (loss.total / loss.count).backward()
    return {k: p.grad.clone() for k, p in at.nets.named_parameters() if p.grad is not None}


def forward(nets: Nets, x: Tensor) -> Tensor:
    with torch.no_grad():
        return nets["net"](x).features


@pytest.mark.parametrize("grad_relu", ["blocking", "selective", "off"])
@pytest.mark.parametrize("clustering", ["head", "outputs", "features", "off"])
def test_grad_relu_says_what_reaches_the_head(grad_relu: str, clustering: str) -> None:
    at = scene("layermatch", trust=EVERY, grad_relu=grad_relu, clustering=clustering)
    known, guessed = pull_of(at, "labelled"), pull_of(at, "unlabelled")
    assert all(guessed[k].abs().sum() > 0 for k in guessed if "stages" in k and k.endswith("weight"))
    head = guessed.get("net.head.weight", torch.zeros_like(known["net.head.weight"]))
    if grad_relu == "blocking":
        assert not head.any() and not guessed.get("net.head.bias", head).any()
    elif grad_relu == "off":
        assert (head.abs().sum(1) > 0).all()
    elif clustering == "off":
        free = pull_of(at, "unlabelled", grad_relu="off")
        for row in range(len(head)):
            agree = float(free["net.head.weight"][row] @ known["net.head.weight"][row]) > 0
            wanted = free["net.head.weight"][row] if agree else torch.zeros_like(head[row])
            assert torch.allclose(head[row], wanted, atol=1e-6), (row, agree)


def test_without_both_parts_layermatch_is_fixmatch() -> None:
    ours = terms(scene("layermatch", trust=EVERY, grad_relu="off", clustering="off"))
    theirs = terms(scene("fixmatch", trust=EVERY))
    for name, term in theirs.items():
        assert ours[name].total.item() == pytest.approx(term.total.item(), rel=1e-5), name


def test_the_slow_head_is_what_strong_views_are_scored_with() -> None:
    at = scene("layermatch", trust=EVERY, clustering="head", average=0.9)
    nets, strong = at.nets, at.batch["u"]["strong"]
    slow, fast = nets["slow"].weight.clone(), nets["net"].head.weight.detach().clone()
    assert not torch.allclose(slow, fast, atol=1e-4)
    found = terms(at)["unlabelled"]
    # The same batch norm batch as in the loss: labelled and strong views together.
    h = forward(nets, torch.cat([at.batch["l"]["weak"], strong]))[-len(strong) :]
    target = at.loop.method.guess(nets, at.batch["u"], at.clock).target
    z = h @ slow.T + nets["slow"].bias
    wanted = sum(math.log(sum(math.exp(v - row[t]) for v in row)) for row, t in zip(z.tolist(), target.tolist()))
    assert found.total.item() == pytest.approx(wanted, rel=1e-3)
    at.loop.method.after_step(nets, at.clock)
    assert torch.allclose(nets["slow"].weight, 0.9 * slow + 0.1 * fast, atol=1e-6)


def test_outputs_are_averaged_by_image() -> None:
    nets = scene("layermatch", clustering="outputs", average=0.5).nets
    memory = nets["outputs"]
    rows, first, second = torch.tensor([1, 4]), torch.rand(2, 3), torch.rand(2, 3)
    memory.seen.zero_()
    assert torch.equal(memory.follow(first, rows), first)
    assert torch.allclose(memory.follow(second, rows), (first + second) / 2)
    assert memory.seen.sum() == 2


def test_centres_follow_believed_features() -> None:
    centres = scene("layermatch", clustering="features", average=0.75).nets["centres"]
    centres.mean.zero_()
    centres.there.zero_()
    h = torch.randn(5, centres.mean.shape[1])
    target, weight = torch.tensor([0, 0, 1, 1, 0]), torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0])
    centres.follow(h, target, weight)
    assert torch.allclose(centres.mean[0], (h[0] + h[1]) / 2, atol=1e-6)
    assert centres.there.tolist() == [True, False, False]
    centres.follow(h, target, 1 - weight)
    assert torch.allclose(centres.mean[0], 0.75 * (h[0] + h[1]) / 2 + 0.25 * h[4], atol=1e-6)
    distance, there = centres.distance(h, target)
    unit, to = h[3] / h[3].norm(), centres.mean[1] / centres.mean[1].norm()
    assert float(distance[3]) == pytest.approx(float(((unit - to) ** 2).sum()), rel=1e-4) and there.tolist() == [1] * 5


def test_freematch_pulls_towards_even_use() -> None:
    at = scene("freematch", trust="adaptive:decay=0.5")
    nets, method = at.nets, at.loop.method
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(4))
    believed = torch.tensor([1.0, 1, 0, 1, 1, 0, 1, 1, 1])
    found = method.extra(nets, logits, logits.argmax(1), believed)["fairness"]
    kept = [p for p, b in zip(logits.softmax(1).tolist(), believed.tolist(), strict=True) if b]
    mean = [sum(p[c] for p in kept) / len(kept) for c in range(3)]
    use = [sum(p.index(max(p)) == c for p in kept) / len(kept) for c in range(3)]
    ours = [m / u if u else 0.0 for m, u in zip(mean, use, strict=True)]
    theirs = [float(s / h) for s, h in zip(nets["trust"].share, nets["histogram"].share, strict=True)]
    wanted = sum(t / sum(theirs) * math.log(o / sum(ours) + 1e-12) for t, o in zip(theirs, ours, strict=True))
    assert float(found.total) == pytest.approx(wanted, rel=1e-4) and found.weight == 0.001
    nothing = method.extra(nets, logits, logits.argmax(1), torch.zeros(9))["fairness"]
    assert float(nothing.total) == 0.0


def test_fairness_needs_its_rule() -> None:
    with pytest.raises(SettingsError, match="fairness"):
        registry.make("freematch", {"trust": "fixed"})
    assert registry.make("freematch", {"trust": "fixed", "fairness": 0}).fairness == 0


def test_pseudo_label_rises_and_looks_at_one_view() -> None:
    at = scene("pseudo-label", ramp=0.5)
    assert tuple(at.batch["u"].views) == ("weak",)
    clock = Clock(0, 0, 10, 0, done=0.25)
    assert at.loop.method.lam(clock) == 0.5 and at.loop.method.lam(Clock(0, 9, 10, 0, done=0.9)) == 1.0


def test_bis_goes_from_random_to_balanced_and_drops_common_guesses() -> None:
    at = scene("bis", trust=EVERY)
    method, nets = at.loop.method, at.nets
    nets["keep"].share.copy_(torch.tensor([0.1, 0.5, 1.0]))
    start, end = (Clock(0, 5, 10, 0, done=d) for d in (0.0, 1.0))
    for clock, stream in ((start, "l"), (end, "balanced")):
        x, y = method.labelled(at.batch, clock)
        assert torch.equal(x, at.batch[stream]["weak"]) and torch.equal(y, at.batch[stream].labels.cls)
    assert (method.guess(nets, at.batch["u"], start).weight == 1).all()
    target, weight = method.guess(nets, at.batch["u"], end)
    seed = draws.key(end.seed, end.phase, end.step, end.lane, "guessed")
    luck = draws.uniform(seed, at.batch["u"].rows, 0, 1)[:, 0]
    assert weight.tolist() == [float(u < nets["keep"].share[t]) for u, t in zip(luck.tolist(), target.tolist())]
    assert 0 < weight.sum() < len(weight)


@pytest.mark.parametrize("name", ["fixmatch", "flexmatch", "softmatch", "freematch", "layermatch", "bis"])
def test_the_objective_of_labelled_images_can_be_changed(name: str) -> None:
    plain, adjusted = (terms(scene(name, objective=o))["labelled"] for o in ("cross-entropy", "logit-adjustment:tau=5"))
    case = Case.open(name)
    counts = case.loop().info.counts
    if len(set(counts)) == 1:
        assert float(plain.total) == pytest.approx(float(adjusted.total), rel=1e-4)
    else:
        assert float(plain.total) != float(adjusted.total)
    with pytest.raises(SettingsError, match="Did you mean"):
        registry.make(name, {"objective": "logit-adjustmnt"})
