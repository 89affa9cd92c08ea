"""CoOp (arXiv:2109.01134): a frozen large net; all that is trained is a prompt in front of its text tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from modicum.core.batch import Batch
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Net, Nets, Out
from modicum.core.program import Clock, Info
from modicum.core.recipe import Optim
from modicum.core.settings import knob
from modicum.runs import checkpoint

from .conftest import Stand, same


class Prompted(Net):
    """An image tower and a matrix (C,D) of text features."""

    def __init__(self, tower: Net, text: Tensor) -> None:
        super().__init__(len(tower.mean))
        self.tower, self.head = tower, nn.Linear(text.shape[1], len(text), bias=False)
        self.head.weight.data = 10 * normalize(text)

    def forward(self, x: Tensor) -> Out:
        h = normalize(self.tower.body(x))
        return Out(self.head(h), h)


@dataclass(frozen=True)
class Coop(Learn):
    length: int = knob(4, 1, 64, doc="context vectors, shared by all classes")

    def build(self, info: Info, make: Make) -> Nets:
        text = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 16)).requires_grad_(False)
        words = nn.ParameterDict({"context": torch.randn(self.length, 8), "names": torch.randn(len(info.classes), 8)})
        words["names"].requires_grad_(False)
        return Nets({"large": make("large", frozen=True), "text": text, "words": words})

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        h = normalize(nets["large"].body(batch["l"]["weak"]))
        logits = 10 * h @ normalize(self.matrix(nets)).T
        return {"labelled": mean(cross_entropy(logits, batch["l"].labels.cls, reduction="none"))}

    def matrix(self, nets: Nets) -> Tensor:
        return nets["text"](nets["words"]["context"].sum(0) + nets["words"]["names"])

    def deliver(self, nets: Nets) -> Net:
        return Prompted(nets["large"], self.matrix(nets).detach())


def test_it_trains_and_resumes(tuned: Stand, proves: Callable[..., Any], tmp_path: Path) -> None:
    before = tuned.make("large")
    loop, losses = proves(tuned, Coop(), optim=Optim(lr=0.5))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert tuned.accuracy(loop.method.deliver(loop.nets)) > 0.45
    assert same(loop.nets["large"], before), "not even a batch norm moved"
    found = checkpoint.latest(tmp_path / "home")
    assert found is not None and found.tensors and not any("large" in k or "before" in k for k in found.tensors)
