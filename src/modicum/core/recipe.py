"""The recipe: optimisers, schedule, batch, views and steps; everything about training that is not the method's idea."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modicum.core.errors import SettingsError
from modicum.core.settings import Settings, knob, shown


@dataclass(frozen=True)
class Optim(Settings):
    """One optimiser."""

    name: str = knob("sgd", doc="which optimiser", choices=("sgd", "adamw"))
    lr: float = knob(0.1, 0, 10, doc="learning rate at the start")
    momentum: float = knob(0.9, 0, 1, doc="momentum of SGD, first beta of AdamW")
    nesterov: bool = knob(True, doc="Nesterov's form of momentum")
    weight_decay: float = knob(5e-4, 0, 1, doc="weight decay; biases and norms are left out")


@dataclass(frozen=True)
class Augment(Settings):
    """How far a view may move from the image; each image of a batch draws its own values, uniformly in +- the bound."""

    rotate: float = knob(0.0, 0, 180, doc="rotation", unit="degrees")
    shift: float = knob(0.0, 0, 0.5, doc="shift, as a share of the side")
    zoom: float = knob(0.0, 0, 0.9, doc="change of size, as a share")
    shear: float = knob(0.0, 0, 45, doc="shear", unit="degrees")
    flip: bool = knob(False, doc="mirror left and right, half of the time")
    brightness: float = knob(0.0, 0, 1, doc="added to values in [0, 1]")
    contrast: float = knob(0.0, 0, 1, doc="change of contrast about the image's mean, as a share")
    saturation: float = knob(0.0, 0, 1, doc="change of saturation, as a share (colour images)")
    randaugment: int = knob(0, 0, 8, doc="operations drawn from RandAugment's list, one after the other")
    cutout: float = knob(0.0, 0, 1, doc="side of one square set to the mean, as a share of the side")

    def scaled(self, factor: float) -> Augment:
        """The same view, gentler or stronger; below 1 without cutout and RandAugment, which weak views do not have."""
        names = ("rotate", "shift", "zoom", "shear", "brightness", "contrast", "saturation")
        given = {n: getattr(self, n) * factor for n in names}
        return self.but(**given) if factor >= 1 else self.but(**given, cutout=0.0, randaugment=0)


STRONG = Augment(rotate=20, shift=0.2, zoom=0.2, shear=10, brightness=0.3, contrast=0.4, saturation=0.4, cutout=0.375)
CROP = Augment(shift=0.125, flip=True)
RANDAUGMENT = CROP.but(randaugment=2, cutout=0.5)
PLAIN = Augment()


@dataclass(frozen=True)
class Recipe(Settings):
    """What a learn method's program is built from; presets `paper` and `small` stand on the method.

    views: name -> Augment; a Stream names them.  groups: further optimisers a Turn may name (the first is "main").
    wraps: wrappers put around the method, outermost last, as `ema` or `ema:decay=0.99`.
    """

    steps: int = knob(600, 1, 10**12, doc="gradient steps, all phases together")
    batch: int = knob(32, 1, 65536, doc="labelled images a step")
    optim: Optim = Optim()
    schedule: str = knob("cosine", doc="learning rate over the steps", choices=("cosine", "cosine-7/16", "constant"))
    warmup: float = knob(0.0, 0, 1, doc="share of the steps in which the learning rate rises linearly")
    views: Mapping[str, Augment] = field(
        default_factory=lambda: {"weak": STRONG.scaled(0.3), "strong": STRONG, "plain": PLAIN}
    )
    groups: Mapping[str, Optim] = field(default_factory=dict)
    wraps: tuple[str, ...] = ("ema",)
    clip: float = knob(0.0, 0, doc="largest gradient norm; 0 = not clipped")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.wraps) > 16:
            raise SettingsError(f"{len(self.wraps)} wrappers", where="Recipe.wraps", fix="At most 16 are allowed.")

    def lr_factor(self, done: float) -> float:
        """Factor on the learning rate when a share `done` of the steps is over: a function of the step alone."""
        if done < self.warmup:
            return min(1.0, (done + 1 / self.steps) / self.warmup)
        if self.schedule == "cosine-7/16":
            return math.cos(7 * math.pi * done / 16)
        return 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1.0

    def flipped(self, flip: bool) -> Recipe:
        """Every moving view with or without mirroring."""
        return self.but(views={n: a if a == PLAIN else a.but(flip=flip) for n, a in self.views.items()})


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """`name:key=value,key=value` -> (name, settings); SettingsError for one without a value, or set twice."""
    name, _, rest = text.partition(":")
    given: dict[str, Any] = {}
    for part in filter(str.strip, rest.split(",")):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or not key or not value:
            raise SettingsError(f"{shown(key)} has no value in {shown(text)}", fix="Write name:key=value,key=value.")
        if key in given:
            raise SettingsError(f"{shown(key)} is set twice in {shown(text)}", fix="Set it once.")
        given[key] = value
    return name.strip(), given
