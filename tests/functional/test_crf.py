"""Mean field against the dense model with matrices over all pairs of pixels."""

from __future__ import annotations

import pytest
import torch

from modicum.core.errors import DataError
from modicum.functional.crf import mean_field


def dense(probs: torch.Tensor, images: torch.Tensor, rounds: int, smooth: tuple[float, ...], alike: tuple[float, ...],
          radius: int = 10**6) -> torch.Tensor:  # fmt: skip
    """One image (L,H,W), (c,H,W): O(N^2) memory."""
    labels, height, width = probs.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], 1).double()
    colour = images.flatten(1).T
    away, unlike = torch.cdist(place, place).square(), torch.cdist(colour, colour).square()
    seen = ((place[:, None] - place[None]).abs().amax(2) <= radius) & ~torch.eye(len(place), dtype=torch.bool)
    kernel = torch.zeros_like(away)
    for weight, k in (
        (smooth[0], torch.exp(-away / (2 * smooth[1] ** 2))),
        (alike[0], torch.exp(-away / (2 * alike[1] ** 2) - unlike / (2 * alike[2] ** 2))),
    ):
        k = k * seen
        n = k.sum(1)
        kernel += weight * k / (n[:, None] * n[None]).sqrt()
    unary = probs.flatten(1).log()
    q = probs.flatten(1)
    for _ in range(rounds):
        q = (unary + q @ kernel).softmax(0)
    return q.view(labels, height, width)


@pytest.mark.parametrize("radius", [2, 30])
def test_it_is_the_dense_model_within_its_window(radius: int) -> None:
    luck = torch.Generator().manual_seed(0)
    probs = torch.rand(2, 3, 9, 12, generator=luck, dtype=torch.float64).softmax(1)
    images = torch.rand(2, 3, 9, 12, generator=luck, dtype=torch.float64)
    smooth, alike = (3.0, 1.5), (5.0, 4.0, 0.2)
    found = mean_field(probs, images, 4, radius, smooth=smooth, alike=alike)
    for i in range(2):
        assert torch.allclose(found[i], dense(probs[i], images[i], 4, smooth, alike, radius), atol=1e-10)


def test_labels_follow_colours_and_stray_pixels_go() -> None:
    luck = torch.Generator().manual_seed(1)
    truth = torch.zeros(32, 32, dtype=torch.int64)
    truth[:, 13:] = 1
    images = (0.3 + 0.4 * truth + 0.03 * torch.randn(3, 32, 32, generator=luck))[None]
    wrong = torch.rand(32, 32, generator=luck) < 0.25
    said = torch.where(wrong, 1 - truth, truth)
    probs = torch.nn.functional.one_hot(said, 2).permute(2, 0, 1)[None] * 0.4 + 0.3
    assert (mean_field(probs, images).argmax(1)[0] == truth).float().mean() > 0.99 > (said == truth).float().mean()


def test_no_round_changes_nothing_and_gradients_pass() -> None:
    probs = torch.full((1, 2, 4, 4), 0.5, dtype=torch.float64)
    images = torch.rand(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert mean_field(probs, images, 0) is probs
    leaves = [(probs + 0.1 * torch.rand_like(probs)).requires_grad_(), images.clone().requires_grad_()]
    assert torch.autograd.gradcheck(lambda p, i: mean_field(p, i, 2, 2, alike=(2.0, 3.0, 0.5)), leaves)
    with pytest.raises(DataError, match="same size"):
        mean_field(probs, images[..., :2])
