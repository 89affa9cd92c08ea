"""A moving average's copy is a whole one."""

from __future__ import annotations

import copy

import torch

from modicum.nn.ema import EMA, copied
from modicum.testing.case import Case


def test_a_copy_shares_nothing_that_changes() -> None:
    net = Case.open("box-teacher").loop().nets
    calls: list[str] = []
    net["net"].detector.register_forward_hook(lambda *_: calls.append("hook"))
    ours, theirs = copied(net), copy.deepcopy(net)
    for one, mine, full in zip(net.modules(), ours.modules(), theirs.modules(), strict=True):
        assert mine is not one and list(vars(mine)) == list(vars(full))
        for name, value in vars(one).items():
            if isinstance(value, dict):
                assert vars(mine)[name] is not value and list(vars(mine)[name]) == list(value)
                assert type(vars(mine)[name]) is type(value)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())
    with torch.no_grad():
        for value in ours.state_dict().values():
            value.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    ours["net"].train()(torch.zeros(2, 3, 16, 16))
    assert calls == ["hook"], "hooks come along"
    ours["net"].register_forward_hook(lambda *_: calls.append("new"))
    net["net"](torch.zeros(2, 3, 16, 16))
    assert calls == ["hook", "hook"], "and new ones stay where they were added"


def test_the_average_follows_by_its_rate_and_slower_after_the_start() -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(0.0)
    ema = EMA(net)
    net.weight.data.fill_(1.0)
    expected = 0.0
    for step in range(200):
        ema.update(net, 0.9, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + 1 - decay
        assert abs(ema.net.weight.item() - expected) < 1e-5  # type: ignore[union-attr,operator]
    assert net.weight.requires_grad and not ema.net.weight.requires_grad
