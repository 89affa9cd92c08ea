"""The loop: runs a program step by step, saves itself, and resumes to the same bits.

State is (phase, step), the nets, the optimisers and the collected columns.  Before every step the generators are seeded
from (seed, phase, step, lane, rank), so no generator is ever saved.  Same bits are promised for one machine, thread
count, dtype and set of versions; `choices` in config.json records them.

Several processes run the same program, each on its share of every batch: counts and gradients are summed (nn/ranks.py),
the first one alone writes.  Each makes a Change whole; a Collect that fills a column is shared out, batch by batch.

Resuming after changes of structure: `build` gives the nets of the start, so each Change that altered the structure
(modules, names, shapes, what is frozen) is repeated: the nets as they were before it are loaded, the generator is
seeded as it was, the Change is called; then the checkpoint is loaded.  Changes of values alone are not repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modicum.core import draws, form
from modicum.core.errors import ModicumError, NeedsError, RunError
from modicum.core.loss import Loss
from modicum.core.method import Learn, Wrap
from modicum.core.net import Nets, scope
from modicum.core.program import Change, Clock, Collect, Info, Phase, Program, Train
from modicum.core.recipe import Recipe
from modicum.data.feed import Feed
from modicum.engine.optim import average, gradients, make_optimiser, restore, state_of
from modicum.engine.state import ANEW, STATE, Stop, seals, structure, thawed, waiting
from modicum.nn import ranks
from modicum.nn.norm import shareable
from modicum.runs import checkpoint
from modicum.runs.run import Metrics

Tick = Callable[[str, int, int, Mapping[str, float]], None]


@dataclass
class Loop:
    """One arm's training.  `run()` goes from the last checkpoint (or the start) to the end of the program.

    fabric: a launched Lightning Fabric of one device.  home: where checkpoints go (None: nowhere).
    tick(arm, done, total, values): called after every step.  every: seconds between checkpoints.
    NeedsError where a stream draws fewer images a step than there are processes.
    """

    method: Learn
    nets: Nets
    info: Info
    feed: Feed
    fabric: Any
    seed: int
    arm: str = "main"
    home: Path | None = None
    metrics: Metrics | None = None
    tick: Tick | None = None
    every: float = 10.0
    layout: torch.memory_format = torch.preserve_format
    program: Program = field(default_factory=list)
    at: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.program = self.program or self.method.program(self.info)
        trains = [p for p in self.program if isinstance(p, Train)]
        self.total = sum(p.steps for p in trains)
        for size in (s.size for p in trains for s in p.streams.values() if s.size < ranks.world_size()):
            found = f"{size} images a step cannot be shared by {ranks.world_size()} processes"
            raise NeedsError(found, where=self.arm, fix="Give a larger --batch or fewer --devices.")
        if isinstance(self.method, Wrap) and not self.total:
            name, fix = self.method.card.name, "Leave the wrapper out: --recipe wraps="
            raise NeedsError(f"{name} goes around gradient steps, and the method takes none", where=self.arm, fix=fix)
        shareable(self.nets)
        self.optimisers: dict[int, list[torch.optim.Optimizer]] = {}
        self.made: dict[int, int] = {}  # lane -> the phase its optimisers were made for
        self.kept: dict[str, checkpoint.Kept] = {}
        self.seals: dict[str, str] = {}
        self.whole = True  # no step, pass or change is half done
        self.interrupted = Stop()
        self.saved = time.monotonic()
        self.begun = time.monotonic()

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """To the end.  An interrupt waits for the step under way and is saved before it is passed on."""
        with torch.random.fork_rng(), waiting() as self.interrupted:
            self.nets.train()
            self.resume()
            ranks.same(self.nets)
            try:
                for number in range(self.at[0], len(self.program)):
                    self.at = (number, self.at[1])
                    self.phase(self.program[number], number)
                    self.at, self.whole = (number + 1, 0), True
                    self.pause()
            except KeyboardInterrupt:
                if self.whole and not self.interrupted.hurried:
                    self.save()
                raise
            self.nets.eval()

    def phase(self, phase: Phase, number: int) -> None:
        """Run one phase from `self.at`."""
        nets = scope(self.nets, phase.at)
        if isinstance(phase, Train):
            self.train(phase, number, nets)
        elif isinstance(phase, Collect | Change):
            self.whole = False
            self.collect(phase, number, nets) if isinstance(phase, Collect) else self.change(phase, number, nets)
            ranks.same(self.nets)
        else:
            fix = "Answer it with `modicum select` and run again."
            raise NeedsError(f"the phase {phase.name!r} needs a person", where=self.arm, fix=fix)

    def train(self, phase: Train, number: int, nets: nn.Module) -> None:
        """All steps of a Train phase that are still to do."""
        if self.at[1] == 0:
            self.begin(phase, number, nets)
        for step in range(self.at[1], phase.steps):
            clock = self.clock(phase, number, step)
            self.whole = False
            loss = self.step(phase, nets, clock)
            self.at, self.whole = (number, step + 1), True
            self.report(phase, clock, loss)
            self.pause()

    def begin(self, phase: Train, number: int, nets: nn.Module) -> None:
        """New optimisers for a phase, with the state of the lane's last ones where it carries."""
        before, fresh = self.optimisers.get(phase.lane), self.fresh(phase, nets)
        if phase.carry and before is not None:
            last: Any = self.program[self.made[phase.lane]]
            for old, new in zip(before, fresh, strict=True) if last.turns == phase.turns else ():
                restore(new, *state_of(old))
        self.optimisers[phase.lane], self.made[phase.lane] = fresh, number

    def step(self, phase: Train, nets: nn.Module, clock: Clock) -> Loss:
        """One step: draw, take every turn, follow up.  Returns the terms of all turns."""
        self.seeded(clock.phase, clock.step, clock.lane, ranks.rank())
        at = clock.step, clock.phase, clock.lane
        batch = {name: self.laid_out(self.feed.draw(s, name, *at)) for name, s in phase.streams.items()}
        terms: Loss = {}
        for turn, optimiser in zip(phase.turns, self.optimisers[phase.lane], strict=True):
            for group in optimiser.param_groups:
                group["lr"] = group["base_lr"] * self.recipe.lr_factor(clock.done)
            optimiser.zero_grad(set_to_none=True)
            with self.fabric.autocast():
                loss = self.call(turn.loss)(nets, batch, clock)
            self.total_of(loss).backward()
            gradients(optimiser, ranks.world_size(), self.recipe.clip)
            optimiser.step()
            terms |= loss
        self.method.after_step(self.nets, clock)
        return terms

    def collect(self, phase: Collect, number: int, nets: nn.Module) -> None:
        """A pass without gradient over the rows of a stream; rows that are not drawn get NaN in the column."""
        rows = self.feed.rows(phase.stream.rows).numpy()
        batches = [rows[i : i + phase.stream.size] for i in range(0, len(rows), phase.stream.size)]
        # What is found in buffers follows batch by batch, so every process must see all of them.
        shared = bool(phase.into) and phase.mode == "eval" and len(batches) >= ranks.world_size() > 1
        values: Tensor | None = None
        nets.train(phase.mode == "train")
        self.seeded(number, 0, 0)
        with torch.no_grad(), self.fabric.autocast():
            for some in batches[ranks.rank() :: ranks.world_size()] if shared else batches:
                part = next(self.feed.sweep(some, phase.stream.size, phase.stream.views, phase.draw))
                with ranks.apart():
                    got = self.call(phase.fn)(nets, {"all": self.laid_out(part)})
                if phase.into:
                    values = torch.zeros(len(self.feed.data), *got.shape[1:]) if values is None else values
                    values[part.rows.cpu()] = got.float().cpu()
                self.interrupted()
        nets.train()
        if values is not None:
            values = ranks.added(values) if shared else values
            values[np.setdiff1d(np.arange(len(values)), rows)] = torch.nan
            self.feed.put(phase.into, values)
            self.kept = {n: k for n, k in self.kept.items() if not n.endswith(f"-column-{phase.into}")}
            self.keep(f"{number:04d}-column-{phase.into}", {"values": values})

    def change(self, phase: Change, number: int, nets: nn.Module) -> None:
        """Change the nets; where the structure is another one then, keep what they were."""
        before = structure(self.nets)
        state = {k: v.detach().cpu().clone() for k, v in thawed(self.nets).items()} if self.home is not None else {}
        self.seeded(number, 0, 0)
        with ranks.apart():
            self.call(phase.fn)(nets)
        altered = structure(self.nets) != before
        if altered:
            self.nets.to(self.fabric.device).train()
            self.keep(f"{number:04d}-change", state)
        if altered or not phase.optimisers:
            self.optimisers.clear()
        elif phase.optimisers == "mean":
            average([self.optimisers[lane] for lane in sorted(self.optimisers)])

    # -- parts -------------------------------------------------------------------------------------------------------

    @property
    def recipe(self) -> Recipe:
        """How to train."""
        return self.info.recipe

    def call(self, name: str) -> Callable[..., Any]:
        """A function of the method by its (dotted) name."""
        return attrgetter(name)(self.method)

    def seeded(self, phase: int, step: int, lane: int, rank: int = 0) -> None:
        torch.manual_seed(draws.key(self.seed, phase, step, lane, rank))

    def clock(self, phase: Train, number: int, step: int) -> Clock:
        """Where we are; schedules run over all steps of this phase's lane."""
        lane = [p for p in self.program if isinstance(p, Train) and p.lane == phase.lane]
        before = sum(p.steps for p in self.program[:number] if isinstance(p, Train) and p.lane == phase.lane) + step
        done = before / max(1, sum(p.steps for p in lane))
        return Clock(number, step, phase.steps, self.seed, phase.lane, before, done)

    def fresh(self, phase: Train, nets: nn.Module) -> list[torch.optim.Optimizer]:
        """One optimiser a turn."""
        groups = {"main": self.recipe.optim, **self.recipe.groups}
        missing = [t.group for t in phase.turns if t.group not in groups]
        if missing:
            fix = "Add it to Recipe.groups."
            raise NeedsError(f"the recipe has no optimiser group {missing[0]!r}", where=self.arm, fix=fix)
        return [make_optimiser(nets, turn.trains, groups[turn.group]) for turn in phase.turns]

    def laid_out(self, part: Any) -> Any:
        """Pixels in the memory layout that was chosen for the run."""
        if self.layout == torch.preserve_format:
            return part
        views = {n: replace(v, pixels=v.pixels.contiguous(memory_format=self.layout)) for n, v in part.views.items()}
        return replace(part, views=views)

    def total_of(self, loss: Loss) -> Tensor:
        """The scalar to go down: weighted means, each over the count of all ranks."""
        active = {name: term for name, term in loss.items() if term.weight}
        if not active:
            fix = "Give at least one Term a weight above 0."
            raise ModicumError(f"no term of the loss has a weight at step {self.at[1]}", where=self.arm, fix=fix)
        counts = ranks.added(_counts(active)).clamp_min(1e-12)
        parts = torch.stack([t.weight * t.total / n.to(t.total.dtype) for t, n in zip(active.values(), counts)])
        finite = torch.isfinite(parts.detach())
        if not finite.all():
            bad = finite.tolist().index(False)
            where = f"step {self.at[1]} of {self.program[self.at[0]].name!r}"
            raise ModicumError(
                f"the loss {list(active)[bad]!r} is {parts[bad].item()} at {where}", where=self.arm,
                fix="Lower the learning rate (--recipe optim.lr=0.01) or try --precision 32.",
            )  # fmt: skip
        return parts.sum()

    def report(self, phase: Train, clock: Clock, loss: Loss) -> None:
        """Tell the caller, and now and then metrics.jsonl (about 200 lines an arm)."""
        lines = max(1, self.total // 200)
        logged = clock.step % lines == 0 or clock.step + 1 == phase.steps
        values: dict[str, float] = {}
        if logged:
            here = torch.tensor([[float(t.total.detach()), float(t.count)] for t in loss.values()], dtype=torch.float64)
            values = {n: total / max(1e-12, count) for n, (total, count) in zip(loss, ranks.added(here).tolist())}
            if self.metrics is not None and not ranks.rank():
                lr = self.optimisers[phase.lane][-1].param_groups[0]["lr"]
                took = round(time.monotonic() - self.begun, 3)
                at = {"arm": self.arm, "phase": phase.name, "step": self.passed(), "steps": self.total, "lr": lr}
                self.metrics.add({**at, **values, "seconds": took})
        if self.tick is not None:
            self.tick(self.arm, self.passed(), self.total, values)

    def passed(self) -> int:
        """Gradient steps taken, of all phases and lanes."""
        return sum(p.steps for p in self.program[: self.at[0]] if isinstance(p, Train)) + self.at[1]

    # -- saving ------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Between two steps: save now and then, and let an interrupt through."""
        if self.home is not None and time.monotonic() - self.saved > self.every:
            self.save()
        if ranks.anyone(self.interrupted.asked > 0):
            raise KeyboardInterrupt

    def keep(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Put away what will not change any more, for all further checkpoints."""
        if self.home is not None and not ranks.rank():
            self.kept[name] = tensors

    def save(self) -> None:
        """Write a checkpoint, if there is a place for it."""
        self.saved = time.monotonic()
        if self.home is None or ranks.rank():
            return
        if self.metrics is not None:
            self.metrics.sync()
        self.seals = self.seals or seals(self.nets)
        tensors = {f"nets.{k}": v for k, v in thawed(self.nets).items()}
        kept: dict[str, Any] = {}
        for lane, optimisers in self.optimisers.items():
            for i, optimiser in enumerate(optimisers):
                arrays, kept[f"{lane}.{i}"] = state_of(optimiser)
                tensors |= {f"optim.{lane}.{i}.{k}": v for k, v in arrays.items()}
        made = {str(lane): self.made[lane] for lane in self.optimisers}
        state = {
            "phase": self.at[0], "step": self.at[1], "optim": kept, "made": made, "total": self.passed(),
            "frozen": self.seals,
        }  # fmt: skip
        self.kept.update(checkpoint.save(self.home, self.at, tensors, state, self.kept))

    def resume(self) -> None:
        """Take up the newest checkpoint, if there is one."""
        found = checkpoint.latest(self.home) if self.home is not None else None
        if found is not None and (wrong := form.misfit(found.state, STATE)):
            raise RunError(f"the newest checkpoint is damaged: {wrong}", where=self.home, fix=ANEW)
        if self.metrics is not None and not ranks.rank():
            self.metrics.cut(self.arm, found.state["total"] if found else 0)
        try:
            if found is not None:
                self.take_up(found)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            why = f"the newest checkpoint does not fit this training: {error}"
            raise RunError(why, where=self.home, fix=ANEW) from error

    def take_up(self, found: checkpoint.Found) -> None:
        """Nets, columns and optimisers as they were at a checkpoint."""
        tensors, state, kept = found
        at = self.program[state["phase"]] if state["phase"] < len(self.program) else None
        if state["phase"] > len(self.program) or state["step"] > (at.steps if isinstance(at, Train) else 0):
            raise ValueError("its place is not in the program")
        self.seals = seals(self.nets)
        if self.seals != state["frozen"]:
            fix = "Give the same weights, or start a new run."
            raise RunError("a frozen network is not the one this run began with", where=self.home, fix=fix)
        self.kept.update(kept)
        for name, path in sorted(kept.items()):
            number, what, *column = name.split("-", 2)
            if what == "column":
                self.feed.put(column[0], checkpoint.load(path)["values"])
            else:
                self.repeat(int(number), checkpoint.load(path))
        self.load({k[5:]: v for k, v in tensors.items() if k.startswith("nets.")})
        self.at = (state["phase"], state["step"])
        for lane, number in state["made"].items():
            phase: Any = self.program[number]
            self.optimisers[int(lane)], self.made[int(lane)] = self.fresh(phase, scope(self.nets, phase.at)), number
            for i, optimiser in enumerate(self.optimisers[int(lane)]):
                start = f"optim.{lane}.{i}."
                arrays = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
                restore(optimiser, arrays, state["optim"][f"{lane}.{i}"])

    def repeat(self, number: int, state: dict[str, Tensor]) -> None:
        """A change of structure once more, on the nets as they were before it."""
        self.load(state)
        phase: Any = self.program[number]
        self.seeded(number, 0, 0)
        with ranks.apart():
            self.call(phase.fn)(scope(self.nets, phase.at))
        self.nets.to(self.fabric.device).train()

    def load(self, state: dict[str, Tensor]) -> None:
        """Values into nets of the same structure; RunError where they do not fit."""
        own = thawed(self.nets)
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
            fix = "The method or its settings changed: start a new run."
            raise RunError("the checkpoint does not fit the networks", where=self.home, fix=fix)
        self.nets.load_state_dict(state, strict=False)


def _counts(loss: Loss) -> Tensor:
    """What each term's total is divided by, on this process: (terms,), wide where the device has it, no gradient."""
    device = next(iter(loss.values())).total.device
    wide = torch.float32 if device.type == "mps" else torch.float64
    return torch.stack([torch.as_tensor(t.count, dtype=wide, device=device).detach() for t in loss.values()])


@torch.no_grad()
def logits_of(net: nn.Module, feed: Feed, rows: np.ndarray, fabric: Any) -> np.ndarray:
    """A net's logits on plain views, float32 (R,C), streamed: memory does not grow with the rows."""
    size = 64 if feed.device.type == "cpu" else 256  # smaller is faster there: 1,200 against 700 images/s at 64 px
    was = net.training
    net.eval()
    out = np.empty((0, 0), np.float32)
    for start, part in zip(range(0, len(rows), size), feed.sweep(rows, size)):
        found = net(part["plain"]).logits.float().cpu().numpy()
        out = out if start else np.empty((len(rows), found.shape[1]), np.float32)
        out[start : start + size] = found
    net.train(was)
    return out
