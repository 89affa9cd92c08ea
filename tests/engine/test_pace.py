"""Races: a ratio that survives a busy machine, and steps taken where the run would take them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modicum.core.batch import Batch
from modicum.core.dataset import Dataset
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Nets
from modicum.core.program import Change, Clock, Collect, Info, Program, Stream, Train, Turn
from modicum.core.recipe import PLAIN, Recipe
from modicum.engine import pace
from modicum.engine.arms import Bench
from modicum.testing.case import Alone
from modicum.testing.toy import CLASSES, pictures, pixels_of


class Machine:
    """A machine on which somebody else's job comes and goes: while it runs, ours gets a third of the time."""

    def __init__(self, seed: int) -> None:
        self.now, self.luck, self.until, self.busy = 0.0, random.Random(seed), 0.0, False

    def work(self, cpu: float) -> float:
        """Seconds by the clock that so much work takes from now on."""
        begun = self.now
        while cpu > 1e-12:
            if self.now >= self.until:
                self.until, self.busy = self.now + self.luck.expovariate(1 / 0.7), not self.busy
            speed = 1 / 3 if self.busy else 1.0
            piece = min(cpu, (self.until - self.now) * speed)
            cpu, self.now = cpu - piece, self.now + piece / speed
        return self.now - begun


def raced(monkeypatch: pytest.MonkeyPatch, seed: int, threads: int) -> pace.Pace:
    """A job of 30 ms a step against one of 6 ms, on that machine."""
    machine = Machine(seed)

    class Fake:
        device = "cpu"

        def __init__(self, cpu: Callable[[], float]) -> None:
            self.cpu, self.steps = cpu(), 1

        def warm(self, seconds: float) -> None:
            self.steps = max(1, round(seconds / machine.work(self.cpu)))

        def block(self) -> tuple[float, float]:
            return machine.work(self.cpu * self.steps) / self.steps, self.cpu

    monkeypatch.setattr(pace, "Course", Fake)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(pace.time, "monotonic", lambda: machine.now)
    return pace.race([lambda: 0.030, lambda: 0.006])


def test_with_one_thread_others_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        assert raced(monkeypatch, seed, threads=1).ratios == pytest.approx((1.0, 0.2))


def test_with_more_the_ratio_is_near_on_a_machine_that_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = [raced(monkeypatch, seed, threads=2).ratios[1] / 0.2 for seed in range(40)]
    assert 0.9 < np.median(ratios) < 1.1 and np.quantile(ratios, 0.9) < 1.5 and np.quantile(ratios, 0.1) > 0.65


def test_rounds_go_on_while_timings_disagree_and_end_early_where_all_is_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = {raced(monkeypatch, seed, threads=2).rounds for seed in range(20)}
    assert min(spread) == 5 and max(spread) > 8
    calm = pace._pace(np.tile([[[0.3, 0.3], [0.1, 0.1]]], (5, 1, 1)), by_cpu=False)
    assert calm.spread == 0 and calm.ratios == pytest.approx((1, 1 / 3)) and calm.seconds == (0.3, 0.1)


@dataclass(frozen=True)
class Late(Learn):
    """Collects a column, changes the nets, and only then trains on what the column says: twice, in two ways."""

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": make("net")})

    def program(self, info: Info) -> Program:
        chosen = Stream("number > 3", 4)
        return [
            Collect("row", Stream("all", 8, ("plain",)), into="number"),
            Change("mark"),
            Train({"l": chosen}, 30),
            Train({"l": chosen}, 10, (Turn("second", ("net",)),), lane=1),
            Train({"l": chosen}, 60),
        ]

    def row(self, nets: Any, batch: Batch) -> Tensor:
        return batch["all"].rows.float()

    def mark(self, nets: Any) -> None:
        nets["marked"] = nn.Identity()

    def loss(self, nets: Any, batch: Batch, clock: Clock) -> Loss:
        assert "marked" in nets and (batch["l"].columns["number"] > 3).all() and len(batch["l"].rows) == 4
        return {"labelled": mean(nets["net"](batch["l"]["weak"]).logits.square().sum(1))}

    def second(self, nets: Any, batch: Batch, clock: Clock) -> Loss:
        return self.loss(nets, batch, clock)


def late() -> Any:
    images, truth = pictures(24)
    data = Dataset.build([f"{i}.png" for i in range(24)], CLASSES, cls=truth, split="train")
    bench = Bench(data, pixels_of(images), np.ones(24, bool), "tiny-conv:width=4", 16, 3, 1, Alone(), every=-1.0)  # type: ignore[arg-type]
    return bench.loop(Late(), Recipe(wraps=(), views={"weak": PLAIN, "plain": PLAIN}))


def test_steps_are_taken_after_the_passes_and_changes_before_them() -> None:
    course = pace.Course(late)
    assert [share for share, _ in course.legs] == [0.9, 0.1]
    before = torch.get_rng_state()
    found = pace.race([late, late], least=2, most=2)
    assert torch.equal(before, torch.get_rng_state()) and found.rounds == 2 and 0.2 < found.ratios[1] < 5
    assert 0 < found.seconds[0] < 1
