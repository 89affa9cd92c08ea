"""Processes that train together: what a module must know of the others, in one place.

A statistic of the batch is one of the global batch: gather (`everyone`), compute, keep your share (`mine`); or add up
sums and counts (`added`).  Shares may be unequal, one may be empty.  With one process nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

_alone = False


def world_size() -> int:
    """Processes that train together; 1 without torch.distributed, and inside `apart`."""
    there = not _alone and distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if there else 1


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


@contextmanager
def apart() -> Iterator[None]:
    """Inside, this process counts as the only one: for what each process computes whole."""
    global _alone
    was, _alone = _alone, True
    try:
        yield
    finally:
        _alone = was


class SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all processes, differentiable any number of times.

    Its gradient is again a sum over processes: what one rank adds, every rank's loss feels.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return SumOverRanks.apply(grad.contiguous())


def added(x: Tensor) -> Tensor:
    """The sum over all processes, the same bits on each.  No gradient."""
    if world_size() == 1:
        return x
    total = x.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def world_mean(x: Tensor) -> Tensor:
    """(B,...) of each process -> (...), the mean over the rows of all.  No gradient."""
    if world_size() == 1:
        return x.detach().mean(0)
    sums = x.detach().double().sum(0)
    total = added(torch.cat([sums.reshape(-1), sums.new_tensor([len(x)])]))
    return (total[:-1] / total[-1]).reshape(sums.shape).to(x.dtype)


def shares(x: Tensor) -> list[int]:
    """How many rows of a batch each process holds; x: this one's."""
    if world_size() == 1:
        return [len(x)]
    counts = torch.zeros(world_size(), dtype=torch.int64, device=x.device)
    counts[rank()] = len(x)
    return added(counts).tolist()


def everyone(x: Tensor, held: list[int] | None = None) -> Tensor:
    """(B,...) of each process -> (sum of the B,...), in the order of ranks, the same on all.  No gradient.

    held: `shares(x)`, where it is known.
    """
    if world_size() == 1:
        return x
    held = held or shares(x)
    padded = x.new_zeros(max(held), *x.shape[1:])
    padded[: len(x)] = x.detach()
    out = [torch.empty_like(padded) for _ in held]
    distributed.all_gather(out, padded)
    return torch.cat([part[:count] for part, count in zip(out, held, strict=True)])


def mine(whole: Tensor, held: list[int]) -> Tensor:
    """Rows of `everyone(x)`, or one value for each of them -> this process's.  held: `shares(x)`."""
    return whole.split(held)[rank()]


def anyone(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return flag if world_size() == 1 else bool(added(torch.tensor(int(flag))))


def wait() -> None:
    """Until every process is here."""
    anyone(False)


def of_first(value: float) -> float:
    """The first process's number: what is measured differs, and all must choose alike."""
    return value if world_size() == 1 else float(added(torch.tensor(0.0 if rank() else value, dtype=torch.float64)))


@torch.no_grad()
def same(module: nn.Module) -> None:
    """Give every process the first one's parameters and buffers, to the bit: two machines may round differently."""
    for held in [*module.parameters(), *module.buffers()] if world_size() > 1 else ():
        told = held.detach().clone(memory_format=torch.contiguous_format)
        distributed.broadcast(told, 0)
        held.copy_(told)
