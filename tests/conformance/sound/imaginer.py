"""A sound maker of images: a cut-out of the class in some place, on some grey."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.errors import NeedsError
from modicum.core.method import Doors, Imagine, Imagined
from modicum.core.settings import knob

CARD = Card(
    title="Sound images",
    role="imagine",
    idea="Put a cut-out of the class somewhere.",
    needs=("names",),
    makes=("image", "tags:some"),
)


@dataclass(frozen=True)
class Imaginer(Imagine):
    """One cut-out an image."""

    side: int = knob(16, 8, 64, doc="side of the images", unit="pixels")

    def many(self, classes: int, real: int) -> int:
        return max(1, real // classes)

    def imagine(
        self, names: Sequence[str], number: int, rng: np.random.Generator, doors: Doors
    ) -> Iterator[Imagined]:
        if not names:
            raise NeedsError("there are no names of classes", where="imaginer")
        cut = doors.cutouts("", names)
        for cls, name in enumerate(names):
            for _ in range(number):
                pixels = np.full((self.side, self.side, 3), rng.integers(256), np.uint8)
                x, y = rng.integers(0, self.side - 5, 2)
                pixels[y : y + 5, x : x + 4] = cut[name][0][..., :3]
                yield Imagined(pixels, np.eye(len(names), dtype=np.int8)[cls], f"one {name}")
