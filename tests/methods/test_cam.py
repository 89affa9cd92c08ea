"""Explain methods as weighings, against loops over maps and positions; the pass is tested in tests/nn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modicum.core import registry
from modicum.core.errors import ModelError
from modicum.core.method import Attention, Seen
from modicum.nn.capture import explain
from modicum.testing.stand_ins import captured

B, T, K, H, W = 4, 2, 6, 5, 5
Z = H * W


@pytest.fixture
def seen() -> Seen:
    return captured()


def weighed(seen: Seen, name: str, **settings: object) -> np.ndarray:
    return registry.make(name, settings).weigh(seen).numpy()


def loop(seen: Seen, name: str) -> np.ndarray:
    """The papers' formulas, one position at a time."""
    assert seen.grads is not None and seen.rows is not None
    acts, grads, rows = seen.acts.double().numpy(), seen.grads.double().numpy(), seen.rows.double().numpy()
    out = np.zeros((B, T, H, W))
    for b in range(B):
        for t in range(T):
            for k in range(K):
                a, g = acts[b, k], grads[b, t, k]
                weight = 0.0
                for i in range(H):
                    for j in range(W):
                        if name == "grad-cam":
                            weight += g[i, j] / Z
                        elif name == "xgrad-cam":
                            weight += a[i, j] * g[i, j] / (a.sum() + 1e-7)
                        elif name == "grad-cam-pp" and g[i, j] > 0:
                            alpha = g[i, j] ** 2 / (2 * g[i, j] ** 2 + a.sum() * g[i, j] ** 3)
                            weight += alpha * g[i, j]
                        elif name == "hires-cam":
                            out[b, t, i, j] += a[i, j] * g[i, j]
                        elif name == "layer-cam":
                            out[b, t, i, j] += a[i, j] * max(g[i, j], 0)
                out[b, t] += (rows[b, t, k] if name == "cam" else weight) * a
    return out


@pytest.mark.parametrize("name", ["cam", "grad-cam", "grad-cam-pp", "xgrad-cam", "hires-cam", "layer-cam"])
def test_the_formula_of_the_paper(seen: Seen, name: str) -> None:
    wanted = loop(seen, name)
    assert np.allclose(weighed(seen, name), wanted, atol=1e-5) and np.abs(wanted).max() > 0.01


def principal(f: np.ndarray) -> np.ndarray:
    """F v_1 by numpy's SVD of F (Z,K)."""
    return f @ np.linalg.svd(f, full_matrices=False)[2][0]


@pytest.mark.parametrize("channels", [6, 40])
@pytest.mark.parametrize("center", [False, True])
def test_eigen_cam_is_an_svd_up_to_sign(seen: Seen, center: bool, channels: int) -> None:
    acts = torch.rand(B, channels, H, W, generator=torch.Generator().manual_seed(1))
    maps = weighed(replace(seen, acts=acts), "eigen-cam", center=center)
    for b in range(B):
        f = acts[b].reshape(channels, Z).T.double().numpy()
        wanted = principal(f - f.mean(0) if center else f).reshape(H, W)
        assert np.allclose(maps[b, 0] * np.sign((maps[b, 0] * wanted).sum()), wanted, atol=1e-4)
        assert np.array_equal(maps[b, 0], maps[b, 1]) and maps[b, 0].sum() > -1e-4


def test_eigen_cam_does_not_read_the_head(seen: Seen) -> None:
    assert seen.rows is not None
    shuffled = replace(seen, rows=seen.rows.flip(2), grads=None)
    assert np.array_equal(weighed(seen, "eigen-cam"), weighed(shuffled, "eigen-cam"))


def test_eigen_grad_cam_is_an_svd_with_the_sign_of_hires_cam(seen: Seen) -> None:
    assert seen.grads is not None
    maps = weighed(seen, "eigen-grad-cam")
    for b in range(B):
        for t in range(T):
            parts = (seen.grads[b, t] * seen.acts[b]).double()
            wanted, plain = principal(parts.reshape(K, Z).T.numpy()).reshape(H, W), parts.sum(0).numpy()
            wanted *= np.sign(np.corrcoef(wanted.ravel(), plain.ravel())[0, 1])
            assert np.allclose(maps[b, t], wanted, atol=1e-4)


