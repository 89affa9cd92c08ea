"""RandAugment's operations against Pillow's own, an image at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from modicum.functional import geometry, randaugment
from modicum.functional.randaugment import COLOURS, NAMES, POOL

LEVEL = 1 / 255
PIL = {
    "autocontrast": lambda image, v: ImageOps.autocontrast(image),
    "brightness": lambda image, v: ImageEnhance.Brightness(image).enhance(v),
    "color": lambda image, v: ImageEnhance.Color(image).enhance(v),
    "contrast": lambda image, v: ImageEnhance.Contrast(image).enhance(v),
    "equalize": lambda image, v: ImageOps.equalize(image),
    "posterize": lambda image, v: ImageOps.posterize(image, int(v)),
    "sharpness": lambda image, v: ImageEnhance.Sharpness(image).enhance(v),
    "solarize": lambda image, v: ImageOps.solarize(image, int(v * 256)),
}


def noise(n: int, side: int = 24, channels: int = 3) -> np.ndarray:
    """Images of uneven histograms, one of them a single colour, one with two levels."""
    rng = np.random.default_rng(0)
    out = (255 * rng.random((n, side, side, channels)) ** rng.uniform(0.3, 4, (n, 1, 1, channels))).astype(np.uint8)
    out[0], out[1] = 77, np.where(out[1] > 100, 200, 10)
    return out


def unit(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255


def by_pillow(pixels: np.ndarray, name: str, amounts: Tensor) -> Tensor:
    images = [Image.fromarray(p.squeeze()) for p in pixels]
    made = [
        np.asarray(PIL[name](i, v)).reshape(pixels.shape[1:]) for i, v in zip(images, amounts.tolist(), strict=True)
    ]
    return unit(np.stack(made))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", COLOURS)
def test_each_operation_is_pillow_s_to_its_rounding(name: str, channels: int) -> None:
    pixels = noise(40, channels=channels)
    low, high = POOL[name]
    amounts = low + (high - low) * torch.rand(40, generator=torch.Generator().manual_seed(1))
    ours = COLOURS[name](unit(pixels), amounts[:, None, None, None])
    apart = (ours - by_pillow(pixels, name, amounts)).abs()
    exact = name in ("equalize", "posterize", "solarize")
    assert apart.max() <= (1e-6 if exact else 1.51 * LEVEL), "Pillow rounds once or twice"
    assert apart.mean() < 0.8 * LEVEL and ours.min() >= 0 and ours.max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", geometry.MOVES)
def test_each_movement_is_pillow_s(kind: str) -> None:
    """A smooth picture, so that what is compared is where pixels go and not how Pillow rounds its weights."""
    side = 32
    y, x = np.mgrid[:side, :side] / side
    picture = Image.fromarray(np.rint(40 + 150 * np.sin(2 * x + y) ** 2 + 50 * y).astype(np.uint8))
    low, high = POOL[kind]
    bilinear = {"resample": Image.Resampling.BILINEAR}
    for v in np.linspace(low, high, 7):
        coefficients = {
            "shear-x": (1, v, 0, 0, 1, 0), "shear-y": (1, 0, 0, v, 1, 0),
            "translate-x": (1, 0, v * side, 0, 1, 0), "translate-y": (1, 0, 0, 0, 1, v * side),
        }  # fmt: skip
        if kind == "rotate":
            wanted = picture.rotate(v, **bilinear)
        else:
            wanted = picture.transform((side, side), Image.Transform.AFFINE, coefficients[kind], **bilinear)
        affine = geometry.moves(torch.tensor([geometry.MOVES.index(kind)]), torch.tensor([v]).float(), side)
        ours = geometry.warp_images(unit(np.asarray(picture)[None, :, :, None]), affine, (side, side))[0, 0]
        apart = (ours - torch.from_numpy(np.asarray(wanted).copy()) / 255).abs()
        assert (apart > 2 * LEVEL).float().mean() < 0.06, "they may differ on the rim alone"


def test_no_movement_is_none() -> None:
    assert torch.equal(geometry.moves(torch.tensor([-1, -1]), torch.rand(2), 16), geometry.identity(2))


def test_every_operation_is_as_likely_and_amounts_fill_their_ranges() -> None:
    which, amount = randaugment.chosen(torch.rand(28_000, 2, generator=torch.Generator().manual_seed(0)))
    counts = torch.bincount(which, minlength=14)
    assert len(NAMES) == 14 and ((counts - 2000).abs() < 5 * 2000**0.5).all()
    for k, (low, high) in enumerate(POOL.values()):
        mine = amount[which == k]
        assert mine.min() >= low and mine.max() <= high
        assert mine.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low + 1e-9))


def test_a_mixed_batch_is_each_image_s_own_operation() -> None:
    pixels = noise(56)
    which = torch.arange(56).roll(5) % 14
    amount = torch.tensor([sum(POOL[NAMES[k]]) / 2 for k in which.tolist()])
    out = randaugment.recoloured(unit(pixels), which, amount)
    for i, k in enumerate(which.tolist()):
        alone = unit(pixels[i : i + 1])
        name = NAMES[k]
        wanted = COLOURS[name](alone, amount[i].view(1, 1, 1, 1)) if name in COLOURS else alone
        assert torch.allclose(out[i], wanted[0], atol=1e-6), name


def test_the_input_is_left_alone_and_small_images_pass() -> None:
    x = torch.rand(14, 3, 2, 2)
    before = x.clone()
    out = randaugment.recoloured(x, torch.arange(14), torch.full((14,), 0.5))
    assert torch.equal(x, before) and out.shape == x.shape and not torch.equal(out, x)
