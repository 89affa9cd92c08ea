"""Arms: networks trained on the same labels, each in its own folder of the run, finished or taken up again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from modicum.core import draws
from modicum.core.dataset import Dataset
from modicum.core.errors import NeedsError
from modicum.core.kinds import PARTS
from modicum.core.method import Learn
from modicum.core.net import Net
from modicum.core.program import Info
from modicum.core.recipe import PLAIN, Augment, Recipe
from modicum.core.space import writing
from modicum.data.cache import Pixels
from modicum.data.feed import Feed
from modicum.engine.loop import Loop, Tick
from modicum.models import doors, files
from modicum.nn import ranks
from modicum.runs.run import Metrics


@dataclass
class Bench:
    """What all arms of a run share: the data, the network's name, the machine.

    pool: rows that may be trained on, bool (N,).  every: seconds between checkpoints.  layout: "channels_last" or "".
    brought: role -> folder of a network that a method may ask for, frozen.
    """

    data: Dataset
    pixels: Pixels
    pool: np.ndarray
    net: str
    side: int
    channels: int
    seed: int
    fabric: Any
    how: str = ""
    layout: str = ""
    weights: Path | None = None
    pretrained: bool = False
    every: float = 10.0
    moments: tuple[np.ndarray, np.ndarray] | None = None
    notes: list[str] = field(default_factory=list)
    brought: dict[str, Path] = field(default_factory=dict)

    def feed(self, views: dict[str, Augment] | Any) -> Feed:
        """A feed of the pool with these views."""
        return Feed(
            self.data, self.pixels, self.pool, views=views, side=self.side, seed=self.seed, device=self.fabric.device,
            how=self.how, rank=ranks.rank(), world=ranks.world_size(),
        )  # fmt: skip

    def info(self, recipe: Recipe) -> Info:
        """What a method may know: from visible labels in the pool only."""
        cls = self.data.cls[self.pool]
        counts = np.bincount(cls[cls >= 0], minlength=len(self.data.names))
        labelled = int((self.data.known("class") | self.data.known("probs"))[self.pool].sum())
        return Info(
            self.data.names, tuple(int(c) for c in counts), len(self.data), labelled, self.channels, self.side, recipe,
            int((self.pool & self.pixels.good).sum()),
        )  # fmt: skip

    def make(self, role: str, frozen: bool = False) -> Net:
        """A new network for a role: the same weights in every run of this seed, whatever was built before it.

        frozen: the one that was brought for the role; NeedsError where none was.
        """
        if frozen:
            return self._brought(role)
        with torch.random.fork_rng():
            torch.manual_seed(draws.key(self.seed, "init", role))
            net = doors.make(
                self.net, classes=len(self.data.names), channels=self.channels, side=self.side,
                pretrained=self.pretrained, weights=self.weights,
            )  # fmt: skip
        self.notes += [n for n in net.notes if n not in self.notes]
        if not (self.pretrained or self.weights):
            mean, std = self.centre()
            net.mean.copy_(torch.from_numpy(mean))
            net.std.copy_(torch.from_numpy(std))
        return net

    def _brought(self, role: str) -> Net:
        if role not in self.brought:
            fix = "Name the method that makes it with --via; `modicum methods` tells what each makes."
            raise NeedsError(f"no network was brought that {PARTS.get(role, role)}", where=role, fix=fix)
        net = files.load(self.brought[role])[0]
        if net.spec["args"]["channels"] != self.channels:
            fix = "Bring one that was trained on images of the same kind."
            raise NeedsError("the network that was brought sees other channels", where=self.brought[role], fix=fix)
        return net.freeze()

    def centre(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each channel over up to 2,000 images of the pool, in [0,1]."""
        if self.moments is None:
            rows = np.flatnonzero(self.pool & self.pixels.good)
            rows = rows[:: max(1, len(rows) // 2000)][:2000]
            parts = [p["plain"].cpu() for p in self.feed({"plain": PLAIN}).sweep(rows, 256)]
            x = torch.cat([p.permute(1, 0, 2, 3).flatten(1) for p in parts], 1)
            self.moments = (x.mean(1).numpy(), x.std(1).clamp_min(1e-3).numpy())
        return self.moments

    def loop(
        self,
        method: Learn,
        recipe: Recipe,
        arm: str = "",
        home: Path | None = None,
        metrics: Metrics | None = None,
        tick: Tick | None = None,
    ) -> Loop:
        """The training of one arm, from its start."""
        info = self.info(recipe)
        with torch.random.fork_rng():
            torch.manual_seed(draws.key(self.seed, "build"))  # for heads and the like that a method makes itself
            nets = method.build(info, self.make)
        layout = torch.channels_last if self.layout == "channels_last" else torch.preserve_format
        nets = nets.to(self.fabric.device)
        if self.layout:
            nets = nets.to(memory_format=layout)
        return Loop(
            method,
            nets,
            info,
            self.feed(recipe.views),
            self.fabric,
            self.seed,
            arm,
            home,
            metrics,
            tick,
            self.every,
            layout,
        )


def train(
    bench: Bench, method: Learn, recipe: Recipe, arm: str, folder: Path, metrics: Metrics, tick: Tick | None
) -> Net:
    """Train an arm, or load it if it is done.  Its folder holds checkpoints until net.json is there.

    The net comes from disk in both cases, so that a run that was killed afterwards measures the same bits.
    """
    first = not ranks.rank()
    if not (folder / "net.json").is_file():
        with writing(folder, "a network", also=(SafetensorError,)):
            for place in (folder.parent, folder):
                place.mkdir(exist_ok=True)
        loop = bench.loop(method, recipe, arm, folder / "checkpoints", metrics, tick)
        files.saveable(method.deliver(loop.nets), bench.data.names)
        loop.run()
        if first:
            with writing(folder, "a network", also=(SafetensorError,)):
                files.save(method.deliver(loop.nets).eval(), folder, classes=bench.data.names)
        ranks.wait()
    if first:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    net = files.load(folder)[0].to(bench.fabric.device).eval()
    return net.to(memory_format=torch.channels_last) if bench.layout == "channels_last" else net
