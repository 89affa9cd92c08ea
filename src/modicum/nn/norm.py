"""Batch norm with three rules that torch's lacks: a batch of one, several processes on any device, frozen statistics.

Ioffe and Szegedy 2015.  One process gives torch's own numbers: its kernel does the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from modicum.core.errors import ModelError
from modicum.nn.ranks import SumOverRanks, world_size


class OverRanks(_BatchNorm):
    """(B,C,...) -> the same shape; state_dict and arguments are torch's.

    In train mode: with one value a channel (a batch of one on 1 x 1 maps) the running statistics normalise, and stay;
    with several processes the global batch's statistics do, in any float type, also on CPU (torch's SyncBatchNorm
    refuses it), and every process must come by, if only with an empty batch; `momentum=0.0` leaves the running
    statistics and their counter alone (core.net.guessing).
    """

    def forward(self, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        if not self.training:
            return super().forward(x)
        if world_size() > 1:
            return self._of_all_ranks(x)
        if x.numel() == x.shape[1] and self.running_mean is not None:
            return self._fixed(x)
        if self.momentum == 0.0:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        return super().forward(x)

    def _fixed(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    def _of_all_ranks(self, x: Tensor) -> Tensor:
        sums, here = _sums(x), x.numel() // x.shape[1]
        total = SumOverRanks.apply(sums)
        count = total[-1]
        # Only a rank with at most one value has to read the count: elsewhere it is known to exceed one.
        if here < 2 and count < 2 and self.running_mean is not None:
            return self._fixed(x)
        mean, square = (total[:-1] / count).chunk(2)
        var = (square - mean * mean).clamp_min(0)
        self._follow(mean.detach(), var.detach() * (count / (count - 1)))
        scale = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        kind = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        shape = (-1, *[1] * (x.ndim - 2))
        return torch.addcmul(shift.to(kind).view(shape), x.to(kind), scale.to(kind).view(shape)).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics towards the global batch's (var unbiased), as torch's kernel does."""
        if self.running_mean is None or self.running_var is None or self.momentum == 0.0:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(var.to(self.running_var.dtype), weight)


class BatchNorm2d(OverRanks, torch.nn.BatchNorm2d):
    """Of maps (B,C,H,W)."""


class BatchNorm1d(OverRanks, torch.nn.BatchNorm1d):
    """Of features (B,C) or tokens (B,C,N)."""


class BatchNormAct2d(BatchNorm2d):
    """Batch norm, then `drop`, then `act`: what timm's module of this name becomes."""

    drop: torch.nn.Module
    act: torch.nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


def _sums(x: Tensor) -> Tensor:
    """Sum, sum of squares and count of each channel, float64 (2C+1,).

    Local moments come from torch's stable kernel and are added in float64, so nothing cancels for means far from 0.
    """
    count = x.new_full((1,), x.numel() // x.shape[1], dtype=torch.float64)
    axes = [axis for axis in range(x.ndim) if axis != 1]
    if not x.numel():
        empty = x.sum(axes, dtype=torch.float64)
        return torch.cat([empty, empty, count])
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    var, mean = torch.var_mean(wide, axes, correction=0)
    mean = mean.double()
    return torch.cat([mean * count, (var.double() + mean * mean) * count, count])


def convert(module: torch.nn.Module) -> torch.nn.Module:
    """Give torch's batch norms and timm's BatchNormAct2d inside `module` (or itself) these rules, in place; returns it.

    The modules stay the same objects, so parameters, buffers, names and hooks stay; other subclasses are left alone.
    """
    for part in module.modules():
        if type(part) is torch.nn.BatchNorm2d:
            part.__class__ = BatchNorm2d
        elif type(part) is torch.nn.BatchNorm1d:
            part.__class__ = BatchNorm1d
        elif type(part).__name__ == "BatchNormAct2d" and isinstance(part, torch.nn.BatchNorm2d):
            part.__class__ = BatchNormAct2d
    return module


@contextmanager
def settled(module: torch.nn.Module) -> Iterator[None]:
    """Inside, batch norms normalise by their running statistics, with gradient, and leave them as they are.

    For tuning on a few images, whose own statistics say little; the rest of the module stays in its mode.
    """
    moved = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.running_mean is not None]
    try:
        for norm in moved:
            norm.training = False
        yield
    finally:
        for norm in moved:
            norm.training = True


def shareable(module: torch.nn.Module) -> None:
    """ModelError where a batch norm inside would normalise by one process's share of the batch."""
    for name, part in module.named_modules() if world_size() > 1 else ():
        if isinstance(part, _BatchNorm) and not isinstance(part, OverRanks):
            found = f"{name} is a {type(part).__name__}, which would see only a share of each batch"
            raise ModelError(found, where="several processes", fix="Train with --devices 1, or take another --net.")
