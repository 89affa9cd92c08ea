"""What a segmenter says of whole images: the class of each pixel, at the size of the stored image."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.data.images import resize, square
from modicum.functional.drafts import class_map


def masks_of(
    net: Net, images: Iterable[np.ndarray], sizes: Iterable[tuple[int, int]] | None = None, *, shorter: int = 0,
    batch: int = 16,
) -> Iterator[np.ndarray]:  # fmt: skip
    """The class map of each image, uint8 (H,W): 0 background, c + 1 class c.  What the exported network says too.

    images: uint8 or uint16 (h,w,c), of any sizes; in memory are those of one batch.  sizes: (H,W) asked for, an image
    each; None: the image's own.  shorter: as in net.json.  ModelError for a network that says nothing of pixels.
    """
    asked: Iterable[tuple[int, int] | None] = itertools.repeat(None) if sizes is None else sizes
    side, channels = int(net.spec["args"]["side"]), int(net.spec["args"]["channels"])
    pairs = zip(images, asked)
    while some := list(itertools.islice(pairs, batch)):
        fitted = [square(resize(image, shorter), side, channels) for image, _ in some]
        x = np.stack([f.astype(np.float32) / np.iinfo(f.dtype).max for f in fitted])
        with torch.no_grad():
            masks = net.eval()(torch.from_numpy(x).permute(0, 3, 1, 2).to(net.mean.device)).masks
        if masks is None:
            fix = "Train with `--want masks`."
            raise ModelError("a network that says nothing of pixels", where="masks", fix=fix)
        for logits, (image, size) in zip(masks.float().cpu().numpy(), some, strict=True):
            yield class_map(logits, size or image.shape[:2])
