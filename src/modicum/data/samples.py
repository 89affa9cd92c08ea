"""Sets that are always there, for docs and tests."""

from __future__ import annotations

from modicum.core.dataset import Dataset
from modicum.data.read import read


def sample(name: str = "digits") -> Dataset:
    """A sample set by name: 'digits', 'scenes', 'scenes-plain', 'scenes-texture' or 'scenes-clutter'.

    digits: 1,797 images of 8 x 8 grey pixels, 10 classes, no split.  scenes: 1,300 generated images of 64 x 64 RGB
    pixels with one to three digits on three kinds of ground (`domain`), with tags, points, scribbles, boxes, masks,
    instances and captions (kind "text", UTF-8 in `data`); 1,000 are for training, 300 are a test.
    """
    return read(f"sample:{name}").data
