"""What stands in for Fabric, for a feed and for a captured pass, so that the real engine runs in milliseconds."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from modicum.core.batch import Labels, View
from modicum.core.method import Answer, Attention, Seen
from modicum.data.feed import Feed
from modicum.engine.arms import Bench
from modicum.nn import ranks
from modicum.testing import toy


@dataclass(frozen=True)
class Alone:
    """What the loop asks of a launched Fabric: the processor."""

    half: bool = False
    device: torch.device = torch.device("cpu")

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 where `half`, else as it is."""
        return torch.autocast("cpu", torch.bfloat16) if self.half else nullcontext()


class DoubleFeed(Feed):
    """Pixels in float64."""

    def seen(self, *given: Any) -> dict[str, View]:
        return {n: replace(v, pixels=v.pixels.double()) for n, v in super().seen(*given).items()}


class GarbledFeed(Feed):
    """Rows of which no label is known carry garbage in place of "unknown"."""

    def labels(self, rows: Tensor) -> Labels:
        out, luck = super().labels(rows), torch.Generator().manual_seed(9)
        unknown = out.cls < 0
        for given in (out.probs, out.tags):
            if given is not None:
                unknown &= given.isnan().any(1) if given.is_floating_point() else (given < 0).all(1)
        garbage = torch.randint(0, len(toy.CLASSES), out.cls.shape, generator=luck)
        return replace(out, cls=torch.where(unknown, garbage, out.cls))


@dataclass
class ToyBench(Bench):
    """A bench with feeds of another kind."""

    kind: type[Feed] = Feed

    def feed(self, views: Any) -> Feed:
        return self.kind(
            self.data, self.pixels, self.pool, views=views, side=self.side, seed=self.seed, device=self.fabric.device,
            rank=ranks.rank(), world=ranks.world_size(),
        )  # fmt: skip


def captured(acts: Tensor | None = None, *, evidence: bool = True) -> Seen:
    """A captured pass of 4 images, 2 targets of 3 classes and 6 maps of 5 x 5, and of two blocks of attention.

    acts: other maps (4,6,5,5).  Without evidence there is no gradient, no weight of a head and no attention.
    """
    luck = torch.Generator().manual_seed(4)
    images, maps = torch.rand(4, 3, 10, 10, generator=luck), torch.rand(4, 6, 5, 5, generator=luck)
    grads, head = torch.randn(4, 2, 6, 5, 5, generator=luck), torch.randn(3, 6, generator=luck)
    classes = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 2]])
    rows = head[classes]
    weights = tuple(torch.randn(4, 2, 26, 26, generator=luck).softmax(3) for _ in range(2))
    slopes = tuple(torch.randn(4, 2, 2, 26, 26, generator=luck) for _ in range(2))
    told = Attention(weights, slopes, 1, torch.eye(26)[0])

    def rest(i: int, some: Tensor) -> Answer:
        scores = some.mean((2, 3)) @ rows[i].T
        return Answer(scores, scores.sigmoid())

    def look(i: int, some: Tensor) -> Answer:
        return rest(i, nn.functional.avg_pool2d(some.repeat(1, 2, 1, 1), 2))

    def seen(_: Tensor) -> Seen:
        return whole if evidence else replace(whole, grads=None, rows=None, attention=None)

    acts = maps if acts is None else acts
    slope = torch.randn(4, 2, 3, 10, 10, generator=luck)
    whole = Seen(2, images, acts, grads, rows, [], rest, look, seen, lambda: slope, told, classes)
    return seen(images)
