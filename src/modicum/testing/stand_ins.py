"""What stands in for Fabric, a feed, a captured pass and the doors of generators: the real engine in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modicum.core import draws
from modicum.core.batch import Labels, View
from modicum.core.method import Answer, Attention, Doors, Seen
from modicum.core.net import Net
from modicum.data.feed import Feed
from modicum.engine.arms import Bench
from modicum.nn import ranks
from modicum.nn.adjusting import adjusting
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


BROUGHT: dict[str, Callable[[Net], Net]] = {"adjust": lambda net: adjusting(net, 2, 16, 8)}
"""Networks with random weights, for what a method may ask for that another one made."""


@dataclass
class ToyBench(Bench):
    """A bench with feeds of another kind, to which a network is brought for every role that BROUGHT knows."""

    kind: type[Feed] = Feed

    def _brought(self, role: str) -> Net:
        if role not in BROUGHT:
            return super()._brought(role)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draws.key(self.seed, "brought", role))
            return BROUGHT[role](self.make(role)).freeze()

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


def doors() -> Doors:
    """Doors to small things: a plain cut-out of each class, a model that says a number, a brush of one colour, and a
    judge that is sure of nothing."""

    def cutouts(place: str, names: Sequence[str]) -> dict[str, list[np.ndarray]]:
        return {n: [np.full((5, 4, 4), (60 + 60 * i, 90, 200, 255), np.uint8)] for i, n in enumerate(names)}

    def judge(place: str, names: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda images: np.full((len(images), len(names)), 1 / len(names))

    return Doors(
        lambda name: lambda start, words, seed: f" number {seed}. And",
        lambda name, side, *_: lambda sentence, seed: np.full((side, side, 3), seed % 256, np.uint8), cutouts, judge,
    )  # fmt: skip
