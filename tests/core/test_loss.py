"""Terms: two ranks added up agree with one, whatever is masked."""

from __future__ import annotations

import pytest
import torch

from modicum.core.loss import Term, mean, value


def test_mean_divides_by_all_values_unless_told() -> None:
    values, weights = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert value({"a": mean(values)}).item() == pytest.approx(2.5)
    assert value({"a": mean(values, weights)}).item() == pytest.approx(1.0)
    assert value({"a": mean(values, weights, weights.sum())}).item() == pytest.approx(2.0)
    assert value({"a": mean(values, weight=3.0), "b": mean(values)}).item() == pytest.approx(10.0)


def test_two_halves_agree_with_the_whole() -> None:
    values, weights = torch.rand(10), (torch.rand(10) > 0.5).float()
    whole = mean(values, weights, weights.sum())
    halves = [mean(values[s], weights[s], weights[s].sum()) for s in (slice(0, 3), slice(3, 10))]
    total, count = sum(h.total for h in halves), sum(h.count for h in halves)
    assert total / count == pytest.approx((whole.total / whole.count).item())


def test_nothing_counted_is_zero_and_has_a_gradient() -> None:
    x = torch.ones(4, requires_grad=True)
    loss = value({"a": mean(x, torch.zeros(4), torch.tensor(0.0))})
    loss.backward()
    assert loss.item() == 0 and x.grad is not None and x.grad.abs().sum() == 0


def test_a_diagnostic_is_not_trained() -> None:
    x = torch.ones(2, requires_grad=True)
    loss = value({"a": mean(x), "shown": Term((x * 100).sum(), 1.0, weight=0.0)})
    assert loss.item() == 1.0
