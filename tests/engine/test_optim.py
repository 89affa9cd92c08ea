"""Optimisers: who is trained, who is decayed, and that their state goes out and comes back whole."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from modicum.core.errors import NeedsError
from modicum.core.recipe import Optim
from modicum.engine.optim import average, gradients, make_optimiser, restore, state_of


def net() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"body": nn.Linear(3, 4), "bodyguard": nn.Linear(4, 4), "head": nn.Linear(4, 2)})


def step(nets: nn.ModuleDict, optimiser: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    optimiser.zero_grad()
    nets["head"](nets["bodyguard"](nets["body"](torch.randn(5, 3)))).square().sum().backward()
    optimiser.step()


def trained(optimiser: torch.optim.Optimizer) -> set[int]:
    return {id(p) for g in optimiser.param_groups for p in g["params"]}


def test_prefixes_are_whole_names() -> None:
    nets = net()
    assert trained(make_optimiser(nets, ("body",), Optim())) == {id(p) for p in nets["body"].parameters()}
    assert trained(make_optimiser(nets, ("body.bias", "head"), Optim())) == {
        id(p) for p in (nets["body"].bias, *nets["head"].parameters())
    }


def test_frozen_parameters_are_left_out_and_nothing_to_train_is_said() -> None:
    nets = net()
    nets["head"].requires_grad_(False)
    assert len(trained(make_optimiser(nets, (), Optim()))) == 4
    with pytest.raises(NeedsError, match="nothing to train under head"):
        make_optimiser(nets, ("head",), Optim())


def test_vectors_are_not_decayed() -> None:
    groups = make_optimiser(net(), (), Optim(weight_decay=0.1)).param_groups
    for group in groups:
        assert {p.ndim for p in group["params"]} == ({2} if group["weight_decay"] == 0.1 else {1})


def test_a_decayed_weight_with_no_gradient_shrinks_by_the_rule() -> None:
    """SGD: w <- w - lr * decay * w."""
    layer = nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    optimiser = make_optimiser(layer, (), Optim(lr=0.5, momentum=0, weight_decay=0.1))
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    assert torch.allclose(layer.weight, before * (1 - 0.5 * 0.1))


@pytest.mark.parametrize("given", [Optim(lr=0.01), Optim(name="adamw", lr=0.01), Optim(lr=0.01, momentum=0.0)], ids=str)
def test_state_goes_through_json_and_back_to_the_same_bits(given: Optim) -> None:
    one, other = net(), net()
    first = make_optimiser(one, (), given)
    for seed in range(3):
        step(one, first, seed)
    other.load_state_dict(one.state_dict())
    second = make_optimiser(other, (), given)
    tensors, plain = state_of(first)
    restore(second, {k: v.clone() for k, v in tensors.items()}, json.loads(json.dumps(plain)))
    for seed in range(3, 6):
        step(one, first, seed)
        step(other, second, seed)
    assert all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_without_its_state_an_optimiser_goes_elsewhere() -> None:
    one, other = net(), net()
    first, second = make_optimiser(one, (), Optim(lr=0.01)), make_optimiser(other, (), Optim(lr=0.01))
    step(one, first, 0)
    other.load_state_dict(one.state_dict())
    step(one, first, 1)
    step(other, second, 1)
    assert not one["head"].weight.equal(other["head"].weight)


def test_the_mean_of_lanes() -> None:
    lanes = []
    for seed in (1, 2):
        nets = net()
        optimiser = make_optimiser(nets, ("head",), Optim())
        step(nets, optimiser, seed)
        lanes.append([optimiser])
    wanted = sum(lane[0].state_dict()["state"][0]["momentum_buffer"].double() for lane in lanes) / 2
    average(lanes)
    for lane in lanes:
        assert torch.allclose(lane[0].state_dict()["state"][0]["momentum_buffer"].double(), wanted)


def test_clipping_bounds_the_norm_of_all_gradients_together() -> None:
    nets = net()
    optimiser = make_optimiser(nets, ("body", "head"), Optim())
    for p in nets.parameters():
        p.grad = torch.full_like(p, 3.0)
    gradients(optimiser, 1, 0.5)
    clipped = [p.grad for p in (*nets["body"].parameters(), *nets["head"].parameters())]
    assert torch.cat([g.flatten() for g in clipped]).norm().item() == pytest.approx(0.5, rel=1e-4)
    assert (nets["bodyguard"].weight.grad == 3).all(), "not this optimiser's"
