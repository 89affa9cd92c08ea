"""Batch-norm statistics of averaged weights: averaged statistics belong to no network, so a pass computes them anew.

Izmailov et al., 2018, section 3.2.  A wrapper adds `renewal(...)` to its program and names `forget` and `renew`.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modicum.core.program import Change, Collect, Info, Program, Stream


def renewal(rows: str, info: Info) -> Program:
    """The phases: forget, then one pass over `rows` in train mode, weak views, in batches of the recipe's size."""
    stream = Stream(rows, info.recipe.batch, ("weak",))
    return [Change("forget", optimisers="keep"), Collect("renew", stream, mode="train", name="batch norm")]


def forget(net: nn.Module) -> None:
    """Statistics begin anew."""
    for norm in _norms(net):
        norm.reset_running_stats()


def renew(net: nn.Module, x: Tensor) -> Tensor:
    """A forward in train mode in which every batch counts alike (no decay); x (B,c,H,W) -> logits (B,C)."""
    norms = _norms(net)
    before = [n.momentum for n in norms]
    try:
        for norm in norms:
            norm.momentum = None  # torch: the cumulative mean
        return net(x).logits
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def _norms(net: nn.Module) -> list[_BatchNorm]:
    return [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
