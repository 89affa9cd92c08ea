"""Laws of maps: of the right shape, finite, of each image alone, and over the object where there is one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError, ModicumError
from modicum.core.net import Net
from modicum.nn.capture import explain
from modicum.testing import tolerances
from modicum.testing.case import Case
from modicum.testing.compare import near, same
from modicum.testing.results import check, demand
from modicum.testing.stand_ins import captured

EXPLAIN = ("explain",)


class Colours(Net):
    """A net whose maps are known: map k is colour k on a 4 x 4 grid, and class k is as probable as it is common."""

    def __init__(self) -> None:
        super().__init__(3)
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(3) * 2 - 0.5)
            self.head.bias.copy_(torch.tensor([0.1, 0.0, -0.1]))

    def spatial(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 4)

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class Bent(Colours):
    """The same with a head that is not linear, though it grows with what is linear."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(self.head, nn.Softplus())


class Patches(Colours):
    """The same colours as tokens after a class token, which attends to what is bright and hands it to the head."""

    def spatial(self, x: Tensor) -> Tensor:
        cells = super().spatial(x).flatten(2).mT
        tokens = torch.cat([torch.zeros_like(cells[:, :1]), cells], 1)[:, None]
        return nn.functional.scaled_dot_product_attention(torch.ones_like(tokens), tokens, tokens)[:, 0]

    def pool(self, maps: Tensor) -> Tensor:
        return maps[:, 0]


class Sayer(Colours):
    """The same colours from a module of its own: where each class is, as the net itself says."""

    def __init__(self, module: str) -> None:
        super().__init__()
        self.add_module(module, nn.AvgPool2d(4))
        self.module = module

    def spatial(self, x: Tensor) -> Tensor:
        maps: Tensor = self.get_submodule(self.module)(x)
        return maps


def nets(case: Case) -> tuple[Net, ...]:
    """Networks that the method can explain, the plain one first."""
    if case.method().layer:
        return (Sayer(case.method().layer),)
    return (Patches(),) if case.method().attention else (Colours(), Bent())


def squares() -> tuple[Tensor, Tensor]:
    """Images (6,3,16,16), each darker than the last, with a square of each of two colours, and where these are.

    The places are cells (6,2) of the 4 x 4 grid, for the targets (i mod 3, i + 1 mod 3).
    """
    x, cells = torch.full((6, 3, 16, 16), 0.1), torch.zeros(6, 2, dtype=torch.int64)
    for i in range(6):
        for t, cell in enumerate(((5 * i + 1) % 16, (3 * i + 7) % 16)):
            row, column = 4 * (cell // 4), 4 * (cell % 4)
            x[i, (i + t) % 3, row : row + 4, column : column + 4] = 0.9
            cells[i, t] = cell
    return x * torch.linspace(1, 0.5, 6)[:, None, None, None], cells


def targets() -> Tensor:
    """int64 (6,2)."""
    first = torch.arange(6) % 3
    return torch.stack([first, (first + 1) % 3], 1)


@check("map finite", EXPLAIN, "A division by a sum that may be 0, or targets that are taken for another axis.")
def finite(case: Case) -> None:
    """Maps have the shape (B,T,h,w), or the images', and finite values, also of constant activations."""
    acts = captured().acts
    for name, some in (("usual maps", acts), ("maps of zeros", 0 * acts), ("constant maps", 0 * acts + 1)):
        maps = case.method().weigh(captured(some))
        sizes = ((4, 2, 5, 5), (4, 2, 10, 10))  # the maps', the images'
        demand(tuple(maps.shape) in sizes, f"{name}: shape {tuple(maps.shape)}, not (B,T,h,w) or (B,T,H,W)")
        demand(bool(maps.isfinite().all()), f"{name}: a map is not finite")


@check("map of singles", EXPLAIN, "A normalisation over the batch.")
def singles(case: Case) -> None:
    """The map of an image is the same alone as in a batch."""
    x, _ = squares()
    method, net = case.method(), nets(case)[0].eval()
    whole = explain(net, x, targets(), (method,)).maps
    for i in range(len(x)):
        alone = explain(net, x[i : i + 1], targets()[i : i + 1], (method,)).maps
        for a, b in zip(whole.values(), alone.values(), strict=True):
            near(a[i : i + 1], b, tolerances.FP32, f"the map of image {i} in a batch and alone")


@check("map of the object", EXPLAIN, "The wrong target, a lost sign, or rows and columns exchanged.")
def planted(case: Case) -> None:
    """The map of a planted object peaks where the object is; a head that is not linear may be refused."""
    x, cells = squares()
    for net in nets(case):
        try:
            (maps,) = explain(net.eval(), x, targets(), (case.method(),)).maps.values()
        except ModelError:
            demand(isinstance(net, Bent), "it refuses a network whose maps are plain")
            continue
        peaks = nn.functional.adaptive_avg_pool2d(maps, 4).flatten(2).argmax(2)
        wrong = (peaks != cells).nonzero().tolist()
        demand(not wrong, f"{len(wrong)} of {cells.numel()} maps peak elsewhere (image, target: {wrong[:2]})")


@check("net untouched", EXPLAIN, "A hook that stays, a mode that is not put back, a gradient that is left behind.")
def net_untouched(case: Case) -> None:
    """State, mode, gradients and hooks of the network are as they were."""
    x, _ = squares()
    net = nets(case)[0].train()
    before, own = copy.deepcopy(net.state_dict()), set(net.__dict__)
    explain(net, x, targets(), (case.method(),))
    same(dict(before), dict(net.state_dict()), "the network's state")
    demand(net.training, "the network was in train mode, and is not any more")
    demand(all(p.grad is None for p in net.parameters()), "a gradient is left on the network")
    hooks = sum(len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in net.modules())
    demand(not hooks and set(net.__dict__) == own, f"{hooks} hooks are left on the network")


@check("map without evidence", EXPLAIN, "Neither gradient nor weights are given, and the error is no ModicumError.")
def without(case: Case) -> None:
    """Without gradient, head and attention there is a finite map, or a ModicumError."""
    try:
        maps = case.method().weigh(captured(evidence=False))
    except ModicumError:
        return
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    demand(bool(maps.isfinite().all()), "a map is not finite")
