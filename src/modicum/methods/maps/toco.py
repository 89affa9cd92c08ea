"""ToCo: tokens of the last block, which grow alike, are told apart as the middle ones still tell them.

    A = r(V E) / max r(V E), of classes present     E: middle tokens;  V: their classifier;  r: positive part
    l_n: the class of max_c A_cn if that exceeds `high`, nothing if it is at most `low`, else unknown
    L = CE(W max_n T_n) + aux CE(V max_n E_n) + ptc/2 (1 - mean_same a_nm + mean_other a_nm) + ctc mean_inside C_i
    a_nm = |cos(T_n, T_m)|, same: l_n = l_m;    C_i = -log( e^{q_i.p/t} / (e^{q_i.p/t} + sum_{j outside} e^{q_j.p/t}) )

T: last tokens;  q: projected class tokens of small crops;  p: that of the image, by a moving average of the projector.
A crop is outside where at most `share` of it may show an object.  The maps are those of W (nn/peaks.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from modicum.core import draws
from modicum.core.batch import Batch, Part
from modicum.core.card import Card
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Make, Presets, Recipes
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.heat import resized
from modicum.functional.tokens import corners, crops, evidence, gridded, likeness, pairs, surely, told_apart
from modicum.functional.told import asked
from modicum.nn.ema import EMA
from modicum.nn.norm import settled
from modicum.nn.peaks import peaked, projector
from modicum.nn.stages import shown
from modicum.nn.told import training

TEMPERATURE, DECAY = 0.5, 0.9  # t; how much of the average projector is kept at each step

CARD = Card(
    title="Token Contrast (ToCo)",
    role="learn",
    idea="Middle tokens of a transformer still tell places apart; they teach the last ones, which no longer do.",
    needs=("image", "class:some"),
    makes=("net:class.maps",),
    least={"class": 1},
    year=2023,
    cites=("arXiv:2303.01267",),
    cost=1.5,
    off={"aux": 0.0, "ptc": 0.0, "ctc": 0.0},
    changed=(
        "The classifier and its maps alone: no segmentation head.  From scratch; `after` is ours, in the place of "
        "pretrained weights.  The middle is where our networks are cut.  Maps are of one scale; crops lie anywhere in "
        "the weak view and are compared by cosine.  Networks without a class token use the mean of their last maps, "
        "and see crops with running statistics.  With `labels=tags` it is a step before another (`--via "
        "toco:labels=tags`).  That the last tokens become less alike, as in the paper, was not seen with our small "
        "transformer."
    ),
)


@dataclass(frozen=True)
class Toco(Learn):
    """Ru et al., 2023."""

    aux: float = knob(1.0, 0, 100, doc="weight of the middle tokens' classifier")
    ptc: float = knob(0.2, 0, 100, doc="weight of telling patches apart")
    ctc: float = knob(0.5, 0, 100, doc="weight of telling crops apart")
    high: float = knob(0.7, 0, 1, doc="evidence above which a patch shows a class")
    low: float = knob(0.25, 0, 1, doc="evidence up to which it shows nothing")
    after: float = knob(0.0, 0, 1, doc="share of training before patches and crops are told apart")
    crops: int = knob(8, 1, 16, doc="crops of an image")
    crop: float = knob(0.214, 0.05, 1, doc="side of a crop, as a share of the image's")
    share: float = knob(0.2, 0, 1, doc="most that may show an object of a crop that is outside")
    hidden: int = knob(2048, 16, 2048, doc="width of the projector")
    labels: str = knob("class", doc="what images are labelled with: one class, or tags", choices=("class", "tags"))

    presets: ClassVar[Presets] = {"paper": {}, "small": {"ptc": 2.0, "after": 0.5, "crops": 4, "hidden": 256}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(steps=20_000, batch=4, optim=Optim("adamw", 6e-5, weight_decay=0.01), wraps=()),
        "small": Recipe(optim=Optim("adamw", 1e-3, weight_decay=0.01), warmup=0.1, wraps=()),
    }

    @property
    def maps(self) -> bool:
        """Whether anything is asked but the labels."""
        return bool(self.aux or self.ptc or self.ctc)

    def build(self, info: Info, make: Make) -> Nets:
        net = make("net")
        if not self.maps:
            return Nets({"net": net})
        middle = nn.Linear(gridded(shown(net)).shape[1], len(info.classes), bias=False)
        project = projector(peaked(net).head.in_features, self.hidden)  # type: ignore[arg-type]
        return Nets({"net": net, "middle": middle, "project": project, "slow": EMA(project)})

    def program(self, info: Info) -> Program:
        return training(self.labels, info, self.after if self.maps else 1.0)

    def named(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        """What the labels alone ask, of the last tokens and the middle ones."""
        net, part = nets["net"], batch["l"]
        if not self.maps:
            return {"labelled": asked(net(part["weak"]).logits, part.labels, self.labels)}
        return self.classified(nets, part)[0]

    def classified(self, nets: Nets, part: Part) -> tuple[Loss, Tensor, Tensor]:
        """The same, with the middle tokens as maps (B,K,h,w), and the last ones."""
        net = nets["net"]
        early = net.early(net.normalise(part["weak"]))
        last, middle = net.tokens(early), gridded(early)
        first = asked(net.head(net.pool(gridded(last))), part.labels, self.labels)
        second = asked(nets["middle"](middle.amax((2, 3))), part.labels, self.labels)
        return {"labelled": first, "middle": second._replace(weight=self.aux * second.weight)}, middle, last

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        part = batch["l"]
        loss, middle, last = self.classified(nets, part)
        sure = self.sure(nets["middle"].weight, middle.detach(), part, gridded(last))
        alike, (same, other) = likeness(gridded(last)), pairs(sure)
        values, inside = self.contrast(nets, part, sure, nets["net"].summary(last).detach(), clock)
        return loss | {
            "alike": mean(1 - alike, same, same.sum(), self.ptc / 2),
            "unlike": mean(alike, other, other.sum(), self.ptc / 2),
            "crops": mean(values, inside, inside.sum(), self.ctc),
        }

    @torch.no_grad()
    def sure(self, weight: Tensor, middle: Tensor, part: Part, like: Tensor) -> Tensor:
        """What the middle tokens say each of the last ones shows: int64 (B,h,w), as in `surely`."""
        maps = evidence(torch.einsum("ck,bkhw->bchw", weight, middle))
        there = part.labels.tagged(len(weight)) == 1
        return surely(resized(maps * there[..., None, None], (like.shape[2], like.shape[3])), self.high, self.low)

    def contrast(self, nets: Nets, part: Part, sure: Tensor, token: Tensor, clock: Clock) -> tuple[Tensor, Tensor]:
        """Crops of the weak view against its class token (B,K): values and weights (B,n)."""
        net, x, step = nets["net"], part["weak"], part["weak"].shape[-1] // sure.shape[-1]
        side = max(1, round(self.crop * x.shape[-1] / step)) * step
        seed = draws.key(clock.seed, clock.phase, clock.step, clock.lane, "crops")
        at = corners(draws.uniform(seed, part.rows, 0, 2 * self.crops), x.shape[-1] - side)
        some = crops(interpolate((sure != 0).to(x.dtype)[:, None], x.shape[2:]), at, side).mean((2, 3, 4))
        with settled(net):
            tokens = net.tokens(net.early(net.normalise(crops(x, at, side).flatten(0, 1))))
        query = nets["project"](net.summary(tokens)).unflatten(0, at.shape[:2])
        return told_apart(query, nets["slow"].net(token), some > self.share, TEMPERATURE)

    def after_step(self, nets: Nets, clock: Clock) -> None:
        if self.maps:
            nets["slow"].update(nets["project"], DECAY, int(clock.total))
