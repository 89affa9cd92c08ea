"""What a network says of places in whole images: boxes, or the class of each pixel, at the size of the stored image."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from modicum.core.errors import ModelError
from modicum.core.net import Net, Out
from modicum.data.images import resize, square
from modicum.deploy.suppress import Located
from modicum.functional.drafts import class_map

Sizes = Iterable[tuple[int, int]] | None


def boxes_of(
    net: Net, images: Iterable[np.ndarray], sizes: Sizes = None, *, shorter: int = 0, batch: int = 16
) -> Iterator[Located]:
    """The boxes that a network finds in each image.

    images: uint8 or uint16 (h,w,c), of any sizes; in memory are those of one batch.  sizes: (H,W) in whose pixels the
    boxes are to be, an image each; None: the image's own.  shorter: as in net.json.  ModelError for a network that
    says nothing of boxes.
    """
    side = int(net.spec["args"]["side"])
    for out, some in _asked(net, images, sizes, shorter, batch):
        boxes = out.boxes
        if boxes is None or boxes.score is None:
            raise ModelError("a network that finds no boxes", where="boxes", fix="Train with `--want boxes`.")
        xyxy, cls, score = (t.cpu().numpy() for t in (boxes.xyxy.float(), boxes.cls, boxes.score.float()))
        ends = np.searchsorted(boxes.image.cpu().numpy(), np.arange(len(some) + 1))
        for (height, width), *mine in zip(some, ends[:-1], ends[1:], strict=True):
            scale, at = np.array([width, height, width, height], np.float32) / side, slice(*mine)
            yield Located(xyxy[at] * scale, cls[at], score[at])


def masks_of(
    net: Net, images: Iterable[np.ndarray], sizes: Sizes = None, *, shorter: int = 0, batch: int = 16
) -> Iterator[np.ndarray]:
    """The class map of each image, uint8 (H,W): 0 background, c + 1 class c.  What the exported network says too.

    Arguments as in `boxes_of`.  ModelError for a network that says nothing of pixels.
    """
    for out, some in _asked(net, images, sizes, shorter, batch):
        if out.masks is None:
            fix = "Train with `--want masks`."
            raise ModelError("a network that says nothing of pixels", where="masks", fix=fix)
        for logits, size in zip(out.masks.float().cpu().numpy(), some, strict=True):
            yield class_map(logits, size)


def _asked(
    net: Net, images: Iterable[np.ndarray], sizes: Sizes, shorter: int, batch: int
) -> Iterator[tuple[Out, list[tuple[int, int]]]]:
    """What the network says of each batch, and the sizes that are asked for."""
    asked: Iterable[tuple[int, int] | None] = itertools.repeat(None) if sizes is None else sizes
    side, channels = int(net.spec["args"]["side"]), int(net.spec["args"]["channels"])
    pairs = zip(images, asked)
    while some := list(itertools.islice(pairs, batch)):
        fitted = [square(resize(image, shorter), side, channels) for image, _ in some]
        x = torch.from_numpy(np.stack([f.astype(np.float32) / np.iinfo(f.dtype).max for f in fitted]))
        with torch.no_grad():
            out = net.eval()(x.permute(0, 3, 1, 2).to(net.mean.device))
        yield out, [size or (image.shape[0], image.shape[1]) for image, size in some]
