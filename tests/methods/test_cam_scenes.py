"""Maps of a network trained on scenes of two garments: where the object is, as the papers say of their methods."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modicum.functional.heat import resized
from modicum.nn.capture import explain

pytestmark = pytest.mark.slow
SIDE, STEPS, BATCH, TESTS = 28, 350, 48, 300


class Scenes(NamedTuple):
    """x: (N,1,56,56) in [0,1].  cells: (N,2), which quarter each garment is in.  cls: (N,2)."""

    x: Tensor
    cells: Tensor
    cls: Tensor


def scenes(pixels: Tensor, labels: Tensor, n: int, seed: int, alike: bool = False) -> Scenes:
    """Two garments in two of four quarters, of different classes, or of the same."""
    luck = torch.Generator().manual_seed(seed)
    x, cells, cls = torch.zeros(n, 1, 2 * SIDE, 2 * SIDE), torch.zeros(n, 2, dtype=torch.int64), []
    for i in range(n):
        first, *others = torch.randint(len(pixels), (200,), generator=luck).tolist()
        same = labels[others] == labels[first]
        second = next(o for o, s in zip(others, same.tolist(), strict=True) if s == alike)
        cells[i] = torch.randperm(4, generator=luck)[:2]
        for k, cell in zip((first, second), cells[i].tolist(), strict=True):
            row, column = SIDE * (cell // 2), SIDE * (cell % 2)
            x[i, 0, row : row + SIDE, column : column + SIDE] = pixels[k]
        cls.append([int(labels[first]), int(labels[second])])
    return Scenes(x, cells, torch.tensor(cls))


class Garments(nn.Module):
    """Four convolutions, an average, a hidden layer: ten logits."""

    def __init__(self) -> None:
        super().__init__()
        widths, steps = (1, 16, 32, 48, 64), (2, 1, 2, 1)
        parts: list[nn.Module] = []
        for a, b, s in zip(widths, widths[1:], steps):
            parts += [nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.maps, self.head = nn.Sequential(*parts), nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.maps(x).mean((2, 3)))


@pytest.fixture(scope="module")
def trained(shared_data: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """The network, and the garments that it has not seen."""
    raw = shared_data / "fashion-mnist" / "FashionMNIST" / "raw"
    with gzip.open(raw / "t10k-images-idx3-ubyte.gz") as file:
        pixels = torch.from_numpy(
            np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, SIDE, SIDE) / 255.0
        ).float()
    with gzip.open(raw / "t10k-labels-idx1-ubyte.gz") as file:
        labels = torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64))
    torch.manual_seed(0)
    net, seen = Garments(), scenes(pixels[:8000], labels[:8000], 4000, 1)
    rule = torch.optim.AdamW(net.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(rule, 4e-3, STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(seen.x), (BATCH,))
        wanted = torch.zeros(BATCH, 10).scatter(1, seen.cls[rows], 1)
        loss = nn.functional.binary_cross_entropy_with_logits(net(seen.x[rows]), wanted)
        rule.zero_grad()
        loss.backward()
        rule.step()
        schedule.step()
    return net.eval(), pixels[8000:], labels[8000:]


def quarters(maps: Tensor) -> Tensor:
    """Positive evidence in each quarter (N,T,4), as shares."""
    found = nn.functional.adaptive_avg_pool2d(maps.relu(), 2).flatten(2)
    return found / found.sum(2, keepdim=True).clamp_min(1e-12)


def test_class_maps_lie_on_their_garment_and_not_on_the_other(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    net, pixels, labels = trained
    some = scenes(pixels, labels, TESTS, 2)
    with torch.no_grad():
        sure = net(some.x).sigmoid().gather(1, some.cls) > 0.5
    assert sure.float().mean() > 0.4
    methods = ("grad-cam", "layer-cam", "ablation-cam", "hires-cam", "guided-grad-cam", "eigen-cam")
    found = {k[0]: v for k, v in explain(net, some.x, some.cls, methods, "maps").maps.items()}
    own = {m: quarters(v).gather(2, some.cells[..., None])[..., 0][sure].mean() for m, v in found.items()}
    print({m: round(float(v), 3) for m, v in own.items()})
    for method in methods[:4]:
        assert own[method] > 0.5, method  # a uniform map has a quarter there, one that knows no class a half
        assert own[method] > own["eigen-cam"]
    assert own["guided-grad-cam"] > 0.5


def test_eigen_cam_points_at_a_garment_more_often_than_the_centre_does(
    trained: tuple[nn.Module, Tensor, Tensor],
) -> None:
    net, pixels, labels = trained
    some = scenes(pixels, labels, TESTS, 3)
    maps = resized(explain(net, some.x, 0, "eigen-cam", "maps").maps["eigen-cam", "maps"], (56, 56))[:, 0]
    peaks = maps.flatten(1).argmax(1)
    quarter = 2 * (peaks // 56 // SIDE) + peaks % 56 // SIDE
    hits = (quarter[:, None] == some.cells).any(1).float().mean()
    centre = (some.cells == 3).any(1).float().mean()
    print(float(hits), float(centre))
    assert hits > centre + 0.2


def test_smooth_grad_cam_pp_covers_two_garments_of_a_class_more_often_than_grad_cam(
    trained: tuple[nn.Module, Tensor, Tensor],
) -> None:
    net, pixels, labels = trained
    some = scenes(pixels, labels, TESTS, 4, alike=True)
    found = explain(net, some.x, some.cls[:, :1], ("smooth-grad-cam-pp", "grad-cam-pp", "grad-cam"), "maps").maps
    covered = {}
    for (method, _), maps in found.items():
        peaks = nn.functional.adaptive_max_pool2d(maps.relu(), 2).flatten(2)[:, 0].gather(1, some.cells)
        top = maps.relu().amax((2, 3))
        covered[method] = ((peaks > 0.5 * top).all(1) & (top[:, 0] > 0)).float().mean()
    print({m: round(float(v), 3) for m, v in covered.items()})
    assert covered["smooth-grad-cam-pp"] > covered["grad-cam"]
