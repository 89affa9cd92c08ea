"""Networks changed between their early and their last stage (`Net.early`, `Net.late`): patches, a map generator.

Each change is an edit that models/files.py knows: the network stays what it was, of a class that adds to its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError
from modicum.core.net import Net, Out
from modicum.functional.patches import patchwise

GENERATOR = "generator"
MOST = 64  # patches a side, and grids


class Patched(Net):
    """A network whose last stage sees one patch at a time: maps are means over `grids` of g x g patches."""

    grids: tuple[int, ...]

    def late(self, maps: Tensor) -> Tensor:
        return patchwise(self.whole, maps, self.grids)

    def whole(self, maps: Tensor) -> Tensor:
        """The last stage on all of the maps, or on one patch."""
        return super().late(maps)

    def extra_repr(self) -> str:
        return f"grids={self.grids}"


class Placed(Net):
    """A network that also says where each class is: `generator`, early maps (B,K,h,w) -> (B,C,h,w) in [0,1].

    Its maps are `Out.places`; explain method `own-map` draws them.
    """

    generator: nn.Module

    def early(self, x: Tensor) -> Tensor:
        maps = super().early(x)
        self.__dict__.get("kept", []).append(maps)
        return maps

    def forward(self, x: Tensor) -> Out:
        kept = self.__dict__["kept"] = []  # for as long as this call lasts: `spatial` gives the last maps alone
        try:
            out = super().forward(x)
        finally:
            del self.__dict__["kept"]
        return out._replace(places=self.generator(kept[0]))


def patched(net: Net, grids: Sequence[int]) -> Net:
    """The network with its last stage in patches; noted in its `spec`.  ModelError for grids that are not allowed."""
    good = 0 < len(grids) <= MOST and all(type(g) is int and 1 <= g <= MOST for g in grids)
    if not good or len(set(grids)) < len(grids):
        fix = f"Give different whole numbers from 1 to {MOST}."
        raise ModelError(f"grids {list(grids)[:8]!r} are not allowed", where="patches", fix=fix)
    _maps(net)
    of(net, Patched).grids = tuple(grids)
    return noted(net, {"edit": "patches", "grids": list(grids)})


def placed(net: Net) -> Net:
    """The network with a map generator, a 3 x 3 convolution and a sigmoid; noted in its `spec`.

    ModelError where the network does not show its early maps.
    """
    conv = nn.Conv2d(_maps(net).shape[1], net.spec["args"]["classes"], 3, 1, 1)
    of(net, Placed).generator = nn.Sequential(conv, nn.Sigmoid()).to(net.mean.device)
    return noted(net, {"edit": "places"})


def shown(net: Net) -> Tensor:
    """What `early` gives of one black image, in eval mode.  ModelError where the network shows nothing."""
    channels, side = net.spec["args"]["channels"], net.spec["args"]["side"]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        was = net.training
        seen = net.eval().early(torch.zeros(1, channels, side, side, device=net.mean.device))
        net.train(was)
    return seen


def _maps(net: Net) -> Tensor:
    seen = shown(net)
    if seen.ndim != 4:
        fix = "Take a convolutional one, such as tiny-conv or tiny-res."
        raise ModelError(f"a {type(net).__name__} works on tokens, not on maps", where="network", fix=fix)
    return seen


@contextmanager
def constant(net: nn.Module) -> Iterator[None]:
    """Inside, the weights are constants: a gradient flows to what the network is given, and not to them."""
    learning = [p for p in net.parameters() if p.requires_grad]
    try:
        for p in learning:
            p.requires_grad_(False)
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)


@functools.cache
def _both(extra: Any, own: Any) -> Any:
    return type(f"{extra.__name__}{own.__name__}", (extra, own), {"__doc__": extra.__doc__})


def of(net: Any, extra: Any) -> Any:
    """The same object, of a class that puts `extra` before its own.

    ModelError for one that is so already, and where two would both be the network's `generator` of maps.
    """
    if isinstance(net, extra):
        raise ModelError(f"the network is a {extra.__name__} already", where="network", fix="Change it once.")
    if hasattr(net, GENERATOR) and GENERATOR in extra.__annotations__:
        raise ModelError("the network says where each class is already", where="network", fix="Change it once.")
    own: Any = type(net)
    net.__class__ = _both(extra, own)
    return net


def noted(net: Net, edit: dict[str, object]) -> Net:
    """The network, with an edit added to its `spec`."""
    net.spec = {**net.spec, "edits": [*net.spec.get("edits", []), edit]}
    return net
