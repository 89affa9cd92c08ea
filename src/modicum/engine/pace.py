"""How long steps take, on a machine that others use too: two jobs take turns, block by block.

Load comes and goes within seconds, and a short step slips through a gap where a long one cannot.  So blocks of about
the same length follow one another, and a ratio is the median over rounds of the two blocks of a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from modicum.core.net import scope
from modicum.core.program import Ask, Train
from modicum.nn import ranks

NEAR = 0.1  # a ratio is known when half of the rounds lie this close together, as a share of it


@dataclass(frozen=True)
class Pace:
    """Of jobs raced: seconds of a step of each, by the clock; how many times the first one's step each takes.

    spread: of the ratio that is known worst, between the quartiles, as a share.  rounds: how often each was timed.
    """

    seconds: tuple[float, ...]
    ratios: tuple[float, ...]
    spread: float
    rounds: int


def race(
    jobs: Sequence[Callable[[], Any]], *, least: int = 5, most: int = 20, seconds: float = 6.0, clear: float = 0.0,
    block: float = 0.1,
) -> Pace:  # fmt: skip
    """Time steps of loops, on nets that are thrown away.  jobs: each makes a Loop at its start.

    block: seconds a job is timed in a round; a longer step is a block of its own.  Rounds end when ratios are known
    (after `least`), at `most`, after `seconds` (and three rounds), or after two if `clear` is given and a ratio exceeds
    it or its inverse.  With one thread on a processor, ratios are of CPU time, which others' work hardly touches; else
    by the clock.  Every rank makes the same decisions: the first one's.
    """
    courses = [Course(make) for make in jobs]
    by_cpu = torch.get_num_threads() == 1 and courses[0].device == "cpu"
    rounds: list[np.ndarray] = []
    with torch.random.fork_rng():
        for course in courses:
            course.warm(block)
        begun = time.monotonic()
        while True:
            took = {i: courses[i].block() for i in range(len(jobs))[:: 1 if len(rounds) % 2 else -1]}
            rounds.append(np.array([took[i] for i in range(len(jobs))]))
            pace = _pace(np.stack(rounds), by_cpu)
            far = max(max(r, 1 / r) for r in pace.ratios)
            late = len(rounds) >= 3 and ranks.of_first(time.monotonic() - begun) > seconds
            known = len(rounds) >= least and (pace.spread <= NEAR or len(rounds) >= most)
            if late or known or (clear and len(rounds) >= 2 and far > clear):
                return pace


def _pace(rounds: np.ndarray, by_cpu: bool) -> Pace:
    """rounds: (R, jobs, 2), seconds by the clock and of CPU."""
    ratios = rounds[:, :, int(by_cpu)] / rounds[:, :1, int(by_cpu)]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75), axis=0)
    seconds = np.median(rounds[:, :, 0], axis=0)
    return Pace(tuple(seconds.tolist()), tuple(middle.tolist()), float(((high - low) / middle).max()), len(rounds))


class Course:
    """A loop's program in miniature: one leg for each kind of Train phase, weighed by its share of all steps.

    Legs start where the run would be after the Collects and Changes before them, so columns they read are there.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        loop = make()
        self.device: str = loop.fabric.device.type
        trains = [(i, p) for i, p in enumerate(loop.program) if isinstance(p, Train)]
        kinds: dict[Any, list[int]] = {}
        for i, p in trains:
            kinds.setdefault((tuple(p.streams.items()), tuple(t.loss for t in p.turns)), []).append(i)
        total = sum(p.steps for _, p in trains)
        self.legs: list[tuple[float, Callable[[], None]]] = []
        for places in kinds.values():
            share = sum(loop.program[i].steps for i in places) / total
            self.legs.append((share, _leg(make() if self.legs else loop, places[0])))
        self.steps = 1

    def warm(self, seconds: float) -> None:
        """Two steps of every leg; from the second follows how many make a block of so many seconds."""
        self.block()
        self.steps = max(1, round(seconds / max(1e-6, self.block()[0] * len(self.legs))))

    def block(self) -> tuple[float, float]:
        """Seconds an average step takes, by the clock and of CPU."""
        wall = cpu = 0.0
        for share, step in self.legs:
            begun, busy = time.perf_counter(), time.process_time()
            for _ in range(self.steps):
                step()
            if self.device == "cuda":
                torch.cuda.synchronize()
            wall += share * (time.perf_counter() - begun) / self.steps
            cpu += share * (time.process_time() - busy) / self.steps
        return ranks.of_first(wall), max(1e-9, ranks.of_first(cpu))


def _leg(loop: Any, number: int) -> Callable[[], None]:
    """Steps of the Train phase at `number`, after the passes and changes before it."""
    loop.nets.train()
    for i, phase in enumerate(loop.program[:number]):
        if not isinstance(phase, Train | Ask):
            loop.phase(phase, i)
    phase = loop.program[number]
    nets, taken = scope(loop.nets, phase.at), iter(range(10**9))
    loop.begin(phase, number, nets)

    def step() -> None:
        loop.step(phase, nets, replace(loop.clock(phase, number, 0), step=next(taken)))

    return step
