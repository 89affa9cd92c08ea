"""What cannot be explained is refused with what to do; what should not be trusted comes with a warning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modicum.core.errors import DataError, ModelError, ModicumError, SettingsError
from modicum.core.net import Net
from modicum.nn.capture import Finer, Layout, explain

B, C, K = 3, 4, 6


class Small(nn.Module):
    """Two convolutions, a branch that nobody reads, one that does not run, an average, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, K, 3), nn.ReLU(inplace=True))
        self.second = nn.Conv2d(K, K, 3)
        self.spare, self.idle = nn.Conv2d(K, 2, 1), nn.Conv2d(K, 2, 1)
        self.hidden, self.head = nn.Linear(K, 8), nn.Linear(8, C)
        self.split = Pair()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.first(x)
        self.spare(maps)
        maps = self.second(self.split(maps)["a"])
        return self.head(self.hidden(maps.relu().mean((2, 3))).tanh())


class Pair(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"a": x}


class Flat(nn.Module):
    """No maps anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 12 * 10, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


class Three(Small):
    """An output that is no logits."""

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x).flatten(2)


class Point(Net):
    """A Net whose maps have one position."""

    def __init__(self) -> None:
        super().__init__(3)
        self.head = nn.Linear(3, C)

    def spatial(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)

    def pool(self, maps: Tensor) -> Tensor:
        return maps.flatten(1)


class Reader(nn.Module):
    """Tokens after a class token, which alone the head reads."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm, self.head = nn.Conv2d(3, 8, 2, 2), nn.LayerNorm(8), nn.Linear(8, C)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).mT
        return self.head(self.norm(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))[:, 0])


X = torch.rand(B, 3, 12, 10, generator=torch.Generator().manual_seed(0))
GRAD = {"methods": "grad-cam", "layers": "second"}
WRONG: dict[str, tuple[type[ModicumError], str, Callable[[], Any]]] = {
    "a list of targets that is too short": (DataError, "for 3 images", lambda: explain(Small(), X, [0, 1], **GRAD)),
    "a list of targets that is too long": (DataError, "for 3 images", lambda: explain(Small(), X, [0] * 4, **GRAD)),
    "one row of targets for all": (DataError, r"\(1, 3\)", lambda: explain(Small(), X, [[0, 1, 2]], **GRAD)),
    "no targets": (DataError, r"\(3, 0\)", lambda: explain(Small(), X, torch.zeros(B, 0, dtype=torch.int64), **GRAD)),
    "rows of other lengths": (DataError, "no class numbers", lambda: explain(Small(), X, [[0], [1, 2], [3]], **GRAD)),
    "targets that are names": (DataError, "no class numbers", lambda: explain(Small(), X, ["a", "b", "c"], **GRAD)),
    "targets that are probabilities": (
        DataError, "no class numbers", lambda: explain(Small(), X, torch.rand(B), **GRAD)),
    "targets that are a mask": (DataError, "no class", lambda: explain(Small(), X, torch.ones(B) > 0, **GRAD)),
    "a class too many": (DataError, "Classes are 0 to 3", lambda: explain(Small(), X, C, **GRAD)),
    "a class below 0": (DataError, "Classes are 0 to 3", lambda: explain(Small(), X, -1, **GRAD)),
    "one image's class": (DataError, "image 1 of the batch", lambda: explain(Small(), X, [0, 9, 0], **GRAD)),
    "functions and classes": (DataError, "mixed", lambda: explain(Small(), X, [0, lambda y: y[:, 0], 1], **GRAD)),
    "a function that adds up the batch": (
        DataError, "target function", lambda: explain(Small(), X, lambda y: y.sum(), **GRAD)),
    "a function of one image": (ModelError, "1 scores for 3", lambda: explain(Small(), X, lambda y: y[:1, 0], **GRAD)),
    "a function that gives a number": (DataError, "float", lambda: explain(Small(), X, lambda y: 1.0, **GRAD)),
    "nothing to tell apart": (DataError, "no other class", lambda: explain(Small(), X, Finer(0, nearest=0), **GRAD)),
    "no images": (DataError, "no images", lambda: explain(Small(), X[:0])),
    "one image without a batch": (DataError, r"\(3, 12, 10\)", lambda: explain(Small(), X[0])),
    "bytes": (DataError, "uint8", lambda: explain(Small(), (255 * X).to(torch.uint8))),
    "an array": (DataError, "ndarray", lambda: explain(Small(), X.numpy())),
    "no network": (ModelError, "str is no network", lambda: explain("resnet18", X)),  # type: ignore[arg-type]
    "no maps": (ModelError, "no layer gives maps", lambda: explain(Flat(), X)),
    "a layer after pooling": (ModelError, "'hidden' has no maps", lambda: explain(Small(), X, 0, None, "hidden")),
    "a Net whose maps are a point": (ModelError, "no layer gives maps", lambda: explain(Point(), X)),
    "the point by name": (ModelError, "'spatial' has no maps", lambda: explain(Point(), X, layers="spatial")),
    "a layer mistyped": (ModelError, "'second'", lambda: explain(Small(), X, layers="secnd")),
    "a layer that is no name": (ModelError, "no layer 3", lambda: explain(Small(), X, layers=[3])),  # type: ignore[list-item]
    "another network's layer": (ModelError, "no part", lambda: explain(Small(), X, layers=Small().second)),
    "no layers": (ModelError, "no layers", lambda: explain(Small(), X, layers=[])),
    "a layer that does not run": (ModelError, "did not run", lambda: explain(Small(), X, layers="idle")),
    "a layer that gives a dict": (ModelError, "gives no tensor", lambda: explain(Small(), X, layers="split")),
    "a layer that nobody reads": (
        ModelError, "do not depend on layer 'spare'", lambda: explain(Small(), X, 0, "grad-cam", "spare")),
    "a layer that nobody reads, replaced": (
        ModelError, "do not reach the output", lambda: explain(Small(), X, 0, "ablation-cam", "spare")),
    "patches that the head does not read": (
        ModelError, "patches of layer 'norm' have no gradient", lambda: explain(Reader(), X, 0, "grad-cam", "norm")),
    "a reading without a way back": (
        ModelError, "nobody said how", lambda: explain(
            Small(), X, 0, "ablation-cam", "second", transforms={"second": lambda out: out[:, :2]})),
    "cam of a layer too early": (ModelError, "not linear on", lambda: explain(Small(), X, 0, "cam", "second")),
    "no attention": (ModelError, "no attention over the patches", lambda: explain(Small(), X, 0, "gradient-rollout")),
    "an output that is no logits": (ModelError, r"is not \(B,C\)", lambda: explain(Three(), X, 0, "grad-cam", "first")),
    "another role's method": (SettingsError, "not an explain", lambda: explain(Small(), X, 0, "entropy")),
    "a method mistyped": (SettingsError, "grad-cam", lambda: explain(Small(), X, 0, "gradcam")),
    "a method twice": (SettingsError, "given twice", lambda: explain(Small(), X, 0, ["cam", "cam"])),
    "no methods": (SettingsError, "no methods", lambda: explain(Small(), X, 0, [])),
    "an unknown setting": (SettingsError, "unknown setting", lambda: explain(Small(), X, 0, "score-cam:tops=3")),
    "an unknown output": (SettingsError, "no output", lambda: explain(Small(), X, 0, output="relu")),
    "an unknown fusion": (SettingsError, "no fusion", lambda: explain(Small(), X, 0, fuse="sum")),
    "an unknown view": (SettingsError, "no view", lambda: explain(Small(), X, 0, tta=["mirror"])),
    "a scale of nothing": (SettingsError, "no view", lambda: explain(Small(), X, 0, tta=[0])),
    "a scale that the network refuses": (ModelError, "refuses images of 6 x 5", lambda: explain(
        Deep(), X, 0, "grad-cam", "second", tta=[0.5])),
}  # fmt: skip


