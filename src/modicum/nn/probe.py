"""Classifiers on the features of a network that is not trained: linear ones, and the labelled features themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.core.program import Collect, Program, Stream

FLOOR = 1e-6  # least share of the votes: its logarithm is finite
MOST = 10**7


def passes(fn: str, looks: int) -> Program:
    """Phases that hand `fn` every labelled image in the plain view, then `looks` times in weak views drawn anew."""
    plain = Collect(fn, Stream("class", 64, ("plain",)), name="features")
    again = [Collect(fn, Stream("class", 64, ("weak",)), name=f"features {i}", draw=i) for i in range(1, looks + 1)]
    return [plain, *again]


def normed(x: Tensor, norm: str) -> Tensor:
    """Features (B,D) at length 1 ("l2") or as they are ("none"), in float32 at least."""
    wide = x if x.dtype == torch.float64 else x.float()
    return F.normalize(wide, dim=1) if norm == "l2" else wide


class Memory(nn.Module):
    """Labelled features.  features: (M,D), normalised; cls: int64 (M,), -1 where there is none yet."""

    features: Tensor
    cls: Tensor

    def __init__(self, rows: int, inside: int, norm: str = "l2") -> None:
        super().__init__()
        self.norm = norm
        self.register_buffer("features", torch.zeros(rows, inside))
        self.register_buffer("cls", torch.full((rows,), -1, dtype=torch.int64))

    def add(self, features: Tensor, cls: Tensor) -> None:
        """Put away features (B,D) and their classes (B,) behind those that are there."""
        start = int((self.cls >= 0).sum())
        self.features[start : start + len(cls)] = normed(features, self.norm).to(self.features.dtype)
        self.cls[start : start + len(cls)] = cls


class ProbeLinear(nn.Linear):
    """features (B,D) -> W normed(feature) + b, (B,C), in float32 at least."""

    def __init__(self, inside: int, classes: int, norm: str = "l2") -> None:
        super().__init__(inside, classes)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            wide = normed(x, self.norm)
            return F.linear(wide, self.weight.to(wide.dtype), self.bias.to(wide.dtype))


class Neighbours(Memory):
    """features (B,D) -> logarithms of vote shares (B,C): the `k` nearest of the labelled features vote.

        s_i = cos(x, f_i),  or  -|x - f_i|^2 / (2 v), v the mean of |f|^2     (equal but for 1 where |x| = |f| = 1)
        share_c ~ sum over the k largest s_i of [y_i = c] w_i,   w_i = 1 or exp(s_i / T)

    All that are as near as the k-th vote, so that no order decides.  A share of nothing counts as 1e-6.
    Source: Cover and Hart, 1967; the weights: Wu et al., 2018.
    """

    def __init__(
        self, rows: int, inside: int, classes: int, *, k: int = 20, metric: str = "cosine", weights: str = "distance",
        temperature: float = 0.07,
    ) -> None:  # fmt: skip
        super().__init__(rows, inside, "l2" if metric == "cosine" else "none")
        self.in_features, self.out_features = inside, classes
        self.k, self.metric, self.weights, self.temperature = k, metric, weights, temperature

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            ours, known = normed(x, self.norm), self.cls >= 0
            theirs = self.features.to(ours.dtype)
            near = ours @ theirs.T
            if self.metric == "l2":
                length = theirs.square().sum(1)
                near = near - ours.square().sum(1, keepdim=True) / 2 - length / 2
                near = near * known.sum() / length.sum().clamp_min(1e-12)
            near = near.masked_fill(~known, -1e30)
            votes = (near >= near.topk(min(self.k, len(known)), 1).values[:, -1:]).to(ours.dtype)
            if self.weights == "distance":
                votes = votes * ((near - near.amax(1, keepdim=True)) / self.temperature).exp()
            each = torch.arange(self.out_features, device=x.device)
            counted = votes @ (self.cls[:, None] == each).to(ours.dtype)
            return (counted / counted.sum(1, keepdim=True).clamp_min(1e-12)).clamp_min(FLOOR).log()


def probe_head(net: Net, norm: str = "l2") -> Net:
    """The network with a new linear head on normalised features; noted in its `spec`.  ModelError as `_inside`."""
    inside, classes = _inside(net, "probe head")
    if norm not in ("l2", "none"):
        raise ModelError(f"norm {norm!r} is not known", where="probe head", fix="Allowed: l2, none.")
    net.head = ProbeLinear(inside, classes, norm).to(net.mean.device)
    return _noted(net, {"edit": "probe-head", "norm": norm})


def neighbours_head(net: Net, rows: int, k: int, metric: str, weights: str, temperature: float) -> Net:
    """The network with the vote of the nearest of `rows` labelled features, none there yet; noted in its `spec`.

    ModelError as `_inside`, and for a value that is not allowed.
    """
    inside, classes = _inside(net, "neighbours head")
    allowed = {
        "rows": 1 <= rows <= MOST, "k": 1 <= k <= MOST, "metric": metric in ("cosine", "l2"),
        "weights": weights in ("distance", "uniform"), "temperature": 1e-3 <= temperature <= 1e3,
    }  # fmt: skip
    for name, fine in allowed.items():
        if not fine:
            raise ModelError(f"{name} is not allowed", where="neighbours head", fix="See nn/probe.py for the ranges.")
    given = {"k": k, "metric": metric, "weights": weights, "temperature": temperature}
    net.head = Neighbours(rows, inside, classes, **given).to(net.mean.device)  # type: ignore[arg-type]
    return _noted(net, {"edit": "neighbours-head", "rows": rows, **given})


def _inside(net: Net, where: str) -> tuple[int, int]:
    """Features in and classes out of the head; ModelError where it is not linear."""
    if not isinstance(net.head, nn.Linear):
        fix = "Choose another network."
        raise ModelError(f"the head is {type(net.head).__name__}, not linear", where=where, fix=fix)
    return net.head.in_features, net.head.out_features


def _noted(net: Net, edit: dict[str, object]) -> Net:
    net.spec = {**net.spec, "edits": [*net.spec.get("edits", []), edit]}
    return net
