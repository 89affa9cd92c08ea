"""Tagger: a classifier of images that may show several classes, from tags alone.

    L = sum_C mean_known BCE(sigmoid f_c(x), t_c)          t_c: 1 present, 0 absent; unknown tags do not count

What methods that learn maps from image-level labels add to.  An image of one class has all its tags known.
"""

from __future__ import annotations

from dataclasses import dataclass

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.loss import Loss
from modicum.core.method import Learn
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program
from modicum.functional.told import asked
from modicum.nn.told import training

CARD = Card(
    title="Multi-label classification (binary relevance)",
    role="learn",
    idea="Each class is a yes or no of its own, learned from the images of which it is known.",
    needs=("image", "tags:some"),
    makes=("net:tags",),
    year=2009,
    cites=("doi:10.1007/978-0-387-09823-4_34",),
    cost=1.0,
    changed="Known tags of all classes are pooled before the mean is taken: a class with few of them weighs less.",
)


@dataclass(frozen=True)
class Tagger(Learn):
    """Tsoumakas et al., 2009, with one network for all classes."""

    def program(self, info: Info) -> Program:
        return training("tags", info)

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        labelled = batch["l"]
        return {"labelled": asked(nets["net"](labelled["weak"]).logits, labelled.labels, "tags")}
