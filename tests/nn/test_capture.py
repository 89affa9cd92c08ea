"""Maps from one captured pass: exact sums, one image at a time, and a net that is left as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modicum.core.errors import DataError, ModelError, SettingsError
from modicum.core.method import Explain
from modicum.core.net import Net
from modicum.nn.capture import explain, linear_head

B, C, K = 5, 4, 6


class Toy(Net):
    """Convolutions with batch norm and dropout, averaged, and a linear head."""

    def __init__(self, head: nn.Module | None = None) -> None:
        super().__init__(3)
        self.first = nn.Sequential(nn.Conv2d(3, K, 3, 2), nn.BatchNorm2d(K), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.second = nn.Conv2d(K, K, 3)
        self.head = head or nn.Linear(K, C)

    def spatial(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class Greatest(Toy):
    """Pools by the maximum after an in-place ReLU: no closed form."""

    def pool(self, maps: Tensor) -> Tensor:
        return maps.relu_().amax((2, 3))


class Tokens(Toy):
    def spatial(self, x: Tensor) -> Tensor:
        return super().spatial(x).flatten(2).transpose(1, 2)

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean(1)


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(B, 3, 16, 12)


def test_the_mean_of_cam_plus_the_bias_is_the_logit(x: Tensor) -> None:
    net = Toy().eval()
    logits = net(x).logits
    found = explain(net, x, torch.arange(C).expand(B, C))
    assert found.maps["cam"].shape == (B, C, 5, 3) and found.maps["cam"].dtype == torch.float32 and not found.warnings
    assert torch.allclose(found.maps["cam"].mean((2, 3)) + net.head.bias, logits, atol=1e-5)
    assert torch.allclose(found.scores, logits, atol=1e-6)


def test_grad_cam_by_a_backward_pass_is_cam_over_the_positions(x: Tensor) -> None:
    net = Toy()
    targets = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 2], [0, 1]])
    exact = explain(net, x, targets, ("cam", "grad-cam"))
    through = explain(net, x, targets, ("cam", "grad-cam"), closed=False)
    for found in (exact, through):
        assert torch.allclose(found.maps["grad-cam"], exact.maps["cam"] / 15, atol=1e-6)
        assert torch.allclose(found.maps["cam"], exact.maps["cam"], atol=1e-5)
    assert exact.maps["cam"].abs().max() > 0.01


def test_gradients_are_those_of_one_target_of_one_image_at_a_time(x: Tensor) -> None:
    net = Greatest(nn.Sequential(nn.Linear(K, 8), nn.Tanh(), nn.Linear(8, C))).eval()
    targets = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 2], [0, 1]])
    found = explain(net, x, targets, ("grad-cam",)).maps["grad-cam"]
    for i in range(B):
        for j in range(2):
            acts = net.spatial(net.normalise(x[i : i + 1])).detach().requires_grad_()
            net.head(net.pool(acts.clone()))[0, targets[i, j]].backward()
            assert acts.grad is not None
            wanted = (acts.grad.mean((2, 3), keepdim=True) * acts).sum(1)[0].detach()
            assert torch.allclose(found[i, j], wanted, atol=1e-6)


@pytest.mark.parametrize("kind", [Toy, Greatest])
def test_a_batch_equals_its_images_and_several_targets_their_singles(x: Tensor, kind: type[Toy]) -> None:
    net, names = kind(), ("cam", "grad-cam")
    targets = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 2], [0, 1]])
    whole = explain(net, x, targets, names)
    for name in names:
        for i in range(B):
            for j in range(2):
                one = explain(net, x[i : i + 1], int(targets[i, j]), names)
                assert torch.allclose(one.maps[name][0, 0], whole.maps[name][i, j], atol=1e-5)
                assert one.targets.tolist() == [[int(targets[i, j])]]


def test_without_targets_the_most_probable_class_is_explained(x: Tensor) -> None:
    net = Toy().eval()
    best = net(x).logits.argmax(1)
    found = explain(net, x)
    assert found.targets.tolist() == best[:, None].tolist()
    assert torch.equal(found.maps["cam"], explain(net, x, best).maps["cam"])


def state(net: nn.Module) -> dict[str, Any]:
    return {
        "modes": [m.training for m in net.modules()], "needs": [p.requires_grad for p in net.parameters()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in net.parameters()],
        "state": {k: v.tolist() for k, v in net.state_dict().items()}, "rng": torch.get_rng_state().tolist(),
        "hooks": [len(m._forward_hooks) for m in net.modules()], "grad": torch.is_grad_enabled(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", [Toy, Greatest])
@pytest.mark.parametrize("broken", [False, True])
def test_the_net_is_left_as_it_was(x: Tensor, kind: type[Toy], broken: bool) -> None:
    class Drawing(kind):  # type: ignore[valid-type, misc]
        broken = False

        def pool(self, maps: Tensor) -> Tensor:
            if self.broken:
                torch.rand(1)
                raise RuntimeError("broken")
            return super().pool(maps + 0 * torch.rand(1))

    net = Drawing().train()
    net.first[1].eval()
    net.second.weight.requires_grad_(False)
    nn.functional.cross_entropy(net(x).logits, torch.zeros(B, dtype=torch.int64)).backward()
    net.broken = broken
    before = copy.deepcopy(state(net))
    if broken:
        with pytest.raises(RuntimeError, match="broken"):
            explain(net, x, methods=("cam", "grad-cam"))
    else:
        explain(net, x, methods=("cam", "grad-cam"))
    assert state(net) == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_frozen_nets_and_any_surrounding_mode(x: Tensor, mode: type[torch.no_grad]) -> None:
    net = Greatest()
    wanted = explain(net, x, 1, ("grad-cam",)).maps["grad-cam"]
    net.requires_grad_(False)
    with mode():
        found = explain(net, x.clone(), 1, ("grad-cam",)).maps["grad-cam"]
    assert torch.equal(found, wanted) and not found.requires_grad and wanted.abs().max() > 0


def test_a_head_that_is_not_linear_on_averages_is_found_out(x: Tensor) -> None:
    net = Greatest()
    found = explain(net, x, 2, ("cam", "grad-cam"))
    assert len(found.warnings) == 1 and "not linear" in found.warnings[0]
    assert torch.allclose(found.maps["cam"], 15 * found.maps["grad-cam"], atol=1e-5)
    assert not explain(net, x, 2, ("grad-cam",)).warnings
    acts = net.spatial(net.normalise(x))
    assert linear_head(net, acts, net.head(net.pool(acts.clone()))) is None
    dropout = Toy(nn.Sequential(nn.Dropout(0.5), nn.Linear(K, C)))
    assert not explain(dropout, x, 2).warnings and dropout.head.training


def test_maps_that_say_nothing_are_named(x: Tensor) -> None:
    net = Toy(nn.Sequential(nn.Linear(K, 8), nn.ReLU(), nn.Linear(8, C)))
    with torch.no_grad():
        net.head[0].weight.zero_()
    found = explain(net, x, 0, ("grad-cam",))
    assert "gradient is zero everywhere" in found.warnings[0] and "5 of 5 maps are zero" in found.warnings[1]
    with torch.no_grad():
        net.head[0].weight.fill_(torch.nan)
    assert any("not finite" in w for w in explain(net, x, 0, ("grad-cam",)).warnings)


def test_half_precision_nets_keep_the_closed_form(x: Tensor) -> None:
    net = Toy().eval()
    wanted = explain(net, x, 1).maps["cam"]
    found = explain(copy.deepcopy(net).to(torch.bfloat16), x.to(torch.bfloat16), 1)
    assert not found.warnings and found.maps["cam"].dtype == torch.float32
    assert torch.allclose(found.maps["cam"], wanted, atol=0.05 * float(wanted.abs().max()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(explain(net, x, 1).maps["cam"], wanted)


@pytest.mark.parametrize("targets", [C, -1, torch.tensor([0, 1]), torch.tensor([[0, 1, 2, 3, 4]]).T, torch.zeros(B, 0)])
def test_targets_that_are_no_class_are_refused(x: Tensor, targets: Any) -> None:
    with pytest.raises(DataError):
        explain(Toy(), x, targets)


def test_a_method_of_ones_own_without_a_card(x: Tensor) -> None:
    class Plain(Explain):
        def weigh(self, acts: Tensor, grads: Tensor | None, head: Tensor | None, targets: Tensor) -> Tensor:
            assert grads is not None
            return (grads * acts[:, None]).sum(2)

    found = explain(Toy(), x, torch.zeros(B, 2, dtype=torch.int64), (Plain(), "grad-cam"))
    assert list(found.maps) == ["Plain", "grad-cam"]
    assert torch.allclose(found.maps["Plain"], found.maps["grad-cam"], atol=1e-6)


def test_what_cannot_be_explained_is_refused(x: Tensor) -> None:
    with pytest.raises(ModelError, match="tokens"):
        explain(Tokens(), x)
    with pytest.raises(DataError, match="no images"):
        explain(Toy(), x[:0])
    with pytest.raises(SettingsError, match="not an explain method"):
        explain(Toy(), x, methods=("entropy",))
    with pytest.raises(SettingsError, match="grad-cam"):
        explain(Toy(), x, methods=("gradcam",))
