"""A segmenter's ONNX file: logits a pixel as the net's, and class maps at the size of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from modicum.core.errors import ModelError
from modicum.core.net import Net, Out
from modicum.deploy.export import export
from modicum.deploy.masks import write_masks
from modicum.deploy.predict import OnnxModel
from modicum.engine.dense import masks_of
from modicum.nn.segment import segmenting

from .conftest import CLASSES, Exported, digits, warm

META = {"classes": CLASSES, "side": 16, "channels": 1, "temperature": None}


@pytest.fixture(scope="module")
def net() -> Net:
    images = digits(16, 64)
    net = segmenting(warm("tiny-conv:width=4", images))
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        for _ in range(30):
            net.train()(x)
    return net.eval()


@pytest.fixture(scope="module")
def file(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("segments") / "model.onnx"
    facts = export(net, META, digits(16, 100), path, runs=5)
    assert facts["largest_difference"] <= 1e-4
    return path


@pytest.mark.parametrize("size", [1, 3])
def test_the_files_logits_are_the_nets(net: Net, file: Path, size: int) -> None:
    images = digits(16, size)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    logits, probs, masks = session.run(["logits", "probs", "masks"], {"images": images})
    with torch.no_grad():
        out = net(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    assert masks.shape == (size, 11, 16, 16) and np.abs(masks - out.masks.numpy()).max() < 1e-4
    assert np.abs(logits - out.logits.numpy()).max() < 1e-4 and np.allclose(probs.sum(1), 1, atol=1e-5)


def test_class_maps_have_the_size_of_the_image_and_are_those_of_the_net(net: Net, file: Path) -> None:
    luck, model = np.random.default_rng(0), OnnxModel(file)
    images = [luck.integers(0, 256, (h, w, 1), np.uint8) for h, w in ((16, 16), (40, 23), (5, 9), (1, 1))]
    found, same = list(model.masks(images)), list(masks_of(net, images, batch=3))
    assert [f.shape for f in found] == [i.shape[:2] for i in images] and model.segments
    assert all((a == b).mean() > 0.99 and a.dtype == np.uint8 for a, b in zip(found, same, strict=True))
    with torch.no_grad():
        plain = net(torch.from_numpy(images[0])[None, None, ..., 0] / 255).masks[0].argmax(0)
    assert np.array_equal(same[0], plain)
    (large,) = masks_of(net, images[:1], [(32, 48)])
    with torch.no_grad():
        logits = net(torch.from_numpy(images[0])[None, None, ..., 0] / 255).masks
    wide = nn.functional.interpolate(logits, (32, 48), mode="bilinear")[0].argmax(0).numpy()
    assert (large == wide).mean() > 0.99, "Pillow and torch agree on bilinear"


def test_a_classifier_says_nothing_of_pixels(exported: Exported) -> None:
    model = OnnxModel(exported.path)
    assert not model.segments
    with pytest.raises(ModelError, match="nothing of pixels"):
        next(model.masks(exported.images[:1]))
    with pytest.raises(ModelError, match="nothing of pixels"):
        next(masks_of(exported.net, exported.images[:1]))


class Odd(Net):
    """Masks that differ between the net and its file."""

    def __init__(self) -> None:
        super().__init__(1)
        self.head = nn.Linear(1, 2)

    def forward(self, x: torch.Tensor) -> Out:
        pooled = x.mean((2, 3))
        return Out(self.head(pooled), pooled, masks=x.expand(-1, 3, -1, -1) + int(torch.compiler.is_exporting()))


def test_masks_that_differ_are_not_written(tmp_path: Path) -> None:
    meta = {"classes": ("a", "b"), "side": 16, "channels": 1}
    with pytest.raises(ModelError, match="differs"):
        export(Odd(), meta, digits(16, 8), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_masks_of_files_are_written_as_class_numbers(file: Path, tmp_path: Path) -> None:
    images = digits(16, 3)
    places = [tmp_path / name for name in ("a/x.png", "b/X.png", "b/y.png")]
    for place, image in zip(places, images, strict=True):
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(place)
    (tmp_path / "b" / "z.png").write_bytes(b"no image")
    found = list(write_masks(file, [tmp_path / "a", tmp_path / "b"], out := tmp_path / "masks"))
    assert [m.file for m in found] == ["x.png", "X-1.png", "y.png", ""] and found[3].fault
    model = OnnxModel(file)
    for mask, labels in zip(found, model.masks(list(images))):
        written = np.asarray(Image.open(out / mask.file))
        assert written.dtype == np.uint8 and (written == labels).all()
        assert sum(mask.shares.values()) == pytest.approx((labels > 0).mean())
        assert list(mask.shares.values()) == sorted(mask.shares.values(), reverse=True)
    assert (out / "classes.txt").read_text().splitlines() == ["background", *CLASSES]
