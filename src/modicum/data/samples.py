"""Sets that are always there, for docs and tests."""

from __future__ import annotations

from modicum.core.dataset import Dataset
from modicum.data.read import read


def sample(name: str = "digits") -> Dataset:
    """A sample set by name: 'digits' (1,797 images of 8 x 8 grey pixels, 10 classes, no split)."""
    return read(f"sample:{name}").data
