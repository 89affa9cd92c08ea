"""Networks that move boxes to what they are meant for, whatever it is: box-adjusters (Dong et al., 2021).

An adjuster knows no classes.  It looks at a box and some of what is around it and says how its centre and its sides
ought to change.  It has stages: the first is learned with all of the network; each further one is a small head that
adds to what those before it say, and learns on them as they are, from boxes with other faults.

Letters: B images, M boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from modicum.core.batch import Boxes, Part
from modicum.core.errors import ModelError, NeedsError
from modicum.core.loss import Term
from modicum.core.net import Net, Out
from modicum.functional.assign import in_view, objects
from modicum.functional.boxes import clip, decode, encode
from modicum.functional.moves import believed, drawn_to
from modicum.nn.edit import Levelled, noted, of
from modicum.nn.regions import Trunk, last, read_by

FAR = 5.0  # offsets are at most so large: the centre moves by half a side, a side becomes 2.7 times as long
NEAR = 0.3  # a move to a box that overlaps the old one by less is not believed
MOST = 8  # stages
LEAST = 0.4  # share of a true box that is in the view, at least: else it is none
ADJUSTER = ("stages", "width", "thin", "around")


class Mover(Trunk):
    """Maps and boxes -> offsets: each stage adds to those of the stages before, at first nothing."""

    def __init__(self, channels: list[int], stages: int, width: int, thin: int) -> None:
        super().__init__(channels, width, thin)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), last(width, 4)) for _ in range(stages)
        )
        for stage in [*self.stages][1:]:
            nn.init.zeros_(stage[-1].weight)  # type: ignore[index]


class Adjusting(Levelled):
    """A network that moves boxes; of classes it says nothing: `logits` are 0."""

    mover: Mover
    around: float

    def offsets(self, x: Tensor, xyxy: Tensor, image: Tensor, stage: int) -> Tensor:
        """To where boxes (M,4), pixels of x (B,c,H,W) in [0,1], ought to be, (M,4); image: int64 (M,), ascending.

        The first stage has a gradient for all of the network; further ones for their own head, and they see the
        network as it will be used.
        """
        if not stage:
            return self.mover.stages[0](self._described(x, xyxy, image))  # type: ignore[no-any-return]
        with torch.no_grad(), settled(self):
            h = self._described(x, xyxy, image)
            before = torch.stack([part(h) for part in self.mover.stages[:stage]]).sum(0)
        return before + self.mover.stages[stage](h)

    def _described(self, x: Tensor, xyxy: Tensor, image: Tensor) -> Tensor:
        more = (self.around - 1) / 2 * (xyxy[:, 2:] - xyxy[:, :2])
        seen = torch.cat([xyxy[:, :2] - more, xyxy[:, 2:] + more], 1)
        return self.mover.describe(self.seen(x)[1], seen, image, (x.shape[-2], x.shape[-1]))

    @torch.no_grad()
    def moves(self, x: Tensor, xyxy: Tensor, image: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Offsets (M,4), none beyond FAR, and which of them are believed, bool (M,)."""
        with settled(self):
            return believed(self.offsets(x, xyxy, image, stage), xyxy, FAR, NEAR)

    def adjust(self, x: Tensor, xyxy: Tensor, image: Tensor, stage: int) -> Tensor:
        """Boxes (M,4) moved, none beyond the image; one whose move is not believed stays as it is."""
        offsets, good = self.moves(x, xyxy, image, stage)
        moved = clip(decode(offsets, xyxy), (x.shape[-2], x.shape[-1]))
        return torch.where(good[:, None], moved, xyxy)

    def forward(self, x: Tensor) -> Out:
        if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
            fix = "It helps to train a detector; export one that is trained from boxes."
            raise ModelError("it moves boxes that it is given, and finds none", where="export", fix=fix)
        maps = self.spatial(self.normalise(x))
        logits = x.new_zeros(len(x), self.spec["args"]["classes"])
        return Out(logits, self.pool(maps), maps if maps.ndim == 4 else None)


@contextmanager
def settled(net: nn.Module) -> Iterator[None]:
    """Inside, the network is in evaluation mode."""
    was = [(m, m.training) for m in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for m, mode in was:
            m.training = mode


def adjusting(net: Net, stages: int = 2, width: int = 128, thin: int = 32, around: float = 1.5) -> Net:
    """The network with a mover of boxes in place of its classifier; noted in its `spec`.

    Maps are read as in nn/regions.py.  stages: of the adjuster.  width: of the layers.  thin: channels that are
    pooled.  around: sides of what is seen of a box, by those of the box.  Weights of the mover come from torch's global
    generator.  ModelError where the network shows no maps, or has a dense head already.
    """
    counts = (stages, width, thin)
    good = all(type(n) is int for n in counts) and type(around) in (int, float)
    if not (good and 1 <= stages <= MOST and 8 <= width <= 4096 and 1 <= thin <= 1024 and 1 <= around <= 4):
        said = "{!r:.19} stages, width {!r:.19}, {!r:.19} maps, {!r:.19} times a box".format(*counts, around)
        raise ModelError(said, where="network", fix=f"Give 1 to {MOST}, 8 to 4096, 1 to 1024, and 1 to 4.")
    channels = read_by(net)
    of(net, Adjusting)
    changed: Any = net
    changed.mover, changed.around = Mover(channels, stages, width, thin).to(net.mean.device), float(around)
    net.head = nn.Identity()
    return noted(net, {"edit": "adjuster", **dict(zip(ADJUSTER, (stages, width, thin, float(around)), strict=True))})


# -- training ----------------------------------------------------------------------------------------------------------


def known(part: Part, view: str = "weak") -> Boxes:
    """The true boxes that a view shows.  NeedsError where there are none of any image."""
    boxes = part.labels.boxes
    if boxes is None:
        raise NeedsError("no image has boxes", where="adjuster", fix="Give boxes of the other images.")
    return objects(in_view(boxes, part.views[view], LEAST))


def taught(net: Any, part: Part, xyxy: Tensor, image: Tensor, true: Tensor, stage: int, view: str = "weak") -> Term:
    """How far the offsets of boxes (M,4), of images (M,) in any order, are from those that lead to true ones (M,4)."""
    order = image.argsort(stable=True)
    xyxy, true = xyxy[order], true[order]
    return drawn_to(net.offsets(part[view], xyxy, image[order], stage), encode(true, xyxy))
