"""A conditional random field over pixels, by mean field: labels agree with near pixels, more so with those alike.

    q_i(l) <- softmax_l( log p_i(l) + sum_m w_m sum_(j != i) k_m(i,j) / sqrt(n_m(i) n_m(j)) q_j(l) )
    k_1 = exp(-|p_i - p_j|^2 / 2 s_1^2),    k_2 = exp(-|p_i - p_j|^2 / 2 s_2^2 - |I_i - I_j|^2 / 2 s_c^2)

with n_m(i) = sum_(j != i) k_m(i,j) (Kraehenbuehl and Koltun, 2011, Potts model; a pixel sends no message to itself).
j runs over a square window, so s_2 larger than the window means "anywhere in the window".  Where the window holds the
whole image this is the dense model.  No loop over pixels; a loop over half of the window's offsets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modicum.core.errors import DataError
from modicum.functional.affinity import Span, pairs

TINY = 1e-12


def mean_field(
    probs: Tensor, images: Tensor, rounds: int = 10, radius: int = 10, *, smooth: tuple[float, float] = (3, 3),
    alike: tuple[float, float, float] = (10, 80, 13 / 255),
) -> Tensor:  # fmt: skip
    """probs (B,L,H,W) over labels -> the same after `rounds` of mean field.

    images: float (B,c,H,W) in [0, 1].  radius: the window reaches this many pixels.  smooth: w_1, s_1.  alike: w_2,
    s_2 in pixels, s_c in colour.  Memory: 2 radius (radius + 1) numbers a pixel.
    """
    if probs.shape[2:] != images.shape[2:] or len(probs) != len(images):
        found = f"probabilities of shape {tuple(probs.shape)}, images of {tuple(images.shape)}"
        raise DataError(found, where="mean field", fix="Bring both to the same size first.")
    messages = _kernel(images, radius, smooth, alike)
    unary = probs.clamp_min(TINY).log()
    for _ in range(rounds):
        probs = (unary + _send(probs, messages)).softmax(1)
    return probs


Messages = list[tuple[Tensor, Span, Span]]


def _kernel(
    images: Tensor, radius: int, smooth: tuple[float, float], alike: tuple[float, float, float]
) -> Messages:  # fmt: skip
    """For one of each opposite pair of offsets: both kernels, weighted, normalised and added, and whom they join."""
    height, width = images.shape[2:]
    out: Messages = []
    total = images.new_zeros(2, len(images), height, width)
    for y, x in window(radius, height, width):
        here, there = pairs((y, x), height, width)
        away, unlike = y * y + x * x, (images[..., *here] - images[..., *there]).square().sum(1)
        near = torch.full_like(unlike, -away / (2 * smooth[1] ** 2))
        both = torch.stack([near, -away / (2 * alike[1] ** 2) - unlike / (2 * alike[2] ** 2)]).exp()
        total[..., *here] += both
        total[..., *there] += both
        out.append((both, here, there))
    scale = total.clamp_min(TINY).rsqrt() * images.new_tensor([smooth[0], alike[0]]).sqrt()[:, None, None, None]
    return [((k * scale[..., *here] * scale[..., *there]).sum(0), here, there) for k, here, there in out]


def window(radius: int, height: int, width: int) -> list[tuple[int, int]]:
    """Offsets (down, right) of a square window, one of each opposite pair, that fit into an image."""
    down, right = min(radius, height - 1), min(radius, width - 1)
    return [(y, x) for y in range(down + 1) for x in range(-right, right + 1) if (y, x) > (0, 0)]


def _send(probs: Tensor, messages: Messages) -> Tensor:
    """What each pixel hears from its window, (B,L,H,W)."""
    out = torch.zeros_like(probs)
    for weight, here, there in messages:
        out[..., *here] += weight[:, None] * probs[..., *there]
        out[..., *there] += weight[:, None] * probs[..., *here]
    return out
