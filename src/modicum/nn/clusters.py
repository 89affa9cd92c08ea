"""Averages over time that steady what guesses teach: a slow head, outputs of each image, centres of each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.nn.ranks import SumOverRanks, everyone, world_size


class SlowHead(nn.Module):
    """The moving average of a linear head, buffers `weight` (C,D) and `bias` (C,)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", head.weight.detach().clone())
        self.register_buffer("bias", head.bias.detach().clone())

    @torch.no_grad()
    def follow(self, head: nn.Linear, decay: float) -> None:
        """average <- decay * average + (1 - decay) * head."""
        torch._foreach_lerp_([self.weight, self.bias], [head.weight, head.bias], 1 - decay)


class Outputs(nn.Module):
    """The moving average of each image's guesses, (N,C) float32; a first guess counts whole."""

    average: Tensor
    seen: Tensor

    def __init__(self, images: int, classes: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("average", torch.zeros(images, classes))
        self.register_buffer("seen", torch.zeros(images, dtype=torch.bool))

    def follow(self, probs: Tensor, rows: Tensor) -> Tensor:
        """probs (U,C) of images `rows` (U,) -> their averages after this guess, (U,C)."""
        every, where = everyone(probs).to(self.average.dtype), everyone(rows)
        old = torch.where(self.seen[where, None], self.average[where], every)
        self.average[where] = self.decay * old + (1 - self.decay) * every
        self.seen[where] = True
        return self.average[rows].to(probs.dtype)


class Centres(nn.Module):
    """The moving mean of the believed features of each class, (C,D); zero until a first one is believed."""

    mean: Tensor
    there: Tensor

    def __init__(self, classes: int, width: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(classes, width))
        self.register_buffer("there", torch.zeros(classes, dtype=torch.bool))

    def follow(self, features: Tensor, target: Tensor, weight: Tensor) -> None:
        """features (U,D), classes (U,), beliefs (U,) of this process; classes without a belief stay."""
        h, target, weight = everyone(features).to(self.mean.dtype), everyone(target), everyone(weight)
        use = F.one_hot(target, len(self.mean)).to(h.dtype) * weight.to(h.dtype)[:, None]
        count = use.sum(0)
        now = (use.T @ h) / count.clamp_min(1e-12)[:, None]
        decay = torch.where(self.there, self.decay, 0.0)[:, None].to(h.dtype)
        self.mean.copy_(torch.where((count > 0)[:, None], decay * self.mean + (1 - decay) * now, self.mean))
        self.there |= count > 0

    def distance(self, features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distance of directions (U,), in [0,4], and where there is a centre (U,) as 0 or 1."""
        to = F.normalize(self.mean[target].to(features.dtype), dim=1)
        return (F.normalize(features, dim=1) - to).square().sum(1), self.there[target].to(features.dtype)


@torch.no_grad()
def agreeing(
    head: nn.Linear, h: Tensor, y: Tensor, seen: Tensor, target: Tensor, believed: Tensor
) -> Tensor:
    """Rows of the head, bool (C,), on which labelled and believed unlabelled cross-entropy pull the same way.

    h (B,D), y (B,): labelled features and classes; seen (U,D), target (U,), believed (U,): unlabelled ones.
    The gradient of cross-entropy on row c is sum (softmax - onehot)_c h; rows agree if the inner product is above 0.
    """

    def pull(x: Tensor, cls: Tensor, weight: Tensor) -> Tensor:
        gap = (F.linear(x, head.weight.to(x.dtype), head.bias.to(x.dtype)).softmax(1)
               - F.one_hot(cls, head.out_features).to(x.dtype)) * weight[:, None]  # fmt: skip
        grad = gap.T @ x
        return SumOverRanks.apply(grad) if world_size() > 1 else grad

    known, guessed = pull(h, y, torch.ones_like(h[:, 0])), pull(seen, target, believed.to(seen.dtype))
    return (known * guessed).sum(1) > 0
