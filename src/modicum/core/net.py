"""The Net contract: `net(x) -> Out`, with `body` (features) and `head` (logits) apart, and the maps before pooling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from modicum.core.batch import Boxes
from modicum.core.errors import ModelError


class Out(NamedTuple):
    """logits: (B,C).  features: (B,D), what the head reads.  maps: (B,K,h,w), what was pooled (None for token models).

    boxes: of a detector, in view coordinates.  masks: float (B,C+1,H,W), a segmenter's logits a pixel of the view,
    background first.
    places: (B,C,h,w) in [0,1], where each class is, of a network that learned to say so.
    """

    logits: Tensor
    features: Tensor
    maps: Tensor | None = None
    boxes: Boxes | None = None
    masks: Tensor | None = None
    places: Tensor | None = None


class Net(nn.Module):
    """Abstract.  Subclasses give `spatial`, `pool` and a `head` module; the input is (B,c,H,W) in [0,1].

    The mean and deviation that centre the input are buffers: they travel with the weights and into ONNX.
    spec: door, name, args and edits, from which models/ builds it again.  notes: sentences for the user (a licence).
    frozen: brought by the user and never trained: stays in eval mode and out of checkpoints.
    """

    mean: Tensor
    std: Tensor
    head: nn.Module
    spec: dict[str, Any]
    notes: tuple[str, ...]

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spec, self.notes, self.frozen = {}, (), False
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def freeze(self) -> Self:
        """No gradient, eval mode for good, saved by its hash alone."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and not self.frozen)

    def spatial(self, x: Tensor) -> Tensor:
        """Normalised images (B,c,H,W) -> what is pooled: maps (B,K,h,w) or tokens (B,N,K)."""
        raise NotImplementedError

    def pool(self, maps: Tensor) -> Tensor:
        """-> features (B,D)."""
        raise NotImplementedError

    def early(self, x: Tensor) -> Tensor:
        """Normalised images (B,c,H,W) -> maps (B,K,h,w), or tokens (B,N,K), before the last stage.

        ModelError where there are none.
        """
        found = f"a {type(self).__name__} does not show its maps before the last stage"
        raise ModelError(found, where="network", fix="Take a tiny net, such as tiny-conv or tiny-res.")

    def late(self, maps: Tensor) -> Tensor:
        """What `early` gives -> what is pooled.  `spatial` is the two, one after the other, to the bit."""
        raise NotImplementedError

    def levels(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised images (B,c,H,W) -> what `spatial` gives, and maps (B,K,h,w) of each size on the way, fine first.

        The last of them are what `spatial` gives, if that is maps.  ModelError for a network that does not show them.
        """
        found = f"a {type(self).__name__} does not show its maps of each size"
        raise ModelError(found, where="network", fix="Take a convolutional network, such as tiny-conv or resnet18.")

    def normalise(self, x: Tensor) -> Tensor:
        """Centre and scale by the stored mean and deviation."""
        return (x - self.mean[:, None, None]) / self.std[:, None, None]

    def body(self, x: Tensor) -> Tensor:
        """Images (B,c,H,W) in [0,1] -> features (B,D)."""
        return self.pool(self.spatial(self.normalise(x)))

    def forward(self, x: Tensor) -> Out:
        maps = self.spatial(self.normalise(x))
        features = self.pool(maps)
        return Out(self.head(features), features, maps if maps.ndim == 4 else None)


class Nets(nn.ModuleDict):
    """The nets and every other state of a method, by role."""

    def __getitem__(self, role: str) -> Any:
        return super().__getitem__(role)


def scope(nets: nn.Module, at: str) -> nn.Module:
    """The part of the nets that a phase's `at` names."""
    return nets.get_submodule(at) if at else nets


@contextmanager
def guessing(*nets: nn.Module) -> Iterator[None]:
    """No gradient, and no statistic moves: the rule for every forward that only labels.

    In train mode a teacher normalises by its own batch, as the student does, but running averages are the student's
    business: they are put back on leaving.  Stated once here; see docs/architecture.md, "Batch norm".
    """
    norms: list[Any] = [
        m for net in nets for m in net.modules() if getattr(m, "track_running_stats", False) and m.training
    ]
    was = [m.momentum for m in norms]
    try:
        for m in norms:
            m.momentum = 0.0
        with torch.no_grad():
            yield
    finally:
        for m, momentum in zip(norms, was, strict=True):
            m.momentum = momentum
