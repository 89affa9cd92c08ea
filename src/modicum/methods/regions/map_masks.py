"""Maps to masks: each pixel gets the class in the image whose map is highest there, or background.

    m_c = (M_c - min M_c) / (max M_c - min M_c) at the image's size;   argmax over  { bg, m_c : c in the image }
    bg = tau,   or  (1 - max_c m_c)^alpha                                       (Ahn and Kwak, 2018)

A row a class and image: `data` is a PNG of one bit a pixel, the box its frame, the confidence the mean of m_c over it.
With `clear`, a pixel of a class that is lower than that is unknown: a row without a class, of value 0 (Ahn et al.,
2019, leave out what lies between 0.05 and 0.30).  What is left is background: a row of `looked` says so.  Images in
which a person drew a mask stay as they are, and so do those in which no class has a pixel.

Maps may follow the image's colours first: `pamr`, `par` (functional/refine.py), `walk` (functional/affinity.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from modicum.core.card import Card
from modicum.core.dataset import MODEL, Dataset, Table
from modicum.core.errors import NeedsError
from modicum.core.method import Label, Presets
from modicum.core.settings import knob
from modicum.core.tables import LOOKED
from modicum.core.tables import table as arrow
from modicum.functional.affinity import from_colours, walk
from modicum.functional.drafts import Drafts, drafts, frame, png
from modicum.functional.refine import pamr, par
from modicum.functional.regions import at_size, masks

MOST = 256  # pixels of the longer side at which maps are refined
BLOCK = 2**16  # pixels that are refined at once
CARD = Card(
    title="Masks from maps",
    role="label",
    idea="A pixel belongs to the class in the image whose map is highest there, if it is high at all.",
    needs=("image", "maps:some", "tags:some~"),
    makes=("masks:some~",),
    year=2018,
    cites=("arXiv:1803.10464", "arXiv:1904.05044", "arXiv:2005.08104"),
    changed="No propagation by learned affinities: a walk goes by colours.  `small` was chosen on one set of scenes: "
    "bright digits on a texture.",
    cost=0.01,
)


@dataclass(frozen=True)
class MapMasks(Label):
    """Reads the column `maps`, tags and classes; to refine, the pixels.  Masks have the size of the stored image."""

    tau: float = knob(0.25, 0, 0.99, doc="height of the background, as a share of a map's height")
    alpha: float = knob(0.0, 0, 64, doc="power of the background; 0: it is tau everywhere")
    clear: float = knob(0.0, 0, 0.99, doc="height from which a pixel of a class is believed; those lower are unknown")
    refine: str = knob("none", doc="how maps follow the image's colours first", choices=("none", "pamr", "par", "walk"))

    presets: ClassVar[Presets] = {"paper": {}, "small": {"tau": 0.5, "refine": "pamr"}}

    def label(self, table: Table) -> Dataset:
        found: list[tuple[Any, ...]] = []
        todo = drafts(table, "masks")
        for row, heat, present, size in zip(todo.rows, self._maps(table, todo), *todo[2:], strict=True):
            classes = np.flatnonzero(present)
            whole = (int(size[0]), int(size[1]))
            there = torch.ones(1, len(classes), dtype=torch.bool)
            drawn = masks(heat, there, whole, tau=self.tau, alpha=self.alpha or None)
            labels = drawn.labels[0].numpy()
            low = (labels > 0) & (at_size(heat, whole)[0].amax(0) < self.clear).numpy()
            labels[low] = 0
            for t in np.unique(labels[labels > 0]) - 1:
                mine, sure = labels == t + 1, float(drawn.confidence[0, t])
                found.append((int(row), int(classes[t]), 1.0, *frame(mine), sure, png(mine)))
            if low.any() and labels.any():
                found.append((int(row), -1, 0.0, *frame(low), None, png(low)))
        names = ("row", "class", "value", "x0", "y0", "x1", "y1", "confidence", "data")
        columns: dict[str, Any] = dict(zip(names, map(list, zip(*found))))
        delta = table.data.delta(source="map-masks", who=MODEL, kind="masks", **columns)
        rows = sorted({row for row, *_ in found})
        return replace(delta, looked=arrow(LOOKED, row=rows, kind="masks", complete=1, source=0))

    def _maps(self, table: Table, some: Drafts) -> Iterator[Tensor]:
        """The maps of the classes in each image, (1,T,h,w); refined at the image's size, in blocks of one size."""
        held: list[tuple[Tensor, Tensor]] = []
        for row, maps, present in zip(some.rows, some.maps, some.present, strict=True):
            mine = torch.from_numpy(maps[present])
            if self.refine == "none":
                yield mine[None]
                continue
            image = _picture(table, int(row))
            if held and (image.shape != held[0][1].shape or len(held) * image[0, 0].numel() >= BLOCK):
                yield from self.refined(held)
                held = []
            held.append((mine, image))
        if held:
            yield from self.refined(held)

    def refined(self, some: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Pairs of maps (T,h,w) and an image (1,c,H,W) -> maps (1,T,H,W) in [0, 1] that follow it.

        The images are of one size; T may differ: missing maps are 0 and stay so.
        """
        images, most = torch.cat([image for _, image in some]), max(len(maps) for maps, _ in some)
        maps = torch.stack([pad(m, (0, 0, 0, 0, 0, most - len(m))) for m, _ in some])
        heat = at_size(maps, (images.shape[-2], images.shape[-1]))
        if self.refine == "walk":
            out = walk(heat, from_colours(images))
        else:
            out = (pamr if self.refine == "pamr" else par)(heat, images)
        return [o[None, : len(m)] for o, (m, _) in zip(out, some, strict=True)]


def _picture(table: Table, row: int) -> Tensor:
    """An image as float (1,c,H,W) in [0, 1], its longer side at most MOST."""
    if table.pixels is None:
        fix = "Give a Table with `pixels`, or refine=none."
        raise NeedsError("the images are not at hand", where="map-masks, refine", fix=fix)
    stored = table.pixels(row)
    image = torch.from_numpy(stored.astype(np.float32) / np.iinfo(stored.dtype).max).permute(2, 0, 1)[None]
    share = min(1, MOST / max(image.shape[2:]))
    size = [max(1, round(n * share)) for n in image.shape[2:]]
    return interpolate(image, size, mode="area") if share < 1 else image
