"""RandAugment's list of operations on whole batches, each image with its own operation and amount.

The list and its ranges are FixMatch's (Sohn et al. 2020, appendix D; the idea is Cubuk et al. 2020).  An operation is
what Pillow does on 8-bit images, which the tests hold it to; values here stay in [0,1] and are not rounded between
operations.  The five that move pixels are affines (`functional.geometry.moves`), so that several become one sampling.
B images, c channels (1 or 3), H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# What an image may draw, and between which amounts.  Angles are in degrees, shifts in shares of the side.
POOL: dict[str, tuple[float, float]] = {
    "autocontrast": (0, 0), "brightness": (0.05, 0.95), "color": (0.05, 0.95), "contrast": (0.05, 0.95),
    "equalize": (0, 0), "identity": (0, 0), "posterize": (4, 9), "rotate": (-30, 30), "sharpness": (0.05, 0.95),
    "shear-x": (-0.3, 0.3), "shear-y": (-0.3, 0.3), "solarize": (0, 1), "translate-x": (-0.3, 0.3),
    "translate-y": (-0.3, 0.3),
}  # fmt: skip
NAMES = tuple(POOL)


def chosen(luck: Tensor) -> tuple[Tensor, Tensor]:
    """Draws (B,2) in [0,1) -> which operation, int64 (B,), places in NAMES, and its amount, float (B,)."""
    which = (luck[:, 0] * len(NAMES)).long().clamp_max(len(NAMES) - 1)
    low, high = torch.tensor(list(POOL.values()), dtype=luck.dtype, device=luck.device)[which].unbind(1)
    return which, low + luck[:, 1] * (high - low)


def recoloured(x: Tensor, which: Tensor, amount: Tensor) -> Tensor:
    """Images (B,c,H,W) in [0,1] after their operation, where it is one of colours; new memory.  which: on the CPU."""
    order = which.argsort(stable=True)
    counts = torch.bincount(which, minlength=len(NAMES)).tolist()
    x = x.index_select(0, order.to(x.device))
    amounts = amount[order].to(x.device)[:, None, None, None].split(counts)
    for name, part, v in zip(NAMES, x.split(counts), amounts, strict=True):
        if name in COLOURS and len(part):
            part.copy_(COLOURS[name](part, v))
    return x.index_select(0, order.argsort().to(x.device))


def grey(x: Tensor) -> Tensor:
    """Luma (B,1,H,W) as ITU-R 601 and Pillow weigh it; one channel is its own."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def autocontrast(x: Tensor, _: Tensor) -> Tensor:
    """Each channel stretched to [0,1]; one of a single value stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6), x)


def brightness(x: Tensor, v: Tensor) -> Tensor:
    """Towards black: v = 0 is black, 1 the image."""
    return x * v


def color(x: Tensor, v: Tensor) -> Tensor:
    """Towards its greys: v = 0 is grey, 1 the image."""
    return torch.lerp(grey(x).expand_as(x), x, v)


def contrast(x: Tensor, v: Tensor) -> Tensor:
    """Towards its mean grey: v = 0 is flat, 1 the image."""
    return torch.lerp(grey(x).mean((2, 3), keepdim=True).expand_as(x), x, v)


def equalize(x: Tensor, _: Tensor) -> Tensor:
    """Each channel's 256 levels spread so that all are about as frequent; one of a single level stays."""
    level = levels(x).long().flatten(2).flatten(0, 1)
    count = torch.zeros(len(level), 256, dtype=torch.int64, device=x.device)
    count.scatter_add_(1, level, torch.ones_like(level))
    step = (level.shape[1] - count.gather(1, level.amax(1, keepdim=True))) // 255
    table = ((step // 2 + count.cumsum(1) - count) // step.clamp_min(1)).clamp_max(255)
    return (torch.where(step > 0, table.gather(1, level), level).to(x.dtype) / 255).view(x.shape)


def posterize(x: Tensor, v: Tensor) -> Tensor:
    """Only the highest bits of 8: floor(v) of them, 4 to 8."""
    size = 2 ** (8 - v.floor())
    return (levels(x) / size).floor() * size / 255


def sharpness(x: Tensor, v: Tensor) -> Tensor:
    """Towards its 3x3 smoothing: v = 0 is smooth, 1 the image; the outermost pixels stay."""
    if min(x.shape[2:]) < 3:
        return x
    inside = x[:, :, 1:-1, 1:-1]
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    smooth = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inside) / 13
    out = x.clone()
    out[:, :, 1:-1, 1:-1] = torch.lerp(smooth, inside, v)
    return out


def solarize(x: Tensor, v: Tensor) -> Tensor:
    """The negative of every value from v upwards."""
    return torch.where(levels(x) < (v * 256).floor(), x, 1 - x)


def levels(x: Tensor) -> Tensor:
    """The nearest of 256 levels, 0 to 255, of values in [0,1]; a float tensor."""
    return (x * 255).round()


COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": autocontrast, "brightness": brightness, "color": color, "contrast": contrast,
    "equalize": equalize, "posterize": posterize, "sharpness": sharpness, "solarize": solarize,
}  # fmt: skip
