"""Few-shot tuning: its schedule, what learns when, batch norm at rest, against a plain loop of torch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modicum.core.program import Train
from modicum.engine import choose
from modicum.engine.loop import Loop
from modicum.engine.request import Request
from modicum.models import files
from modicum.models.doors import make
from modicum.nn.norm import settled
from modicum.testing.case import Case


def loop(steps: int = 6, tick: Any = None, **settings: Any) -> Loop:
    case = Case.open("few-shot-tuning")
    return case.loop(method=case.method(**settings), steps=steps, tick=tick)


def state(run: Loop) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in run.nets["net"].state_dict().items()}


@pytest.mark.parametrize(("probe", "names"), [(0.5, ["probe", "tune"]), (0.0, ["tune"]), (1.0, ["probe"])])
def test_the_head_comes_first_and_all_steps_are_taken(probe: float, names: list[str]) -> None:
    program = [p for p in loop(7, probe=probe).program if isinstance(p, Train)]
    assert [p.name for p in program] == names and sum(p.steps for p in program) == 7


def test_the_body_is_still_until_the_head_has_learned() -> None:
    states = []
    one = loop(6, lambda *_: states.append(state(one)))
    begun = state(one)
    one.run()
    body = [k for k in begun if not k.startswith("head.")]
    assert all(torch.equal(begun[k], states[2][k]) for k in body)
    assert not torch.equal(begun["head.weight"], states[0]["head.weight"])
    moved = [k for k in body if not torch.equal(begun[k], states[-1][k])]
    assert any(k.endswith("weight") for k in moved)
    assert not [k for k in moved if "running" in k or "tracked" in k]


def test_statistics_follow_the_few_where_that_is_asked_for() -> None:
    one = loop(4, bn="adapt")
    begun = state(one)
    one.run()
    assert all(not torch.equal(begun[k], v) for k, v in state(one).items() if "running" in k)


def test_it_is_a_plain_loop_of_adam_on_the_same_batches() -> None:
    one, batches = loop(4), []
    net, step = copy.deepcopy(one.nets["net"]), one.step

    def kept(phase: Any, nets: Any, clock: Any) -> Any:
        part = one.feed.draw(phase.streams["l"], "l", clock.step, clock.phase, clock.lane)
        batches.append((phase.name, part["weak"], part.labels.cls, one.recipe.lr_factor(clock.done)))
        return step(phase, nets, clock)

    one.step = kept  # type: ignore[method-assign]
    one.run()
    net.eval()  # batch norm at rest; this network has nothing else that differs in training
    for name, rate, parameters in (("probe", 0.01, net.head.parameters()), ("tune", 1e-4, net.parameters())):
        adam = torch.optim.AdamW(list(parameters), lr=rate, betas=(0.9, 0.999), weight_decay=0.0)
        for _, pixels, cls, factor in (b for b in batches if b[0] == name):
            adam.param_groups[0]["lr"] = rate * factor
            adam.zero_grad()
            nn.functional.cross_entropy(net(pixels).logits, cls).backward()
            adam.step()
    assert [b[0] for b in batches] == ["probe", "probe", "tune", "tune"]
    for key, value in one.nets["net"].state_dict().items():
        assert torch.allclose(value, net.state_dict()[key], atol=1e-5), key


def test_settled_norms_give_the_answers_of_evaluation_and_a_gradient() -> None:
    torch.manual_seed(0)
    net, x = make("tiny-conv:width=4", classes=3, channels=3, side=16).train(), torch.rand(5, 3, 16, 16)
    before = copy.deepcopy(net)
    with settled(net):
        logits = net(x).logits
    logits.sum().backward()
    assert torch.equal(logits, before.eval()(x).logits) and all(p.grad is not None for p in net.parameters())
    assert all(m.training for m in net.modules())
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), before.buffers(), strict=True))


def test_the_network_and_its_side_are_those_of_the_run_whose_weights_are_given(tmp_path: Path) -> None:
    files.save(make("tiny-res:depth=16,width=2", classes=3, channels=3, side=20).eval(), tmp_path)
    asked = Request.of({"data": "x", "weights": str(tmp_path / "net.safetensors")})
    assert choose.origin(asked) == ("tiny-res:depth=16,width=2", 20) and choose.side_of(asked, 200, 100) == 20
    assert choose.side_of(asked.but(side=32), 200, 100) == 32
    (tmp_path / "net.json").unlink()
    assert choose.origin(asked) == ("", 0) and choose.side_of(asked, 200, 100) == choose.PRETRAINED
