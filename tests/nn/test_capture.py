"""Maps from one captured pass: exact sums, one image at a time, and a net that is left as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError
from modicum.core.method import Explain, Seen
from modicum.core.net import Net
from modicum.nn.capture import explain

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


class Bent(Toy):
    """A head that is not linear: no closed form."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(K, 8), nn.Tanh(), nn.Linear(8, C)))


class Flat(Toy):
    def spatial(self, x: Tensor) -> Tensor:
        return super().spatial(x).mean((2, 3), keepdim=True)


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(B, 3, 16, 12)


def test_the_mean_of_cam_plus_the_bias_is_the_logit(x: Tensor) -> None:
    net = Toy().eval()
    logits = net(x).logits
    found = explain(net, x, torch.arange(C).expand(B, C))
    assert (
        found.maps["cam", "spatial"].shape == (B, C, 5, 3)
        and found.maps["cam", "spatial"].dtype == torch.float32
        and not found.warnings
    )
    assert torch.allclose(found.maps["cam", "spatial"].mean((2, 3)) + net.head.bias, logits, atol=1e-5)
    assert torch.allclose(found.scores, logits, atol=1e-6)


def test_grad_cam_by_a_backward_pass_is_cam_over_the_positions(x: Tensor) -> None:
    net = Toy()
    targets = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 2], [0, 1]])
    exact = explain(net, x, targets, ("cam", "grad-cam")).maps
    through = explain(net, x, lambda out: out.logits.gather(1, targets), ("grad-cam",)).maps
    for maps in (exact, through):
        assert torch.allclose(maps["grad-cam", "spatial"], exact["cam", "spatial"] / 15, atol=1e-6)
    assert exact["cam", "spatial"].abs().max() > 0.01


def test_gradients_are_those_of_one_target_of_one_image_at_a_time(x: Tensor) -> None:
    net = Greatest(nn.Sequential(nn.Linear(K, 8), nn.Tanh(), nn.Linear(8, C))).eval()
    targets = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 2], [0, 1]])
    found = explain(net, x, targets, ("grad-cam",)).maps["grad-cam", "spatial"]
    for i in range(B):
        for j in range(2):
            acts = net.spatial(net.normalise(x[i : i + 1])).detach().requires_grad_()
            net.head(net.pool(acts.clone()))[0, targets[i, j]].backward()
            assert acts.grad is not None
            wanted = (acts.grad.mean((2, 3), keepdim=True) * acts).sum(1)[0].detach()
            assert torch.allclose(found[i, j], wanted, atol=1e-6)


@pytest.mark.parametrize("kind", [Toy, Greatest])
def test_a_batch_equals_its_images_and_several_targets_their_singles(x: Tensor, kind: type[Toy]) -> None:
    net, names = kind(), ("layer-cam", "grad-cam")
    targets = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 2], [0, 1]])
    whole = explain(net, x, targets, names)
    for name in names:
        for i in range(B):
            for j in range(2):
                one = explain(net, x[i : i + 1], int(targets[i, j]), names)
                assert torch.allclose(one.maps[name, "spatial"][0, 0], whole.maps[name, "spatial"][i, j], atol=1e-5)
                assert one.targets.tolist() == [[int(targets[i, j])]]


def test_without_targets_the_most_probable_class_is_explained(x: Tensor) -> None:
    net = Toy().eval()
    best = net(x).logits.argmax(1)
    found = explain(net, x)
    assert found.targets.tolist() == best[:, None].tolist()
    assert torch.equal(found.maps["cam", "spatial"], explain(net, x, best).maps["cam", "spatial"])


