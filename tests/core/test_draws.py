"""Draws: the mixer against arithmetic in Python integers, and the statistics that a uniform draw must have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modicum.core.draws import bits, key, permutations, uniform

MASK = 2**64 - 1


def mix(x: int) -> int:
    """The finaliser of splitmix64, in unbounded integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def test_bits_agree_with_plain_integers() -> None:
    gold = 0x9E3779B97F4A7C15
    seed, view, positions = key("seed", 3), 2, [0, 1, 5, 2**40]
    k = mix(mix((seed + gold) & MASK) ^ (view * gold & MASK))
    want = [[mix((mix(k ^ (p * gold & MASK)) + j * gold) & MASK) for j in (1, 2, 3)] for p in positions]
    have = bits(seed, torch.tensor(positions), view, 3)
    assert [[v & MASK for v in row] for row in have.tolist()] == want


def test_uniform_is_uniform() -> None:
    u = uniform(7, torch.arange(20_000), 0, 10).double()
    n = u.numel()
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean().item() - 1 / 2) < 5 * (1 / 12 / n) ** 0.5
    assert abs(u.var().item() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    counts = np.histogram(u.numpy(), 64, (0, 1))[0]
    chi2 = ((counts - n / 64) ** 2 / (n / 64)).sum()
    assert abs(chi2 - 63) < 5 * (2 * 63) ** 0.5


@pytest.mark.parametrize("other", ["next position", "next view", "next seed", "next index"])
def test_neighbours_are_uncorrelated(other: str) -> None:
    at = torch.arange(100_000)
    u = uniform(1, at, 0, 2)
    v = {
        "next position": uniform(1, at + 1, 0, 2)[:, 0],
        "next view": uniform(1, at, 1, 2)[:, 0],
        "next seed": uniform(2, at, 0, 2)[:, 0],
        "next index": u[:, 1],
    }[other]
    assert abs(np.corrcoef(u[:, 0].numpy(), v.numpy())[0, 1]) < 5 / len(at) ** 0.5


def test_a_draw_does_not_depend_on_the_split() -> None:
    at = torch.randperm(1000)
    whole = uniform(5, at, 1, 4)
    parts = torch.cat([uniform(5, part, 1, 4) for part in at.split([1, 499, 500])])
    assert torch.equal(whole, parts)
    assert torch.equal(whole[:, :2], uniform(5, at, 1, 2)), "more values must not change the first ones"


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    uniform(1, torch.arange(10), 0, 3), permutations(1, 0, 1, 10)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_a_permutation_is_one(n: int) -> None:
    assert permutations(3, 1, 2, n).sort().values.tolist() == [list(range(n))] * 2


def test_an_epochs_permutation_does_not_depend_on_the_epochs_made_with_it() -> None:
    together = permutations(12345678901234, 4, 9, 40)
    for row, epoch in zip(together, range(4, 13), strict=True):
        assert torch.equal(row, permutations(12345678901234, epoch, 1, 40)[0])
        assert torch.equal(row, bits(12345678901234, torch.arange(40), epoch, 1)[:, 0].argsort(stable=True))


def test_permutations_differ_by_epoch_and_put_rows_anywhere() -> None:
    many = permutations(3, 0, 6000, 6)
    seen = torch.stack([(many == row).sum(0) for row in range(6)]).double()
    chi2 = ((seen - 1000) ** 2 / 1000).sum().item()
    assert abs(chi2 - 25) < 5 * 50**0.5
    assert len({tuple(p) for p in many.tolist()}) == 720


def test_keys_tell_words_apart() -> None:
    keys = {key(*parts) for parts in [("a", "b"), ("ab",), ("a", 1), ("a", 2), ("b", "a"), (1, "a")]}
    assert len(keys) == 6 and all(0 <= k < 2**63 for k in keys)
