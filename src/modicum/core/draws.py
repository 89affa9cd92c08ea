"""Draws are functions: the same numbers on any device, in any split, and nothing to save.

Each value is a hash of (seed, stream, position, view, index): two rounds of a 64-bit mixer in integer tensor
operations.  The mixer's constants are from Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_GOLD, _M1, _M2 = -7046029254386353131, -4658895280553007687, -7723592293110705685
_WORD = (1 << 64) - 1


def _shift(x: Tensor, k: int) -> Tensor:
    return (x >> k) & ((1 << (64 - k)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)).mul_(_M1)
    x = (x ^ _shift(x, 27)).mul_(_M2)
    return x ^ _shift(x, 31)


def _mixed(x: int) -> int:
    """_mix of one number, which spares a dozen tensor operations; signed, as tensors hold it."""
    x &= _WORD
    x = (x ^ x >> 30) * _M1 & _WORD
    x = (x ^ x >> 27) * _M2 & _WORD
    x ^= x >> 31
    return x - (x >> 63 << 64)


def key(*parts: object) -> int:
    """A 63-bit seed from words and numbers: the same on every machine and in every process."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _start(seed: int, view: int) -> int:
    return _mixed(_mixed(seed + _GOLD) ^ view * _GOLD)


def bits(seed: int, positions: Tensor, view: int, n: int) -> Tensor:
    """Hashed 64-bit integers (P, n) for positions (P,), int64."""
    p = _mix(positions.to(torch.int64) * _GOLD ^ _start(seed, view))
    return _mix(p[:, None] + torch.arange(1, n + 1, dtype=torch.int64, device=positions.device) * _GOLD)


def uniform(seed: int, positions: Tensor, view: int, n: int) -> Tensor:
    """Uniform float32 (P, n) in [0, 1)."""
    return _shift(bits(seed, positions, view, n), 40).to(torch.float32) * 2**-24


def permutations(seed: int, epoch: int, many: int, n: int) -> Tensor:
    """Permutations of n rows for `many` epochs from `epoch` on, (many, n); each a function of (seed, its epoch)."""
    starts = torch.tensor([_start(seed, e) for e in range(epoch, epoch + many)])
    return _mix(_mix(torch.arange(n) * _GOLD ^ starts[:, None]) + _GOLD).argsort(dim=1, stable=True)