def test_eigen_cam_of_maps_that_are_not_finite_is_said_to_be_so(seen: Seen) -> None:
    acts = seen.acts.clone()
    acts[1, 2, 0, 0] = torch.nan
    maps = weighed(replace(seen, acts=acts), "eigen-cam")
    assert np.isnan(maps[1]).all() and np.isfinite(maps[[0, 2, 3]]).all()


def test_smooth_grad_cam_pp_without_noise_is_grad_cam_pp_exactly(seen: Seen) -> None:
    plain, smooth = weighed(seen, "grad-cam-pp"), weighed(seen, "smooth-grad-cam-pp", copies=1, noise=0)
    assert np.allclose(plain, smooth, rtol=1e-5, atol=1e-7)


def test_smooth_grad_cam_pp_averages_powers_of_the_gradients(seen: Seen) -> None:
    luck = torch.Generator().manual_seed(3)
    copies, looked = [torch.randn(B, T, K, H, W, generator=luck) for _ in range(3)], list[Tensor]()

    def again(images: Tensor) -> Seen:
        looked.append(images)
        return replace(seen, grads=copies[len(looked) - 1])

    maps = weighed(replace(seen, again=again), "smooth-grad-cam-pp", copies=3, noise=0.2)
    one, two, three = (sum(g.double() ** p for g in copies) / 3 for p in (1, 2, 3))
    alpha = two / torch.maximum(2 * two + seen.acts.double().sum((2, 3))[:, None, :, None, None] * three, two)
    wanted = torch.einsum("btk,bkhw->bthw", (alpha * one.clamp_min(0)).sum((3, 4)), seen.acts.double())
    assert torch.allclose(torch.tensor(maps).double(), wanted, atol=1e-4)
    noise = torch.stack(looked) - seen.images
    span = (seen.images.amax((1, 2, 3)) - seen.images.amin((1, 2, 3)))[None, :, None, None, None]
    assert 0.15 < float((noise / span).std()) < 0.25 and not torch.equal(noise[0], noise[1])


@pytest.mark.parametrize("weights", ["raw", "softmax"])
@pytest.mark.parametrize("score", ["prob", "logit"])
def test_score_cam_looks_through_each_map(seen: Seen, score: str, weights: str) -> None:
    maps = weighed(seen, "score-cam", score=score, weights=weights)
    for b in range(B):
        said = np.zeros((K, T))
        for k in range(K):
            mask = nn.functional.interpolate(seen.acts[b, k][None, None], (10, 10), mode="bilinear")[0, 0]
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            answer = seen.look(b, (seen.images[b] * mask)[None])
            said[k] = (answer.probs if score == "prob" else answer.scores)[0]
        said = np.exp(said) / np.exp(said).sum(0) if weights == "softmax" else said
        assert np.allclose(maps[b], np.einsum("kt,khw->thw", said, seen.acts[b].numpy()), atol=1e-5)


def test_score_cam_looks_at_the_maps_that_vary_most_and_at_no_constant_one(seen: Seen) -> None:
    looked = list[Tensor]()

    def look(i: int, images: Tensor) -> object:
        looked.append(images)
        return seen.look(i, images)

    acts = seen.acts.clone()
    acts[:, 2] = 0.7
    acts[:, 4] *= 10
    watched = replace(seen, acts=acts, look=look)  # type: ignore[arg-type]
    weighed(watched, "score-cam")
    assert sum(map(len, looked)) == B * (K - 1)
    looked.clear()
    whole, top = weighed(watched, "score-cam"), weighed(watched, "score-cam", top=1)
    assert sum(map(len, looked)) == B * K
    for b in range(B):  # the others weigh what the one weighs; the constant one nothing
        wanted = acts[b, [0, 1, 3, 4, 5]].sum(0).numpy()
        assert np.corrcoef(top[b, 0].ravel(), wanted.ravel())[0, 1] > 0.9999 and not np.allclose(top[b], whole[b])


