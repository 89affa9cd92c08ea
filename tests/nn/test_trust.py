"""Trust rules by name, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from modicum.core.errors import SettingsError
from modicum.core.program import Info
from modicum.core.registry import make, parts
from modicum.nn.trust import make_trust, read_trust

INFO = Info(("a", "b", "c"), (1, 1, 1), 9, 3)


@pytest.mark.parametrize("name", sorted(parts("nn/trust")))
def test_every_rule_gives_a_class_and_a_weight_between_0_and_1(name: str) -> None:
    probs = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    target, weight = make_trust(name, INFO)(probs, torch.arange(50) % 9)
    assert target.dtype == torch.int64 and target.shape == weight.shape == (50,)
    assert ((weight >= 0) & (weight <= 1)).all()


def test_fixed_believes_from_tau_on() -> None:
    probs = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.89, 0.01]])
    target, weight = make_trust("fixed:tau=0.9", INFO)(probs, torch.arange(2))
    assert target.tolist() == [0, 1] and weight.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fixd", "Did you mean 'fixed'"),
        ("fixed:tua=0.9", "Did you mean 'tau'"),
        ("fixed:tau=high", "'high' is not a number"),
        ("fixed:tau=1.5", "0 to 1"),
    ],
)
def test_a_wrong_rule_is_refused_with_the_way_on(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        make_trust(text, INFO)


def test_a_method_refuses_it_before_any_work() -> None:
    with pytest.raises(SettingsError, match="tau"):
        make("fixmatch", {"trust": "fixed:tua=1"})
    assert read_trust("fixed:tau=0.8")[1] == {"tau": 0.8}
