"""What scripts that train outside of `fit` share: a set whose labels are chosen freely, and arms of one start on it."""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Arena:
    """A set of images.  cls: the true class of every image, int (N,).  train, test: its rows."""

    data: Any
    pixels: Any
    side: int
    net: str
    precision: str = "bf16-mixed"

    @classmethod
    def open(cls, name: str, side: int, net: str, precision: str = "bf16-mixed") -> Arena:
        """A sample set by its folder's name."""
        from benchmarks.__main__ import data_home
        from modicum.core.places import cache_home
        from modicum.data.cache import Pixels
        from modicum.data.read import read

        data = read(data_home() / name).data
        return cls(data, Pixels.build(data, cache_home(), 128), side, net, precision)

    @cached_property
    def cls(self) -> np.ndarray:
        return self.data.cls.copy()

    @cached_property
    def train(self) -> np.ndarray:
        return np.flatnonzero(self.data.field("split") == "train")

    @cached_property
    def test(self) -> np.ndarray:
        return np.flatnonzero(self.data.field("split") == "test")

    @cached_property
    def fabric(self) -> Any:
        import logging

        import lightning_fabric as lightning
        import torch

        torch.set_num_threads(1)
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        fabric = lightning.Fabric(accelerator="cpu", devices=1, precision=self.precision)
        fabric.launch()
        return fabric

    def bench(
        self, rows: np.ndarray, labels: np.ndarray, unlabelled: np.ndarray, names: Sequence[str], seed: int
    ) -> Any:
        """rows (L,) have the classes `labels` (L,), numbers into `names`; nothing else is known of any image."""
        from modicum.core.dataset import HUMAN
        from modicum.core.tables import CLASSES, table
        from modicum.data.views import way
        from modicum.engine.arms import Bench

        known = np.full(len(self.data), -1)
        known[rows] = labels
        bare = replace(
            self.data.without("class", np.arange(len(self.data))), classes=table(CLASSES, name=list(names), parent=-1)
        )
        pool = np.zeros(len(self.data), bool)
        pool[rows] = pool[unlabelled] = True
        return Bench(
            bare + bare.delta_class(known, source="human", who=HUMAN), self.pixels, pool, self.net, self.side,
            self.pixels.channels, seed, self.fabric, way(self.side), "channels_last",
        )  # fmt: skip

    def logits(self, net: Any, bench: Any, rows: np.ndarray) -> np.ndarray:
        """What a network says of rows, float32 (R,C)."""
        from modicum.engine.loop import logits_of

        return logits_of(net, bench.feed({}), rows, self.fabric)


def done(name: str, *keys: str) -> set[tuple[str, ...]]:
    """Which cells a script has written, by the values of its key columns."""
    path = RESULTS / f"{name}.csv"
    return {tuple(r[k] for k in keys) for r in csv.DictReader(path.open())} if path.exists() else set()


def keep(name: str, row: dict[str, Any]) -> None:
    """Add a row to a script's results."""
    path = RESULTS / f"{name}.csv"
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)
    print(*row.values(), flush=True)


def fill(
    name: str, doc: str | None, cell: Callable[..., dict[str, Any]], table: Callable[[], str], **lists: Iterable[str]
) -> None:
    """What a script of cells does when it is run: fill those that are missing, seeds first, and print the table.

    lists: option -> what cells are of; all of it unless some are named.  A row's keys are these and the seed.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc)
    for option, all_of_it in lists.items():
        known = list(all_of_it)
        parser.add_argument(f"--{option}", nargs="*", choices=known, default=known)
    parser.add_argument("--seeds", type=int, default=5)
    asked = vars(parser.parse_args())
    keys = [*(option.removesuffix("s") for option in lists), "seed"]
    for seed in range(asked["seeds"]):
        for which in itertools.product(*(asked[option] for option in lists)):
            if (*which, str(seed)) not in done(name, *keys):
                keep(name, cell(*which, seed))
    print(table())
