"""Boxes of whole images, in pixels of the stored ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modicum.core.errors import ModelError
from modicum.engine.dense import boxes_of
from modicum.models.doors import make
from modicum.nn.detect import detecting


def test_boxes_are_in_pixels_of_the_stored_image_and_batches_change_nothing() -> None:
    torch.manual_seed(0)
    net = detecting(make("tiny-conv:width=4", classes=2, channels=3, side=32), 8, 1)
    torch.nn.init.constant_(net.detector.cells.bias, 0.0)
    luck = np.random.default_rng(0)
    images = [luck.integers(0, 256, (*size, 3), np.uint8) for size in ((32, 32), (64, 16), (20, 50))]
    own, ones = list(boxes_of(net, images, batch=2)), [next(boxes_of(net, [image])) for image in images]
    twice = list(boxes_of(net, images, [(2 * i.shape[0], 3 * i.shape[1]) for i in images]))
    for image, found, alone, larger in zip(images, own, ones, twice, strict=True):
        height, width = image.shape[:2]
        assert len(found.cls) and (np.diff(found.score) <= 0).all() and found.xyxy.min() >= 0
        assert (found.xyxy.max(0) <= (width, height, width, height)).all()
        np.testing.assert_allclose(found.xyxy, alone.xyxy, atol=1e-3)
        np.testing.assert_array_equal(found.cls, alone.cls)
        np.testing.assert_allclose(larger.xyxy, found.xyxy * np.array([3, 2, 3, 2]), atol=1e-3)
    assert not list(boxes_of(net, []))


def test_sixteen_bits_are_the_same_picture() -> None:
    torch.manual_seed(0)
    net = detecting(make("tiny-conv:width=4", classes=2, channels=1, side=16), 8, 1)
    torch.nn.init.constant_(net.detector.cells.bias, 0.0)
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 1), np.uint8)
    one, two = next(boxes_of(net, [image])), next(boxes_of(net, [image.astype(np.uint16) * 257]))
    np.testing.assert_allclose(one.xyxy, two.xyxy, atol=1e-3)


def test_a_classifier_finds_no_boxes() -> None:
    net = make("tiny-conv:width=4", classes=2, channels=3, side=16)
    with pytest.raises(ModelError, match="no boxes"):
        next(boxes_of(net, [np.zeros((16, 16, 3), np.uint8)]))