def test_ablation_cam_is_the_fall_of_the_score_map_by_map(seen: Seen) -> None:
    open_ = weighed(replace(seen, rows=None), "ablation-cam")
    for b in range(B):
        for t in range(T):
            wanted = np.zeros((H, W))
            for k in range(K):
                without = seen.acts[b].clone()
                without[k] = 0
                fall = seen.rest(b, seen.acts[b][None]).scores[0, t] - seen.rest(b, without[None]).scores[0, t]
                wanted += float(fall) * seen.acts[b, k].numpy()
            assert np.allclose(open_[b, t], wanted, atol=1e-5)
    assert np.allclose(weighed(seen, "ablation-cam"), open_, atol=1e-5)  # in closed form


def told(seen: Seen) -> Attention:
    assert seen.attention is not None
    return seen.attention


@pytest.mark.parametrize("heads", ["mean", "max", "min"])
def test_attention_rollout_multiplies_rows_that_sum_to_one(seen: Seen, heads: str) -> None:
    maps = weighed(seen, "attention-rollout", heads=heads)
    for b in range(B):
        reach = np.eye(1 + Z)
        for block in told(seen).weights:
            step = getattr(block[b].double().numpy(), heads)(0) + np.eye(1 + Z)
            reach = (step / step.sum(1, keepdims=True)) @ reach
        assert np.allclose(reach.sum(1), 1)
        assert np.allclose(maps[b, 0], reach[0, 1:].reshape(H, W), atol=1e-6)


