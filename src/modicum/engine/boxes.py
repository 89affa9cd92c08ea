"""What a detector says of whole images: boxes in pixels of the stored image, their classes and scores."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.data.images import resize, square


class Found(NamedTuple):
    """xyxy: float32 (M,4), pixel edges.  cls: int64 (M,).  score: float32 (M,) in [0,1], falling."""

    xyxy: np.ndarray
    cls: np.ndarray
    score: np.ndarray


def boxes_of(
    net: Net, images: Iterable[np.ndarray], sizes: Iterable[tuple[int, int]] | None = None, *, shorter: int = 0,
    batch: int = 16,
) -> Iterator[Found]:  # fmt: skip
    """The boxes that a network finds in each image.

    images: uint8 or uint16 (h,w,c), of any sizes; in memory are those of one batch.  sizes: (H,W) in whose pixels the
    boxes are to be, an image each; None: the image's own.  shorter: as in net.json.  ModelError for a network that
    says nothing of boxes.
    """
    asked: Iterable[tuple[int, int] | None] = itertools.repeat(None) if sizes is None else sizes
    side, channels = int(net.spec["args"]["side"]), int(net.spec["args"]["channels"])
    pairs = zip(images, asked)
    while some := list(itertools.islice(pairs, batch)):
        fitted = [square(resize(image, shorter), side, channels) for image, _ in some]
        x = np.stack([f.astype(np.float32) / np.iinfo(f.dtype).max for f in fitted])
        with torch.no_grad():
            boxes = net.eval()(torch.from_numpy(x).permute(0, 3, 1, 2).to(net.mean.device)).boxes
        if boxes is None or boxes.score is None:
            raise ModelError("a network that finds no boxes", where="boxes", fix="Train one from boxes: `detector`.")
        columns = (boxes.xyxy.float(), boxes.cls, boxes.score.float())
        xyxy, cls, score = (t.cpu().numpy() for t in columns)
        ends = np.searchsorted(boxes.image.cpu().numpy(), np.arange(len(some) + 1))
        for i, (image, size) in enumerate(some):
            height, width = size or image.shape[:2]
            scale, mine = np.array([width, height, width, height], np.float32) / side, slice(ends[i], ends[i + 1])
            yield Found(xyxy[mine] * scale, cls[mine], score[mine])
