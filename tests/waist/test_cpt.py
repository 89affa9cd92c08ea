"""CPT (arXiv:2407.01155): a small net is trained, and delivered, inside a sum with a frozen large one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch.nn.functional import cross_entropy

from modicum.core.batch import Batch
from modicum.core.errors import RunError
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Net, Nets
from modicum.core.program import Clock, Info
from modicum.core.settings import knob
from modicum.models import files
from modicum.nn.sum import Sum
from modicum.runs import checkpoint

from .conftest import Stand, same


@dataclass(frozen=True)
class Cpt(Learn):
    share: float = knob(0.8, 0, 1, doc="alpha, the same in training and in use")

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": make("net"), "before": make("net").freeze(), "large": make("large", frozen=True)})

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        logits = self.deliver(nets)(batch["l"]["weak"]).logits
        return {"labelled": mean(cross_entropy(logits, batch["l"].labels.cls, reduction="none"))}

    def deliver(self, nets: Nets) -> Net:
        return Sum([nets["net"], nets["large"], nets["before"]], (1, self.share, -self.share))


def test_it_trains_and_resumes(tuned: Stand, proves: Callable[..., Any], tmp_path: Path) -> None:
    before = tuned.make("large")
    loop, losses = proves(tuned, Cpt())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert tuned.accuracy(loop.method.deliver(loop.nets)) > 0.6
    assert same(loop.nets["large"], before), "not even a batch norm moved"
    files.save(loop.method.deliver(loop.nets).eval(), tmp_path / "run", classes=tuned.data.names)
    assert tuned.accuracy(files.load(tmp_path / "run")[0]) == tuned.accuracy(loop.method.deliver(loop.nets))
    found = checkpoint.latest(tmp_path / "home")
    assert found is not None and found.tensors and not any("large" in k or "before" in k for k in found.tensors)


def test_another_large_net_is_refused_on_resume(tuned: Stand, tmp_path: Path) -> None:
    tuned.run(Cpt(), tmp_path, kill=5)
    with pytest.raises(RunError, match="frozen"):
        replace(tuned, given={"large": replace(tuned, given={}, seed=3).make("net")}).run(Cpt(), tmp_path)
