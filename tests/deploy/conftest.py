"""One export for all tests of this room: it takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from modicum.core.net import Net
from modicum.data.images import square
from modicum.deploy.export import export
from modicum.models.doors import make

CLASSES = ("zero", "=one", "zwei é", *map(str, range(3, 10)))


class Exported(NamedTuple):
    net: Net
    meta: dict[str, Any]
    images: np.ndarray
    path: Path
    facts: dict[str, Any]


def digits(side: int, count: int = 500) -> np.ndarray:
    """Real images, uint8 (N,side,side,1)."""
    small = (load_digits().images[:count] * 15.9375).astype(np.uint8)
    return np.stack([square(image[..., None], side, 1) for image in small])


def warm(name: str, images: np.ndarray, classes: int = 10) -> Net:
    """A net whose batch norms have seen the images; left in train mode."""
    torch.manual_seed(0)
    net = make(name, classes=classes, channels=images.shape[3], side=images.shape[1])
    x = torch.from_numpy(images[:64].astype(np.float32)).permute(0, 3, 1, 2) / np.iinfo(images.dtype).max
    with torch.no_grad():
        for _ in range(30):
            net(x)
    return net


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    images = digits(16)
    net = warm("tiny-conv", images)
    meta = {"classes": CLASSES, "side": 16, "channels": 1, "temperature": 2.0}
    path = tmp_path_factory.mktemp("onnx") / "new" / "model.onnx"
    return Exported(net, meta, images, path, export(net, meta, images, path, runs=20))
