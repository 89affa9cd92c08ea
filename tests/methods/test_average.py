"""Averaging wrappers: IMWA's episodes and lanes, SWA's mean, batch-norm statistics made anew."""

from __future__ import annotations

import copy
from typing import Any

import torch

from modicum.core import registry
from modicum.core.program import Change, Collect, Train
from modicum.engine import choose
from modicum.engine.loop import Loop
from modicum.nn.renew import forget, renew
from modicum.testing.case import Case


def loop(wrapper: str, steps: int = 6, inner: str = "supervised", **settings: Any) -> Loop:
    case = Case.open(wrapper)
    recipe = case.recipe(steps)
    method = registry.make(wrapper, {**settings, "inner": choose.compose(inner, {}, recipe.but(wraps=()))})
    return case.loop(method=method, recipe=recipe)


def test_imwa_is_episodes_of_lanes_with_averages_between() -> None:
    program = loop("imwa", steps=7, models=2, episodes=3).program
    kinds = [(type(p).__name__, getattr(p, "steps", 0), getattr(p, "lane", None)) for p in program]
    episodes = [k for n in (2, 2, 3) for k in (("Train", n, 0), ("Train", n, 1), ("Change", 0, None))]
    assert kinds == [*episodes, ("Change", 0, None), ("Collect", 0, None)]
    assert sum(p.steps for p in program if isinstance(p, Train) and p.lane == 1) == 7


def test_copies_differ_by_their_draws_and_meet_in_the_mean() -> None:
    one = loop("imwa", models=2, episodes=1, refresh="none")
    seen: list[dict[str, torch.Tensor]] = []
    average = type(one.method).average

    def spy(self: Any, nets: Any) -> None:
        seen.extend(copy.deepcopy(dict(nets[f"copy{m}"].state_dict())) for m in range(2))
        average(self, nets)

    type(one.method).average = spy  # type: ignore[method-assign]
    try:
        one.run()
    finally:
        type(one.method).average = average  # type: ignore[method-assign]
    assert not torch.equal(seen[0]["net.head.weight"], seen[1]["net.head.weight"])
    for key, value in one.nets["copy0"].state_dict().items():
        wanted = (seen[0][key] + seen[1][key]) / 2 if value.is_floating_point() else seen[0][key]
        assert torch.allclose(value, wanted), key
        assert torch.equal(value, one.nets["copy1"].state_dict()[key])


def test_one_model_in_one_episode_is_the_inner_method() -> None:
    ours = loop("imwa", models=1, episodes=1, refresh="none")
    ours.run()
    case = Case.open("supervised")
    theirs = case.loop(recipe=case.recipe(6))
    theirs.run()
    mine = ours.nets["copy0"].state_dict()
    assert all(torch.equal(mine[k], v) for k, v in theirs.nets.state_dict().items())


def test_ema_inside_is_averaged_too() -> None:
    case = Case.open("imwa")
    recipe = case.recipe(6)
    method = choose.compose("supervised", {}, recipe.but(wraps=("ema:decay=0.5", "imwa:episodes=2,models=2")))
    one = case.loop(method=method, recipe=recipe)
    one.run()
    first, second = (one.nets[f"copy{m}"]["ema"].net.head.weight for m in range(2))
    assert torch.equal(first, second) and not torch.equal(first, one.nets["copy0"]["inner"]["net"].head.weight)


def test_swa_is_the_mean_of_the_weights_it_met() -> None:
    one = loop("swa", steps=8, start=0.5, every=2)
    met: list[torch.Tensor] = []
    inner = one.tick

    def tick(arm: str, done: int, total: int, values: Any) -> None:
        if done - 1 >= 4 and (done - 1) % 2 == 0:
            met.append(one.nets["inner"]["net"].head.weight.detach().clone())
        if inner:
            inner(arm, done, total, values)

    one.tick = tick
    one.run()
    assert len(met) == 2 and int(one.nets["mean"].count) == 2
    assert torch.allclose(one.nets["mean"].net.head.weight, sum(met) / 2, atol=1e-6)
    assert [type(p) for p in one.program] == [Train, Change, Collect]


def test_swa_before_its_start_is_the_network() -> None:
    one = loop("swa", steps=3, start=1.0)
    one.run()
    assert torch.equal(one.nets["mean"].net.head.weight, one.nets["inner"]["net"].head.weight)


def test_statistics_made_anew_are_those_of_the_images() -> None:
    net = copy.deepcopy(loop("swa").nets["mean"].net).train()
    norm = next(m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    x = torch.rand(12, net.mean.shape[0], 16, 16)
    forget(net)
    before = norm.momentum
    with torch.no_grad():
        for part in x.split(4):
            renew(net, part)
        maps = net.stages[0][0](net.normalise(x))
    parts = torch.stack([maps[i : i + 4].mean((0, 2, 3)) for i in (0, 4, 8)])
    assert torch.allclose(norm.running_mean, parts.mean(0), atol=1e-5) and norm.momentum == before