def state(net: nn.Module) -> dict[str, Any]:
    return {
        "modes": [m.training for m in net.modules()], "needs": [p.requires_grad for p in net.parameters()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in net.parameters()],
        "state": {k: v.tolist() for k, v in net.state_dict().items()}, "rng": torch.get_rng_state().tolist(),
        "hooks": [len(m._forward_hooks) for m in net.modules()], "grad": torch.is_grad_enabled(),
        "own": [sorted(m.__dict__) for m in net.modules()],
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
            explain(net, x, torch.tensor([[0, 1]] * B), ("eigen-cam", "grad-cam"), ("spatial", "first"))
    else:
        explain(net, x, torch.tensor([[0, 1]] * B), ("eigen-cam", "grad-cam"), ("spatial", "first"))
    assert state(net) == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_frozen_nets_and_any_surrounding_mode(x: Tensor, mode: type[torch.no_grad]) -> None:
    net = Greatest()
    wanted = explain(net, x, 1, ("grad-cam",)).maps["grad-cam", "spatial"]
    net.requires_grad_(False)
    with mode():
        found = explain(net, x.clone(), 1, ("grad-cam",)).maps["grad-cam", "spatial"]
    assert torch.equal(found, wanted) and not found.requires_grad and wanted.abs().max() > 0


def test_a_head_that_is_not_linear_on_averages_is_found_out(x: Tensor) -> None:
    with pytest.raises(ModelError, match="not linear on the averaged maps"):
        explain(Greatest(), x, 2, ("cam",))
    assert list(explain(Greatest(), x, 2).maps) == [("layer-cam", "spatial")]
    dropout = Toy(nn.Sequential(nn.Dropout(0.5), nn.Linear(K, C)))
    assert list(explain(dropout, x, 2).maps) == [("cam", "spatial")] and dropout.head.training


def test_maps_that_say_nothing_are_named(x: Tensor) -> None:
    net = Toy(nn.Sequential(nn.Linear(K, 8), nn.ReLU(), nn.Linear(8, C)))
    with torch.no_grad():
        net.head[0].weight.zero_()
    found = explain(net, x, 0, ("grad-cam",))
    assert "is zero everywhere" in found.warnings[0] and "5 of 5 maps are zero" in found.warnings[1]
    with torch.no_grad():
        net.head[0].weight.fill_(torch.nan)
    assert any("not finite" in w for w in explain(net, x, 0, ("grad-cam",)).warnings)


def test_half_precision_nets_keep_the_closed_form(x: Tensor) -> None:
    net = Toy().eval()
    wanted = explain(net, x, 1).maps["cam", "spatial"]
    found = explain(copy.deepcopy(net).to(torch.bfloat16), x.to(torch.bfloat16), 1)
    assert not found.warnings and found.maps["cam", "spatial"].dtype == torch.float32
    assert torch.allclose(found.maps["cam", "spatial"], wanted, atol=0.05 * float(wanted.abs().max()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(explain(net, x, 1).maps["cam", "spatial"], wanted)


def test_a_method_of_ones_own_without_a_card(x: Tensor) -> None:
    class Plain(Explain):
        def weigh(self, seen: Seen) -> Tensor:
            return (seen.gradient("plain") * seen.acts[:, None]).sum(2)

    found = explain(Toy(), x, torch.zeros(B, 2, dtype=torch.int64), (Plain(), "grad-cam"))
    assert list(found.maps) == [("Plain", "spatial"), ("grad-cam", "spatial")]
    assert torch.allclose(found.maps["Plain", "spatial"], found.maps["grad-cam", "spatial"], atol=1e-6)


def test_scores_probabilities_and_settings_are_told(x: Tensor) -> None:
    net = Toy().eval()
    targets = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 2], [0, 1]])
    found = explain(net, x, targets, "smooth-grad-cam-pp:copies=2")
    logits = net(x).logits
    assert torch.allclose(found.probs, logits.softmax(1).gather(1, targets), atol=1e-6)
    assert found.settings == {"smooth-grad-cam-pp:copies=2": {"copies": 2, "noise": 0.15, "seed": 0}}
    told = explain(net, x, lambda out: out.logits[:, 1] ** 2, "grad-cam")
    assert told.targets.tolist() == [[-1]] * B and told.probs.isnan().all()
    assert torch.allclose(told.scores[:, 0], logits[:, 1] ** 2, atol=1e-5)


def test_a_function_as_target_has_its_own_gradient(x: Tensor) -> None:
    net = Toy().eval()
    two = explain(net, x, [lambda out: out.logits[:, 1] ** 2, lambda out: out.logits[:, :2]], "grad-cam")
    plain = explain(net, x, torch.tensor([[0, 1]] * B), "grad-cam").maps["grad-cam", "spatial"]
    square = 2 * net(x).logits[:, 1].detach()[:, None, None] * plain[:, 1]
    maps = two.maps["grad-cam", "spatial"]
    assert maps.shape[1] == 3 and torch.allclose(maps[:, 1:], plain, atol=1e-6)
    assert torch.allclose(maps[:, 0], square, atol=1e-6)
