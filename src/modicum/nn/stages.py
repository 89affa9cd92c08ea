"""Networks changed between their early and their last stage (`Net.early`, `Net.late`): patches, a map generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from modicum.core.errors import ModelError
from modicum.core.net import Net, Out
from modicum.functional.patches import patchwise
from modicum.nn.edit import black, keep, keeping, noted, of

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
        keep(self, maps)
        return maps

    def forward(self, x: Tensor) -> Out:
        with keeping(self) as kept:
            out = super().forward(x)
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
    seen: Tensor = black(net, net.early)
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
