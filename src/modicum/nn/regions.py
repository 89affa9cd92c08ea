"""Networks that say what is in regions of an image: boxes are proposed from pixels alone, pooled, read one by one.

Trained without boxes (Bilen and Vedaldi, 2016; Tang et al., 2017): what a region is, which of an image's regions shows
a class, and K times again, refined, what it is or whether it is background.  The network keeps its weights; its
classifier makes way for the reader.

Letters: B images, R proposals of an image, M of a batch, C classes, K refinements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.batch import Boxes, Part
from modicum.core.errors import ModelError
from modicum.core.net import Net, Out
from modicum.functional.boxes import clip, decode, nms, unpacked
from modicum.functional.geometry import warp_boxes
from modicum.functional.losses import wide
from modicum.functional.pooling import pooled
from modicum.functional.proposals import grid, propose, selective
from modicum.functional.seeds import SURE, scored, summed_within
from modicum.nn.edit import Levelled, black, noted, of

PROPOSALS = "proposals"  # the column that training reads: (N,R,4), pixels of the stored image, padded with NaN
FINEST = 3.5  # pixels a step of the finest maps that are read, at least: finer ones have seen too little of the image
USED = 3  # maps of the network that are read, at most: of the usual nets those of 8, 16 and 32 pixels a step
CELLS = 7
STD = 0.01  # of the last weights, as in the papers
TAU, TOP, MOST = 0.3, 50, 100  # boxes of a class that overlap by more are one; looked at in each class; given in all
KEPT = 4096  # images whose proposals are remembered: 16 bytes a proposal
SEEN = 0.5  # share of a proposal in the view below which it is left out of a step
WAYS = ("regions", "one", "grid", "opencv")
ARGS = ("heads", "sides", "width", "thin", "most", "find")


class Said(NamedTuple):
    """what: (M,C), logits of a region's class.  where: (M,C), logits of being the region that shows a class.  refined:
    K of (M,C+1), logits, background last.  offsets: K of (M,C,4), to where a region ought to be; or none.  fast: logits
    (M,C+1) and offsets (M,4), the same for all classes, of a head that learns from the refinements; or None."""

    what: Tensor
    where: Tensor
    refined: tuple[Tensor, ...]
    offsets: tuple[Tensor, ...]
    fast: tuple[Tensor, Tensor] | None = None


class Trunk(nn.Module):
    """Maps and boxes -> a description of each box.

    Maps are thinned by 1 x 1 convolutions and added up at the size of the finest, from which CELLS x CELLS cells a box
    are pooled; two layers read them.  channels: of the maps, fine to coarse.
    """

    def __init__(self, channels: list[int], width: int, thin: int) -> None:
        super().__init__()
        self.thin = nn.ModuleList(nn.Conv2d(c, thin, 1) for c in channels)
        self.read = nn.Sequential(
            nn.Linear(thin * CELLS**2, width), nn.ReLU(inplace=True), nn.Linear(width, width), nn.ReLU(inplace=True)
        )
        for part in (*self.thin, *self.read):
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                nn.init.zeros_(part.bias)  # type: ignore[arg-type]

    def describe(
        self, levels: list[Tensor], xyxy: Tensor, image: Tensor, size: tuple[int, int],
        between: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """(M,width).  between: what is done to pooled maps, (M,thin,CELLS,CELLS), of images (M,) -> the same."""
        fine, *coarse = (thin(m) for thin, m in zip(self.thin, levels[-len(self.thin) :], strict=True))
        for maps in coarse:
            fine = fine + F.interpolate(maps, fine.shape[-2:], mode="nearest")
        cells = pooled(fine, xyxy, image, size, CELLS)
        return self.read((cells if between is None else between(cells, image)).flatten(1))  # type: ignore[no-any-return]


class Reader(Trunk):
    """Maps and boxes -> Said.

    heads: K.  sides: whether the refinements also move boxes.  fast: whether there is a last head for class and place.
    """

    def __init__(
        self, channels: list[int], classes: int, heads: int, sides: bool, width: int, thin: int, fast: bool = False
    ) -> None:
        super().__init__(channels, width, thin)
        self.what = last(width, classes)
        self.where = last(width, classes, bias=False)  # which a softmax over regions would not feel
        self.refined = nn.ModuleList(last(width, classes + 1) for _ in range(heads))
        self.offsets = nn.ModuleList(last(width, 4 * classes) for _ in range(heads if sides else 0))
        self.fast = last(width, classes + 5) if fast else None
        if self.fast is not None:
            with torch.no_grad():
                self.fast.weight[-4:] = 0  # boxes stay until it has learned to move them

    def forward(
        self, levels: list[Tensor], xyxy: Tensor, image: Tensor, size: tuple[int, int],
        between: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Said:  # fmt: skip
        """between: as in `describe`."""
        h = self.describe(levels, xyxy, image, size, between)
        offsets = tuple(part(h).unflatten(1, (-1, 4)) for part in self.offsets)
        fast = None if self.fast is None else self.fast(h).split([self.what.out_features + 1, 4], 1)
        return Said(self.what(h), self.where(h), tuple(part(h) for part in self.refined), offsets, fast)


def last(width: int, out: int, bias: bool = True) -> nn.Linear:
    """A layer whose answers are small at first."""
    part = nn.Linear(width, out, bias)
    nn.init.normal_(part.weight, std=STD)
    if bias:
        nn.init.zeros_(part.bias)
    return part


class Regional(Levelled):
    """A network whose answer is `Out.boxes`, in evaluation mode; `logits` are the log-odds that a class is there.

    A loss reads `regions`.  It cannot be exported: proposals are made by a program, not by layers.
    """

    reader: Reader
    most: int
    find: str

    def proposed(self, x: Tensor) -> Tensor:
        """Images (B,c,H,W) in [0,1] -> boxes, float32 (B,most,4), pixels of x, padded with NaN; first the whole image.

        The same for the same eight bits a pixel.
        """
        images = (255 * x.detach().float()).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        out = np.full((len(images), self.most, 4), np.nan, np.float32)
        for row, image in zip(out, images, strict=True):
            boxes = proposals(image, self.find, self.most)
            row[: len(boxes)] = boxes
        return torch.from_numpy(out).to(x.device)

    def regions(
        self, x: Tensor, xyxy: Tensor, image: Tensor, between: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> Said:
        """What is said of boxes (M,4), pixels of x (B,c,H,W) in [0,1]; image: int64 (M,), ascending."""
        return self._read(self.seen(x)[1], xyxy, image, (x.shape[-2], x.shape[-1]), between)

    def _read(self, levels: list[Tensor], *given: object) -> Said:
        return self.reader(levels, *given)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Out:
        if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
            fix = "Train a detector from its boxes, and export that."
            raise ModelError("it proposes boxes by a program, not by layers", where="export", fix=fix)
        size = (x.shape[-2], x.shape[-1])
        column = self.proposed(x)
        xyxy, image = unpacked(column)
        maps, levels = self.seen(x)
        said = self._read(levels, xyxy, image, size)
        first = scored(said.what, said.where, image, len(x))
        whole = summed_within(first, image, len(x)).clamp(SURE, 1 - SURE)
        out = Out(whole.logit(), self.pool(maps), maps if maps.ndim == 4 else None)
        return out if self.training else out._replace(boxes=found(said, first, column, size))


def proposals(image: np.ndarray, find: str, most: int) -> np.ndarray:
    """Boxes (R,4) of an image, uint8 (H,W,c), R from 1 to `most`; first the whole.  Those of the last KEPT images are
    remembered: training, prediction and measuring ask for the same.

    find: of WAYS: regions that merge, of all colours and scales or of one alone, which takes a third of the time; a
    grid, spread evenly where it has too many; or OpenCV's selective search, where it is installed.
    """
    key = hashlib.blake2b(repr((image.shape, find, most)).encode() + image.tobytes()).digest()
    if key not in _kept:
        _kept[key] = _proposals(image, find, most)
        _kept[key].setflags(write=False)
        while len(_kept) > KEPT:
            _kept.pop(next(iter(_kept)), None)
    return _kept[key]


_kept: dict[bytes, np.ndarray] = {}


def _proposals(image: np.ndarray, find: str, most: int) -> np.ndarray:
    whole = np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)
    if find == "grid":
        some = grid((image.shape[0], image.shape[1]))
        some = some[np.linspace(0, len(some) - 1, min(most, len(some))).round().astype(int)]
    elif find == "opencv":
        some = selective(image, most)
    elif find == "one":
        some = propose(image, scales=(50,), colours=("RGB",), most=most)
    else:
        some = propose(image, most=most)
    return np.concatenate([whole, some[(some != whole).any(1)]])[:most]


@torch.no_grad()
def found(said: Said, first: Tensor, column: Tensor, size: tuple[int, int]) -> Boxes:
    """The boxes of each image, by falling score: of the TOP best of a class one of those that overlap by more than TAU,
    and MOST in all.  Scores are the mean of the refinements, or where there is none WSDDN's, `first`.

    column: boxes (B,R,4), padded with NaN.  size: height and width of the images.
    """
    there = ~column.isnan().any(-1)
    classes = first.shape[1]
    heads = said.refined if said.fast is None else (*said.refined, said.fast[0])
    each = [wide(r).softmax(1)[:, :-1] for r in heads]
    score = column.new_full((*there.shape, classes), -torch.inf)
    score[there] = (torch.stack(each).mean(0) if each else first).to(score.dtype)
    boxes = column[:, :, None].repeat(1, 1, classes, 1)
    if said.offsets:
        boxes[there] = decode(wide(torch.stack(said.offsets)).mean(0).to(boxes.dtype), boxes[there])
    if said.fast is not None:
        boxes[there] = decode(wide(said.fast[1])[:, None].to(boxes.dtype), boxes[there])
    value, at = score.topk(min(TOP, score.shape[1]), 1)
    image, rank, cls = (value > -torch.inf).nonzero(as_tuple=True)
    value, xyxy = value[image, rank, cls], clip(boxes[image, at[image, rank, cls], cls], size)
    kept = nms(xyxy, value, image * classes + cls, TAU)
    kept = kept[image[kept].argsort(stable=True)]
    mine = image[kept]
    kept = kept[torch.arange(len(kept), device=kept.device) - torch.searchsorted(mine, mine) < MOST]
    return Boxes(xyxy[kept], cls[kept], torch.ones_like(kept, dtype=torch.int8), image[kept], value[kept])


# -- training ----------------------------------------------------------------------------------------------------------


def in_view(part: Part, view: str) -> tuple[Tensor, Tensor]:
    """The column PROPOSALS as a view shows it: boxes (M,4) and whose each is, int64 (M,).

    What a view cuts off by more than half is left out; the whole image, the first of each, is the whole view.
    """
    shown = part.views[view]
    boxes, image = unpacked(part.columns[PROPOSALS])
    size = (shown.pixels.shape[-2], shown.pixels.shape[-1])
    xyxy, kept = warp_boxes(boxes, image, shown.affine.to(boxes.dtype), size)
    first = image.diff(prepend=image.new_full((1,), -1)) > 0
    xyxy = torch.where(first[:, None], xyxy.new_tensor([0, 0, size[1], size[0]]), xyxy)
    some = first | (kept >= SEEN)
    return xyxy[some], image[some]


def regional(
    net: Net, heads: int = 0, sides: bool = False, width: int = 256, thin: int = 64, most: int = 300,
    find: str = WAYS[0], fast: bool = False,
) -> Net:  # fmt: skip
    """The network with a reader of regions in place of its classifier; noted in its `spec`.

    Read are the last maps of the network, at most USED, whose steps are FINEST pixels or more; else its last one.
    heads: refinements.  sides: whether they also move boxes.  width: of both layers.  thin: channels that are pooled.
    most: proposals of an image.  find: of WAYS.  fast: whether there is a last head for class and place.  Weights of
    the reader come from torch's global generator.  ModelError where the network shows no maps, or has a dense head
    already.
    """
    counts = (heads, width, thin, most)
    good = all(type(n) is int for n in counts) and type(sides) is type(fast) is bool and find in WAYS
    if not (good and 0 <= heads <= 8 and 8 <= width <= 4096 and 1 <= thin <= 1024 and 1 <= most <= 10_000):
        words = "{!r:.19} refinements, width {!r:.19}, {!r:.19} maps, {!r:.19} proposals by {!r:.19}"
        said = words.format(*counts, find)
        fix = f"Give 0 to 8, 8 to 4096, 1 to 1024, 1 to 10000, and one of {', '.join(WAYS)}."
        raise ModelError(said, where="network", fix=fix)
    channels = read_by(net)
    of(net, Regional)
    reader = Reader(channels, net.spec["args"]["classes"], heads, sides, width, thin, fast)
    changed: Any = net
    changed.reader, changed.most, changed.find = reader.to(net.mean.device), most, find
    net.head = nn.Identity()
    given = dict(zip(ARGS, (heads, sides, width, thin, most, find), strict=True))
    return noted(net, {"edit": "regions", **given} | ({"fast": True} if fast else {}))


def read_by(net: Net) -> list[int]:
    """Channels of the maps of a network that a Trunk reads, fine to coarse.  ModelError where it shows none."""
    _, seen = black(net, net.levels)
    used = [m for m in seen if net.spec["args"]["side"] / m.shape[-1] >= FINEST][-USED:] or seen[-1:]
    return [m.shape[1] for m in used]