class Deep(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.conv2d(x, torch.ones(3, 1, 5, 5), groups=3))


@pytest.mark.parametrize("what", WRONG)
def test_wrong_use_is_refused_in_words(what: str) -> None:
    kind, said, call = WRONG[what]
    with pytest.raises(kind, match=said) as caught:
        call()
    assert caught.value.fix and caught.value.found


def test_a_refusal_leaves_no_hook() -> None:
    net = Small().train()
    for targets, layer in (([0, 1], "second"), (0, "split"), (0, "spare"), (9, "first")):
        with pytest.raises(ModicumError):
            explain(net, X, targets, "grad-cam", layer)
    assert net.training and not any(m._forward_hooks for m in net.modules()) and torch.is_grad_enabled()


def zero(net: Small) -> None:
    net.head.weight.data.zero_()


def blind(net: Small) -> None:
    net.second.weight.data.zero_()
    net.second.bias.data.fill_(-1)  # type: ignore[union-attr]


def broken(net: Small) -> None:
    net.hidden.weight.data.fill_(torch.nan)


def negative(net: Small) -> None:
    net.second.bias.data.fill_(-9)  # type: ignore[union-attr]


DOUBTS: dict[str, tuple[Callable[[Small], None], str, str]] = {
    "a gradient of zero": (zero, "grad-cam", "gradient at second is zero everywhere"),
    "a map of zeros": (zero, "grad-cam", "3 of 3 maps are zero everywhere"),
    "a map that is the same everywhere": (blind, "eigen-cam", "3 of 3 maps are the same everywhere"),
    "numbers that are none": (broken, "grad-cam", "3 of 3 maps are not finite"),
    "maps below zero under XGrad-CAM": (negative, "xgrad-cam", "negative in places"),
}


@pytest.mark.parametrize("what", DOUBTS)
def test_maps_that_should_not_be_trusted_come_with_a_warning(what: str) -> None:
    change, method, said = DOUBTS[what]
    net = Small()
    change(net)
    assert any(said in w for w in explain(net, X, 0, method, "second").warnings)
    assert not explain(Small(), X, 0, "hires-cam", "second").warnings


def test_a_reading_of_ones_own_goes_both_ways() -> None:
    """The first two channels of the layer as the maps."""
    net = Small().eval()

    def back(maps: Tensor, own: Tensor) -> Tensor:
        return torch.cat([maps, own[:, 2:].expand(len(maps), -1, -1, -1)], 1)

    how = {"second": Layout(lambda out: out[:, :2], back)}
    found = explain(net, X, 1, ["ablation-cam", "grad-cam"], "second", transforms=how).maps
    maps = net.second(net.first(X)).detach()
    for i in range(B):
        fall = []
        for k in range(2):
            without = maps[i : i + 1].clone()
            without[:, k] = 0
            after = [net.head(net.hidden(m.relu().mean((2, 3))).tanh())[0, 1] for m in (maps[i : i + 1], without)]
            fall.append((after[0] - after[1]).item())
        wanted = fall[0] * maps[i, 0] + fall[1] * maps[i, 1]
        assert torch.allclose(found["ablation-cam", "second"][i, 0], wanted, atol=1e-6)
    assert found["grad-cam", "second"].shape == (B, 1, 8, 6)
