"""Refinement against loops over one pixel at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from modicum.core.errors import DataError
from modicum.functional import refine

DILATIONS = (1, 3)


def toy(seed: int = 0, size: tuple[int, int] = (6, 7)) -> tuple[torch.Tensor, torch.Tensor]:
    luck = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, *size, generator=luck, dtype=torch.float64)
    return torch.rand(2, 2, *size, generator=luck, dtype=torch.float64), images


def around(y: int, x: int, height: int, width: int) -> list[tuple[int, int]]:
    """Neighbours of a pixel, the rim repeated."""
    out = []
    for d in DILATIONS:
        for a, b in refine.AROUND:
            out.append((min(max(y + d * a, 0), height - 1), min(max(x + d * b, 0), width - 1)))
    return out


def softmax(values: list[float]) -> np.ndarray:
    e = np.exp(np.array(values) - max(values))
    return e / e.sum()


def weights(image: np.ndarray, y: int, x: int, kind: str) -> np.ndarray:
    near = [image[:, v, u] for v, u in around(y, x, *image.shape[1:])]
    sd = np.stack([image[:, y, x], *near]).std(0)
    if kind == "pamr":
        return softmax([-np.mean(np.abs(image[:, y, x] - n) / (1e-8 + 0.1 * sd)) for n in near])
    away = np.array([d * math.hypot(a, b) for d in DILATIONS for a, b in refine.AROUND])
    colour = softmax([-np.mean(((image[:, y, x] - n) / (1e-8 + 0.3 * sd)) ** 2) for n in near])
    return (colour + 0.01 * softmax(list(-((away / (0.3 * away.std())) ** 2)))) / 1.01


@pytest.mark.parametrize("kind", ["pamr", "par"])
def test_it_is_the_loop_over_pixels(kind: str) -> None:
    maps, images = toy()
    want = maps.numpy().copy()
    for i in range(2):
        for _ in range(3):
            last = want[i].copy()
            for y, x in np.ndindex(6, 7):
                near = np.stack([last[:, v, u] for v, u in around(y, x, 6, 7)], 1)
                want[i, :, y, x] = near @ weights(images[i].numpy(), y, x, kind)
    found = getattr(refine, kind)(maps, images, 3, DILATIONS)
    assert np.abs(found.numpy() - want).max() < 1e-9


@pytest.mark.parametrize("kind", ["pamr", "par"])
def test_a_constant_map_stays_and_no_value_leaves_its_range(kind: str) -> None:
    maps, images = toy(1)
    work = getattr(refine, kind)
    assert torch.allclose(work(torch.full_like(maps, 0.3), images), torch.full_like(maps, 0.3))
    found = work(maps, images)
    assert (found.amax((2, 3)) <= maps.amax((2, 3)) + 1e-12).all() and (
        found.amin((2, 3)) >= maps.amin((2, 3)) - 1e-12
    ).all()
    grey = work(maps, torch.full_like(images, 0.5))
    assert grey.isfinite().all(), "an image of one colour has no deviation to divide by"


@pytest.mark.parametrize("kind", ["pamr", "par"])
def test_gradients_reach_maps_and_images(kind: str) -> None:
    maps, images = toy(2, (4, 5))
    leaves = [a[:1].clone().requires_grad_() for a in (maps, images)]
    assert torch.autograd.gradcheck(lambda m, i: getattr(refine, kind)(m, i, 2, (1,)), leaves)


def test_a_rough_map_takes_the_shape_of_the_object() -> None:
    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    object_ = (torch.hypot(y - 24.0, x - 24.0) < 12).float()
    images = (0.3 + 0.4 * object_ + 0.02 * torch.randn(3, 48, 48, generator=torch.Generator().manual_seed(0)))[None]
    rough = torch.exp(-((y - 21.0) ** 2 + (x - 28.0) ** 2) / (2 * 9**2))[None, None]

    def agreement(heat: torch.Tensor) -> float:
        """The best IoU over thresholds: refinement must add more than another cut does."""
        cuts = [(heat[0, 0] > t * heat.max()).float() for t in np.linspace(0.05, 0.95, 19)]
        return max(float((c * object_).sum() / ((c + object_) > 0).sum()) for c in cuts)

    assert agreement(refine.pamr(rough, images)) > agreement(rough) + 0.1
    assert agreement(refine.par(rough, images)) > agreement(rough) + 0.1


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(DataError, match="same size"):
        refine.pamr(torch.rand(1, 1, 4, 4), torch.rand(1, 3, 8, 8))
