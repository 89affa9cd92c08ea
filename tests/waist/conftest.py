"""A stand for sketches: two toy sets, the real engine around them, and the three things every sketch must prove."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modicum.core import disk
from modicum.core.dataset import HUMAN, Dataset
from modicum.core.method import Learn
from modicum.core.net import Net
from modicum.core.recipe import PLAIN, Augment, Optim, Recipe
from modicum.core.tables import LOOKED, table
from modicum.engine.arms import Bench
from modicum.engine.choose import compose
from modicum.engine.loop import Loop, logits_of
from modicum.testing.case import Alone
from modicum.testing.toy import CLASSES, pictures, pixels_of

GENTLE = Augment(shift=0.06, brightness=0.1)
RECIPE = Recipe(
    steps=24, batch=8, optim=Optim(lr=0.05), schedule="constant", wraps=(),
    views={"weak": GENTLE, "strong": GENTLE.but(contrast=0.3, cutout=0.2), "plain": PLAIN},
)  # fmt: skip


class Killed(BaseException):
    """As good as kill -9: nothing is saved on the way out."""


@dataclass
class Stand(Bench):
    """A bench that may hold nets of its own (given: by role), and knows the truth, int64 (N,)."""

    given: dict[str, Net] = field(default_factory=dict)
    truth: np.ndarray = field(default_factory=lambda: np.empty(0))
    recipe: Recipe = RECIPE

    def make(self, role: str, frozen: bool = False) -> Net:
        if role in self.given:
            return copy.deepcopy(self.given[role]).freeze()
        return super().make(role, frozen)

    def but(self, data: Dataset | None = None, images: np.ndarray | None = None, **given: Any) -> Stand:
        """The same stand with other data, images or settings."""
        pixels = self.pixels if images is None else pixels_of(images)
        return replace(self, data=data or self.data, pixels=pixels, moments=None, **given)

    def run(self, method: Learn, home: Path | None = None, kill: int = 0, **changes: Any) -> tuple[Loop, list[float]]:
        """Train to the end, or until killed after a step; -> the loop and the first term's value at each step."""
        losses: list[float] = []

        def tick(arm: str, done: int, total: int, values: Any) -> None:
            losses.append(next(iter(values.values())))
            if done == kill:
                raise Killed

        loop = self.loop(method, self.recipe.but(**changes), "arm", home, tick=tick)
        with suppress(Killed):
            loop.run()
        return loop, losses

    def accuracy(self, net: Net, rows: np.ndarray | None = None) -> float:
        """Share of images whose class the net finds."""
        rows = np.arange(len(self.data)) if rows is None else rows
        return float((logits_of(net, self.feed({}), rows, self.fabric).argmax(1) == self.truth[rows]).mean())


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether two modules hold the same bits under the same names."""
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are not forced to the disk: no power is cut here."""
    monkeypatch.setattr(disk, "sync", lambda path: None)


@pytest.fixture
def proves(tmp_path: Path) -> Callable[..., tuple[Loop, list[float]]]:
    """prove(stand, method): its program is plain data, and killed twice at random steps it ends in the same bits."""

    def prove(stand: Stand, method: Learn, **changes: Any) -> tuple[Loop, list[float]]:
        info = stand.info(stand.recipe.but(**changes))
        assert method.program(info) == method.program(info)
        whole, losses = stand.run(method, **changes)
        kills = sorted(random.Random(type(method).__name__).sample(range(1, whole.total), 2))
        for kill in kills:
            killed, _ = stand.run(method, tmp_path / "home", kill, **changes)
            assert killed.passed() == kill
        resumed, _ = stand.run(method, tmp_path / "home", **changes)
        assert same(whole.nets, resumed.nets)
        for name, values in whole.feed.columns.items():
            assert torch.equal(values.nan_to_num(7), resumed.feed.columns[name].nan_to_num(7))
        return whole, losses

    return prove


def stand_of(data: Dataset, images: np.ndarray, truth: np.ndarray, **given: Any) -> Stand:
    """A stand that saves after every step."""
    return Stand(
        data, pixels_of(images), np.ones(len(data), bool), "tiny-conv:width=4", images.shape[1], 3, 1, Alone(),
        every=-1.0, truth=truth, **given,
    )  # fmt: skip


@pytest.fixture
def shapes() -> Stand:
    """48 pictures of three kinds, a class for every other one."""
    images, truth = pictures(48)
    known = np.where(np.arange(48) // 3 % 2 == 0, truth, -1)
    return stand_of(Dataset.build([f"{i}.png" for i in range(48)], CLASSES, cls=known, split="train"), images, truth)


@pytest.fixture
def scenes() -> Stand:
    """32 scenes of 24 x 24 with one or two squares, red or green; boxes and tags."""
    rng = np.random.default_rng(0)
    images = rng.integers(40, 80, (32, 24, 24, 3)).astype(np.uint8)
    boxes, found = [], []
    for i in range(32):
        for k in range(1 + i % 2):
            side, (x, y) = rng.integers(6, 10), rng.integers(0, 3, 2) + 12 * k
            cls = int(rng.integers(2))
            images[i, y : y + side, x : x + side, cls] = 230
            boxes.append((x, y, x + side, y + side))
            found.append((i, cls))
    row, cls = np.array(found).T
    x0, y0, x1, y1 = np.array(boxes, np.float32).T
    tags = np.zeros((32, 2))
    tags[row, cls] = 1
    data = Dataset.build([f"{i}.png" for i in range(32)], ("red", "green"), split="train")
    boxed = {"row": row, "class": cls, "x0": x0, "y0": y0, "x1": x1, "y1": y1}
    data += data.delta(source="a", who=HUMAN, kind="boxes", **boxed)
    at, every = np.divmod(np.arange(64), 2)
    data += data.delta(source="b", who=HUMAN, kind="tags", row=at, value=tags.ravel(), **{"class": every})
    looked = table(LOOKED, row=np.arange(32), kind="boxes", complete=1, source=0, **{"class": -1})
    return stand_of(replace(data, looked=looked), images, np.arange(32))


@pytest.fixture
def tuned(shapes: Stand) -> Stand:
    """The same pictures for a user who brings a large net, trained under another seed."""
    loop, _ = replace(shapes, seed=7).run(compose("supervised", {}, RECIPE))
    return replace(shapes, given={"large": loop.nets["net"]})
