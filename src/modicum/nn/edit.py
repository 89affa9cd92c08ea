"""How a network is changed into one that answers more: it stays what it was, of a class that adds to its own.

Each change is noted in the network's `spec`, from which models/files.py makes it again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from modicum.core.errors import ModelError
from modicum.core.net import Net

GENERATOR = "generator"


def of(net: Any, extra: Any) -> Any:
    """The same object, of a class that puts `extra` before its own.

    ModelError for one that is so already, and where two would be the network's `generator` of maps, or its dense head.
    """
    if isinstance(net, extra):
        raise ModelError(f"the network is a {extra.__name__} already", where="network", fix="Change it once.")
    if isinstance(net, Levelled) and issubclass(extra, Levelled):
        raise ModelError("the network tells of pixels or boxes already", where="network", fix="Change it once.")
    if hasattr(net, GENERATOR) and GENERATOR in extra.__annotations__:
        raise ModelError("the network says where each class is already", where="network", fix="Change it once.")
    own: Any = type(net)
    net.__class__ = _both(extra, own)
    return net


@functools.cache
def _both(extra: Any, own: Any) -> Any:
    return type(f"{extra.__name__}{own.__name__}", (extra, own), {"__doc__": extra.__doc__})


def noted(net: Net, edit: dict[str, object]) -> Net:
    """The network, with an edit added to its `spec`."""
    net.spec = {**net.spec, "edits": [*net.spec.get("edits", []), edit]}
    return net


def black(net: Net, look: Callable[[Tensor], Any]) -> Any:
    """What a method of the network, `look`, gives of one black image in eval mode, without gradient."""
    channels, side, was = net.spec["args"]["channels"], net.spec["args"]["side"], net.training
    net.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        seen = look(torch.zeros(1, channels, side, side, device=net.mean.device))
    net.train(was)
    return seen


@contextmanager
def keeping(net: Net) -> Iterator[list[Tensor]]:
    """Inside, what the network `keep`s is in this list: a method may hand on more than it returns."""
    kept = net.__dict__["kept"] = list[Tensor]()
    try:
        yield kept
    finally:
        del net.__dict__["kept"]


def keep(net: Net, *maps: Tensor) -> None:
    """Put maps into the list of `keeping`, if there is one."""
    net.__dict__.get("kept", []).extend(maps)


class Levelled(Net):
    """A network whose last part reads its maps of several sizes."""

    def spatial(self, x: Tensor) -> Tensor:
        maps, levels = self.levels(x)
        keep(self, *levels)
        return maps

    def seen(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images (B,c,H,W) in [0,1] -> what is pooled, and the maps of each size (B,K,h,w), fine first.

        What explain hands out in place of the last maps is read, too.
        """
        with keeping(self) as levels:
            maps = self.spatial(self.normalise(x))
        return maps, [*levels[:-1], maps] if maps.ndim == 4 else levels
