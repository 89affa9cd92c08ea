"""Maths of maps: stretched, enlarged, and the first principal direction, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modicum.functional.heat import principal, resized, unit


def test_maps_are_stretched_to_0_and_1_each_by_itself() -> None:
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    maps[0, 1] = 7
    out = unit(maps).numpy()
    for b in range(2):
        for t in range(3):
            m = maps[b, t].numpy()
            wanted = np.zeros((4, 5)) if (b, t) == (0, 1) else (m - m.min()) / (m.max() - m.min())
            assert np.allclose(out[b, t], wanted, atol=1e-6)


def test_maps_are_enlarged_with_corners_not_aligned() -> None:
    maps = torch.tensor([[[[0.0, 1.0]]]])
    assert torch.allclose(resized(maps, (1, 4)), torch.tensor([[[[0.0, 0.25, 0.75, 1.0]]]]))
    assert resized(maps, (1, 2)) is maps


@pytest.mark.parametrize(("channels", "side"), [(3, 5), (40, 5), (25, 5), (1, 4)])
@pytest.mark.parametrize("center", [False, True])
def test_the_first_direction_is_that_of_an_svd(channels: int, side: int, center: bool) -> None:
    maps = torch.randn(4, channels, side, side, generator=torch.Generator().manual_seed(channels))
    found = principal(maps, center)
    assert found.shape == (4, side, side) and found.dtype == torch.float32
    for i in range(4):
        f = maps[i].reshape(channels, -1).T.double().numpy()
        f = f - f.mean(0) if center else f
        wanted = f @ np.linalg.svd(f, full_matrices=True)[2][0]
        got = found[i].double().numpy().ravel()
        assert np.allclose(got, wanted if got @ wanted > 0 else -wanted, atol=1e-5)
        if not center:
            assert got.sum() >= -1e-6


def test_maps_of_zeros_are_zeros_and_what_is_not_finite_says_so() -> None:
    maps = torch.rand(3, 4, 2, 2)
    maps[0], maps[1, 2, 0, 0] = 0, torch.inf
    found = principal(maps)
    assert not found[0].any() and found[1].isnan().all() and found[2].isfinite().all()


def test_the_sign_of_centred_maps_is_that_of_their_sum() -> None:
    """Sums over positions are all 0 there, and what rounding leaves of them says nothing."""
    torch.manual_seed(0)
    for shape in ((4, 6, 5, 5), (4, 40, 3, 3)):
        maps = torch.rand(*shape) * torch.rand(shape[0], shape[1], 1, 1)
        total = maps.sum(1) - maps.sum(1).mean((1, 2), keepdim=True)
        found = principal(maps, center=True)
        assert ((found * total).sum((1, 2)) > 0).all()
        assert torch.allclose(principal(maps.flip(1), center=True), found, atol=1e-5)