def test_attention_rollout_leaves_out_the_least_of_each_image_alone(seen: Seen) -> None:
    maps = weighed(seen, "attention-rollout", discard=0.5)
    for b in range(B):
        reach = np.eye(1 + Z)
        for block in told(seen).weights:
            joined = block[b].double().numpy().mean(0)
            least = np.argsort(joined.ravel())[: joined.size // 2]
            kept = joined.copy().ravel()
            kept[[i for i in least if i % (1 + Z)]] = 0
            step = kept.reshape(1 + Z, 1 + Z) + np.eye(1 + Z)
            reach = (step / step.sum(1, keepdims=True)) @ reach
        assert np.allclose(maps[b, 0], reach[0, 1:].reshape(H, W), atol=1e-6)


def test_gradient_rollout_adds_what_each_block_passes_on(seen: Seen) -> None:
    maps = weighed(seen, "gradient-rollout")
    for b in range(B):
        for t in range(T):
            reach = np.eye(1 + Z)
            for block, slope in zip(told(seen).weights, told(seen).slopes, strict=True):
                passed = np.maximum(block[b].double().numpy() * slope[b, t].double().numpy(), 0).mean(0)
                reach = reach + passed @ reach
            assert np.allclose(maps[b, t], reach[0, 1:].reshape(H, W), rtol=1e-4, atol=1e-5)


def test_small_gradients_are_not_lost_beside_the_identity(seen: Seen) -> None:
    """Where the head averages patches, each reaches the score by 1 / Z without any attention."""
    query, slopes = torch.cat([torch.zeros(1), torch.full((Z,), 1 / Z)]), tuple(1e-9 * s for s in told(seen).slopes)
    maps = weighed(replace(seen, attention=replace(told(seen), query=query, slopes=slopes)), "gradient-rollout")
    parts = zip(told(seen).weights, slopes, strict=True)
    first = sum((block[:, None].double() * slope).relu().mean(2) for block, slope in parts)
    wanted = (query.double() @ first)[..., 1:].reshape(B, T, H, W)  # the first order, which is all there is
    assert np.allclose(maps, wanted, rtol=1e-4, atol=0) and wanted.std() > 0.01 * wanted.mean()


def test_where_the_head_averages_patches_rollout_does_too(seen: Seen) -> None:
    query = torch.cat([torch.zeros(1), torch.full((Z,), 1 / Z)])
    each = [replace(seen, attention=replace(told(seen), query=q)) for q in torch.eye(1 + Z)[1:]]
    mean = weighed(replace(seen, attention=replace(told(seen), query=query)), "gradient-rollout")
    assert np.allclose(mean, np.mean([weighed(s, "gradient-rollout") for s in each], 0), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cam", "not linear"), ("grad-cam", "gradient"), ("grad-cam-pp", "gradient"), ("xgrad-cam", "gradient"),
        ("hires-cam", "gradient"), ("layer-cam", "gradient"), ("eigen-grad-cam", "gradient"),
        ("smooth-grad-cam-pp", "gradient"), ("guided-grad-cam", "gradient"), ("attention-rollout", "attention"),
        ("gradient-rollout", "attention"),
    ],
)  # fmt: skip
def test_what_was_not_captured_is_refused(name: str, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        registry.make(name).weigh(captured(evidence=False))


class Pooled(nn.Module):
    """Convolution, ReLU, average, linear, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.maps = nn.Sequential(nn.Conv2d(3, K, 3, padding=1), nn.ReLU()).double()
        self.head = nn.Linear(K, 4).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.maps(x).mean((2, 3)))


def test_on_a_pooled_network_the_methods_are_one_another() -> None:
    """Grad-CAM times the positions is CAM; HiRes-CAM, XGrad-CAM and Grad-CAM are the same; ablation is closed form."""
    torch.manual_seed(1)
    net, x = Pooled(), torch.rand(2, 3, 7, 6, dtype=torch.float64)
    targets = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    names = ("cam", "grad-cam", "hires-cam", "xgrad-cam", "ablation-cam", "layer-cam")
    found = {k[0]: v for k, v in explain(net, x, targets, names, "maps").maps.items()}
    acts, weight = net.maps(x).float(), net.head.weight[targets].float()
    assert torch.allclose(found["grad-cam"] * 42, found["cam"], atol=1e-5)
    assert torch.allclose(found["hires-cam"], found["grad-cam"], atol=1e-6)
    assert torch.allclose(found["xgrad-cam"], found["grad-cam"], atol=1e-6)
    fall = weight * acts.mean((2, 3))[:, None]
    assert torch.allclose(found["ablation-cam"], torch.einsum("btk,bkhw->bthw", fall, acts), atol=1e-5)
    positive = torch.einsum("btk,bkhw->bthw", weight.clamp_min(0), acts) / 42
    assert torch.allclose(found["layer-cam"], positive, atol=1e-6)


class Rectified(nn.Module):
    """ReLUs as a module, in place and as functions, over two layers that are one matrix each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.act = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 6, 1), nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.act(self.second(nn.functional.relu(self.first(x))))
        pooled = maps.mean((2, 3))
        pooled.relu_()
        return self.head(pooled)


def test_guided_grad_cam_is_the_product_with_guided_backpropagation() -> None:
    torch.manual_seed(1)
    net, x = Rectified(), torch.randn(2, 3, 4, 5)
    targets = torch.tensor([[0, 1], [2, 3]])
    found = explain(net, x, targets, ("guided-grad-cam", "grad-cam"), "act").maps
    one, two = net.first.weight.detach()[:, :, 0, 0], net.second.weight.detach()[:, :, 0, 0]
    one_bias, two_bias = (layer.bias.detach() for layer in (net.first, net.second))  # type: ignore[union-attr]
    for b in range(2):
        for t in range(2):
            wanted = torch.zeros(4, 5)
            for i in range(4):
                for j in range(5):
                    low = one @ x[b, :, i, j] + one_bias
                    high = two @ low.relu() + two_bias
                    g = net.head.weight.detach()[targets[b, t]].clamp_min(0) / 20  # through the pooled ReLU
                    g = (g * (high > 0)) @ two
                    wanted[i, j] = ((g.clamp_min(0) * (low > 0)) @ one).sum()
            place = found["grad-cam", "act"][b, t].relu()
            assert torch.allclose(found["guided-grad-cam", "act"][b, t], place * wanted, atol=1e-6)
    assert found["guided-grad-cam", "act"].abs().max() > 1e-4
