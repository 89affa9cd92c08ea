"""Random walks against a transition matrix that is squared, and affinities against loops over pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from modicum.core.errors import DataError, SettingsError
from modicum.functional import affinity

H, W = 6, 5


def toy(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    luck = torch.Generator().manual_seed(seed)
    edges = torch.rand(2, H, W, generator=luck, dtype=torch.float64)
    return edges, torch.rand(2, 3, H, W, generator=luck, dtype=torch.float64)


def between(edges: np.ndarray, a: tuple[int, int], b: tuple[int, int]) -> float:
    """1 - the highest edge on the line from the upper (or left) of two pixels to the other."""
    a, b = min(a, b), max(a, b)
    steps = max(abs(b[0] - a[0]), abs(b[1] - a[1]))
    line = [
        (a[0] + round((b[0] - a[0]) * t / steps), a[1] + round((b[1] - a[1]) * t / steps)) for t in range(steps + 1)
    ]
    return 1 - max(edges[p] for p in line)


@pytest.mark.parametrize("radius", [1, 2.5, 5])
def test_affinities_are_those_of_a_loop_over_pairs(radius: float) -> None:
    edges, images = toy()
    lines, colours = (
        affinity.dense(affinity.from_edges(edges, radius)),
        affinity.dense(affinity.from_colours(images, radius, 0.1)),
    )
    pixels = list(itertools.product(range(H), range(W)))
    for i, (p, a), (q, b) in itertools.product(range(2), enumerate(pixels), enumerate(pixels)):
        near = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 <= radius**2
        line = 1.0 if p == q else between(edges[i].numpy(), a, b) if near else 0.0
        assert lines[i, p, q] == pytest.approx(line)
        unlike = float((images[i, :, a[0], a[1]] - images[i, :, b[0], b[1]]).square().mean())
        assert colours[i, p, q] == pytest.approx(np.exp(-unlike / 0.02) if near else 0.0)


@pytest.mark.parametrize("kind", ["edges", "colours"])
@pytest.mark.parametrize("beta", [1, 10])
def test_a_walk_is_the_map_times_the_matrix_squared_eight_times(kind: str, beta: float) -> None:
    edges, images = toy(1)
    near = affinity.from_edges(edges, 3) if kind == "edges" else affinity.from_colours(images, 3, 0.3)
    maps = torch.rand(2, 4, H, W, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    power = affinity.dense(near) ** beta
    step = power / power.sum(1, keepdim=True)
    for _ in range(8):
        step = step @ step
    found = affinity.walk(maps, near, beta)
    assert torch.allclose(found, (maps.flatten(2) @ step).view_as(maps), atol=1e-12)
    assert (found.amax((2, 3)) <= maps.amax((2, 3)) + 1e-12).all()


def test_a_walk_fills_the_room_it_starts_in() -> None:
    edges = torch.zeros(1, 9, 9)
    edges[0, :, 4] = 1
    maps = torch.zeros(1, 1, 9, 9)
    maps[0, 0, 4, 1] = 1
    found = affinity.walk(maps, affinity.from_edges(edges, 2))[0, 0]
    assert not found[:, 4:].any(), "nothing crosses a wall"
    assert found[:, :4].min() > 0.5 * found[:, :4].max() > 0, "and the room is filled evenly"


def test_gradients_reach_maps_and_images() -> None:
    _, images = toy(2)
    leaves = [
        torch.rand(1, 2, 3, 3, dtype=torch.float64, requires_grad=True),
        images[:1, :, :3, :3].clone().requires_grad_(),
    ]
    assert torch.autograd.gradcheck(lambda m, i: affinity.walk(m, affinity.from_colours(i, 2, 0.3), 2, 3), leaves)


def test_one_pixel_walks_nowhere() -> None:
    near = affinity.from_edges(torch.zeros(1, 1, 1))
    assert affinity.walk(torch.ones(1, 1, 1, 1), near).item() == 1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SettingsError, match="radius"):
        affinity.from_edges(torch.zeros(1, 4, 4), 0.5)
    with pytest.raises(DataError, match="same size"):
        affinity.walk(torch.zeros(1, 1, 8, 8), affinity.from_edges(torch.zeros(1, 4, 4)))
