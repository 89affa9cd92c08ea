"""Any network: which layer is looked at, how it is read, and one pass for all against a pass for each."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer as TorchViT

from modicum.core.errors import ModelError
from modicum.nn.capture import Finer, explain
from modicum.nn.capture.layout import grid

TARGETS = torch.tensor([[0, 1, 2], [3, 0, 3]])
SIZE: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 4}


def images(side: int = 64, n: int = 2) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def stirred(net: nn.Module) -> nn.Module:
    """Weights as after training: no class token, layer scale or head that starts at almost nothing."""
    luck = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=luck) / max(1.0, p[0].numel() ** 0.5))
    return net


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    sized, short = ("vit", "swin", "mixer", "coat"), ("deit", "beit", "xcit", "cait", "siglip")
    fixed: dict[str, Any] = {"img_size": 64} if any(w in name for w in (*sized, *short)) else {}
    fixed |= {"depth": 2, "embed_dim": 32, "num_heads": 2} if any(w in name for w in short) else {}
    return stirred(timm.create_model(name, num_classes=4, **fixed))


RULE = {  # network: the layer that is looked at, the method, the side of the map for 64 pixels
    "resnet10t": ("layer4", "cam", 2),
    "test_efficientnet": ("bn2", "cam", 2),
    "test_convnext": ("stages", "layer-cam", 2),
    "test_nfnet": ("final_act", "cam", 2),
    "test_maxvit": ("norm", "cam", 2),
    "mobilenetv3_small_050": ("blocks", "layer-cam", 2),
    "swin_s3_tiny_224": ("norm", "cam", 2),
    "test_vit": ("blocks.5.norm1", "gradient-rollout", 4),
    "test_vit4": ("blocks", "gradient-rollout", 4),
    "regnetx_002": ("s4", "cam", 2),
    "mobilenetv4_conv_small": ("blocks", "layer-cam", 2),
    "coatnet_pico_rw_224": ("norm", "cam", 2),
    "mixer_s32_224": ("norm", "cam", 2),
    "deit_tiny_distilled_patch16_224": ("blocks.1.norm1", "gradient-rollout", 4),
    "beit_base_patch16_224": ("blocks.1", "gradient-rollout", 4),
    "xcit_nano_12_p16_224": ("blocks.1.norm1", "layer-cam", 4),  # its attention is among channels
    "cait_xxs24_224": ("blocks.1.norm1", "layer-cam", 4),  # its class token asks the patches apart
    "vit_base_patch16_siglip_224": ("norm", "layer-cam", 4),  # and so does its head
    "coat_tiny": ("parallel_blocks.5.factoratt_crpe4.qkv", "layer-cam", 2),  # blocks give several tensors
}


@pytest.mark.parametrize("name", RULE)
def test_a_network_of_timm_is_explained_without_naming_a_layer(name: str) -> None:
    layer, method, side = RULE[name]
    net, x = made(name), images()
    (key,) = explain(net, x, TARGETS).maps
    assert key == (method, "attention" if method == "gradient-rollout" else layer)
    found = explain(net, x, TARGETS, ("grad-cam", "eigen-cam"))
    for kind in ("grad-cam", "eigen-cam"):
        maps = found.maps[kind, layer]
        assert maps.shape == (2, 3, side, side) and maps.isfinite().all() and (maps.std((2, 3)) > 0).all()
    assert torch.allclose(found.scores, net.eval()(x).gather(1, TARGETS), atol=1e-4)


class Chain(nn.Module):
    """Its children in turn, the first being the head."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.early = nn.Linear(4, 4), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for part in list(self.children())[1:]:
            x = part(x)
        return self.head(x.mean((2, 3)))


def test_the_layer_is_found_anew_when_it_is_gone() -> None:
    net, x = Chain(), images(16)
    assert list(explain(net, x).maps) == [("cam", "early")]
    del net.early
    net.late = nn.Conv2d(3, 4, 5)
    assert list(explain(net, x).maps) == [("cam", "late")]


def by_hand(net: nn.Module, x: Tensor, target: int, layer: str, read: Any) -> tuple[Tensor, Tensor]:
    """Maps and gradient of one image, by a whole backward pass."""
    kept = list[Tensor]()
    handle = net.get_submodule(layer).register_forward_hook(lambda m, i, out: kept.append(out))
    score = net(x)[0, target]
    handle.remove()
    kept[0].retain_grad()
    score.backward()
    assert kept[0].grad is not None
    net.zero_grad(set_to_none=True)
    return read(kept[0].detach())[0], read(kept[0].grad)[0]


def plain(out: Tensor) -> Tensor:
    return out


def read_tokens(out: Tensor) -> Tensor:
    return out[:, 1:].mT.unflatten(2, (4, 4))


@pytest.mark.parametrize(
    ("name", "layers", "read"),
    [
        ("resnet10t", ("layer4", "layer2", "layer3"), plain),
        ("test_convnext", ("stages.3", "stages.1"), plain),
        ("mobilenetv3_small_050", ("blocks.4", "blocks.5"), plain),
        ("test_vit", ("blocks.5.norm1", "blocks.2"), read_tokens),
    ],
)
def test_one_pass_for_all_is_a_pass_for_each(name: str, layers: tuple[str, ...], read: Any) -> None:
    net, x = made(name).eval().double(), images().double()
    methods = ("grad-cam", "hires-cam", "layer-cam", "xgrad-cam")
    found = explain(net, x, TARGETS, methods, layers).maps
    assert set(found) == {(m, n) for m in methods for n in layers}
    for i in range(2):
        for t in range(3):
            for layer in layers:
                acts, grads = by_hand(net, x[i : i + 1], int(TARGETS[i, t]), layer, read)
                weights = (acts * grads).sum((1, 2)) / (acts.sum((1, 2)) + 1e-7)
                wanted = {
                    "grad-cam": (grads.mean((1, 2), keepdim=True) * acts).sum(0), "hires-cam": (grads * acts).sum(0),
                    "layer-cam": (grads.relu() * acts).sum(0), "xgrad-cam": torch.einsum("k,khw->hw", weights, acts),
                }  # fmt: skip
                for method, one in wanted.items():
                    got = found[method, layer][i, t].double()
                    assert torch.allclose(got, one, atol=1e-5 * float(one.abs().max())), (method, layer)


def test_a_network_is_left_as_it_was() -> None:
    for name in ("resnet10t", "test_vit"):
        net, x = made(name).train(), images()
        next(net.parameters()).requires_grad_(False)
        net(x).sum().backward()
        before = copy.deepcopy([net.state_dict(), [p.grad for p in net.parameters()]])
        flags = [(p.requires_grad) for p in net.parameters()], [m.training for m in net.modules()]
        luck = torch.get_rng_state()
        explain(net, x, TARGETS)
        explain(net, x, TARGETS, ("grad-cam", "ablation-cam"))
        assert str(before) == str([net.state_dict(), [p.grad for p in net.parameters()]])
        assert flags == ([(p.requires_grad) for p in net.parameters()], [m.training for m in net.modules()])
        assert torch.equal(luck, torch.get_rng_state())
        assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())


# Tokens.


@pytest.mark.parametrize(
    ("kind", "given", "prefix"),
    [
        (VisionTransformer, {}, 1),
        (VisionTransformer, {"reg_tokens": 4}, 5),
        (VisionTransformer, {"class_token": False, "global_pool": "avg"}, 0),
        (VisionTransformer, {"reg_tokens": 3, "class_token": False, "global_pool": "avg"}, 3),
        (VisionTransformer, {"img_size": (32, 48)}, 1),
        (VisionTransformerDistilled, {}, 2),
    ],
)
def test_tokens_before_the_patches_are_dropped(kind: Any, given: dict[str, Any], prefix: int) -> None:
    torch.manual_seed(0)
    net = stirred(kind(**{**SIZE, **given})).eval()
    height, width = (4, 6) if "img_size" in given else (4, 4)
    x = torch.rand(2, 3, 8 * height, 8 * width)
    found = explain(net, x, TARGETS, ("grad-cam", "gradient-rollout", "attention-rollout"), "blocks.1.norm1").maps
    assert {m.shape for m in found.values()} == {(2, 3, height, width)}
    acts, grads = by_hand(net, x[:1], 1, "blocks.1.norm1", lambda t: t[:, prefix:].mT.unflatten(2, (height, width)))
    wanted = (grads.mean((1, 2), keepdim=True) * acts).sum(0)
    assert torch.allclose(found["grad-cam", "blocks.1.norm1"][0, 1], wanted, atol=1e-6)


def test_a_grid_is_found_by_patches_or_by_the_image() -> None:
    assert grid(197, (224, 224), (16, 16)) == (1, (14, 14)) and grid(201, (224, 224), (16, 16)) == (5, (14, 14))
    assert grid(25, (32, 48), (8, 8)) == (1, (4, 6)) and grid(196, (224, 224), None) == (0, (14, 14))
    assert grid(16, (30, 30), (8, 8)) == (7, (3, 3)) and grid(195, (224, 224), (16, 16)) is None
    assert grid(7, (64, 64), None) is None and grid(9, (32, 64), None) == (1, (2, 4))


def rolled(net: Any, x: Tensor, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Both rollouts of one image from attention computed by hand, with a class token."""
    kept = list[Tensor]()
    for block in net.blocks:
        block.attn.fused_attn = False
    handles = [b.attn.attn_drop.register_forward_hook(lambda m, i, out: kept.append(out)) for b in net.blocks]
    score = net(x)[0, target]
    for handle, w in zip(handles, kept, strict=True):
        handle.remove()
        w.retain_grad()
    score.backward()
    for block in net.blocks:
        block.attn.fused_attn = True
    n = kept[0].shape[-1]
    flow = gains = np.eye(n)
    for w in kept:
        assert w.grad is not None
        step = w[0].detach().double().mean(0).numpy() + np.eye(n)
        flow = step / step.sum(1, keepdims=True) @ flow
        gains = gains + (w * w.grad).detach().double().relu()[0].mean(0).numpy() @ gains
    return flow[0, 1:], gains[0, 1:]


def test_rollouts_of_fused_attention_are_those_of_attention_written_out() -> None:
    torch.manual_seed(0)
    net, x = stirred(VisionTransformer(**SIZE)).eval(), 3 * torch.randn(2, 3, 32, 32)
    assert net.blocks[0].attn.fused_attn  # type: ignore[index,union-attr]
    found = explain(net, x, TARGETS, ("attention-rollout", "gradient-rollout")).maps
    for i in range(2):
        for t in range(3):
            flow, gains = rolled(net, x[i : i + 1], int(TARGETS[i, t]))
            assert np.allclose(found["attention-rollout", "attention"][i, t].flatten(), flow, atol=1e-5)
            got = found["gradient-rollout", "attention"][i, t].flatten()
            assert np.allclose(got, gains, atol=1e-3 * gains.max())
    assert found["gradient-rollout", "attention"].amax((2, 3)).count_nonzero() > 3


def test_attention_of_torch_is_seen_and_changes_nothing() -> None:
    torch.manual_seed(0)
    net = stirred(TorchViT(32, 8, 2, 2, 16, 32, num_classes=4)).eval()
    x = torch.rand(2, 3, 32, 32)
    found = explain(net, x, TARGETS)
    assert list(found.maps) == [("gradient-rollout", "attention")]
    assert torch.allclose(found.scores, net(x).gather(1, TARGETS), atol=1e-5)
    kept = list[Tensor]()

    def weights(m: nn.MultiheadAttention, args: tuple[Tensor, ...], out: Any) -> None:
        kept.append(m.forward(*args, need_weights=True, average_attn_weights=True)[1])

    for m in net.modules():
        if isinstance(m, nn.MultiheadAttention):
            m.register_forward_hook(weights)
    with torch.no_grad():
        net(x)
    flow = torch.eye(17)
    for w in kept:
        step = w + torch.eye(17)
        flow = step / step.sum(2, keepdim=True) @ flow
    got = explain(net, x, 0, "attention-rollout").maps["attention-rollout", "attention"][:, 0].flatten(1)
    assert torch.allclose(got, flow[:, 0, 1:], atol=1e-6)


def test_after_the_last_attention_the_patches_of_a_class_token_have_no_gradient() -> None:
    torch.manual_seed(0)
    net = stirred(VisionTransformer(**SIZE))
    for layer in ("blocks", "blocks.1.norm2", "norm"):
        with pytest.raises(ModelError, match="no gradient: the head reads other tokens"):
            explain(net, torch.rand(2, 3, 32, 32), 0, "grad-cam", layer)


def test_channels_last_of_swin_are_read_as_maps() -> None:
    torch.manual_seed(0)
    net = stirred(SwinTransformer([4, 4], 12, [1, 1], [2, 2], [2, 2], num_classes=4)).eval()
    x = torch.rand(2, 3, 32, 32)
    found = explain(net, x, TARGETS, ("cam", "grad-cam", "ablation-cam"), "norm").maps
    acts, grads = by_hand(net, x[:1], 1, "norm", lambda t: t.permute(0, 3, 1, 2))
    assert torch.allclose(found["grad-cam", "norm"][0, 1], (grads.mean((1, 2), keepdim=True) * acts).sum(0), atol=1e-6)
    assert list(explain(net, x).maps) == [("cam", "permute")]  # the same maps, channels first
    early = explain(net, x, TARGETS, ("hires-cam", "ablation-cam"), "features.1").maps
    acts, grads = by_hand(net, x[1:], 3, "features.1", lambda t: t.permute(0, 3, 1, 2))
    assert torch.allclose(early["hires-cam", "features.1"][1, 0], (grads * acts).sum(0), atol=1e-6)
    assert early["ablation-cam", "features.1"].shape == (2, 3, 8, 8)


# Segmenters.


def test_a_segmenter_is_explained_by_the_mean_logit_where_a_class_is_seen() -> None:
    torch.manual_seed(0)
    net = stirred(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)).eval()
    x = images()
    out = net(x)["out"].detach()
    best = out.argmax(1)
    found = explain(net, x, [[0, 1, 2, 3]] * 2, "grad-cam")
    ((_, layer),) = found.maps
    assert layer.startswith("backbone.")
    for i in range(2):
        for c in range(4):
            here = best[i] == c
            wanted = out[i, c][here].mean() if here.any() else out[i, c].mean()
            assert torch.allclose(found.scores[i, c], wanted, atol=1e-5)
    region = explain(net, x, lambda y: y["out"][:, 1, :8, :8].sum((1, 2)), "grad-cam")
    assert torch.allclose(region.scores[:, 0], out[:, 1, :8, :8].sum((1, 2)), atol=1e-2)


class Finder(nn.Module):
    """What a detector gives: a list, and in each image's boxes and scores by another head than the last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
        self.score, self.box = nn.Conv2d(5, 2, 1), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        maps = self.backbone(x)
        both = zip(self.score(maps).flatten(2), self.box(maps).flatten(2))
        return [{"scores": s, "boxes": b} for s, b in both]


def test_a_detector_is_explained_at_its_backbone_by_a_function() -> None:
    net, x = Finder(), images(12)
    with pytest.raises(ModelError, match="Give a function of the output"):
        explain(net, x)
    found = explain(net, x, lambda out: torch.stack([o["scores"][1].max() for o in out]), "hires-cam")
    assert list(found.maps) == [("hires-cam", "backbone.2")]
    maps = net.backbone(x).detach().requires_grad_()
    net.score(maps)[:, 1].amax((1, 2)).sum().backward()
    assert maps.grad is not None
    assert torch.allclose(found.maps["hires-cam", "backbone.2"][:, 0], (maps.grad * maps).sum(1), atol=1e-6)


# What follows a layer, run alone.


class Joined(nn.Module):
    """A layer whose input is joined to its output, so that it is no cut of the network; counts what runs before it."""

    def __init__(self, join: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.join, self.runs = join, list[int]()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.third, self.head = nn.Conv2d(8 if join else 4, 5, 3), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.runs.append(len(x))
        early = self.first(x)
        late = self.second(early.relu()).relu_()
        maps = torch.cat([early, late], 1) if self.join else late + early
        return self.head(self.third(maps).relu().mean((2, 3)).tanh())

    def after(self, x: Tensor, late: Tensor) -> Tensor:
        early, late = self.first(x), late.relu()
        maps = torch.cat([early, late], 1) if self.join else late + early
        return self.head(self.third(maps).relu().mean((2, 3)).tanh())


@pytest.mark.parametrize("join", [False, True])
def test_ablation_runs_what_follows_the_layer_alone(join: bool) -> None:
    net, x = Joined(join).eval(), images(12)
    found = explain(net, x, TARGETS, "ablation-cam", "second").maps["ablation-cam", "second"]
    assert max(net.runs) == (5 if join else 2)
    with torch.no_grad():
        acts = net.second(net.first(x).relu())
        for i in range(2):
            whole = net.after(x[i : i + 1], acts[i : i + 1])
            wanted = torch.zeros(3, 10, 10)
            for k in range(4):
                without = acts[i : i + 1].clone()
                without[:, k] = 0
                fall = (whole - net.after(x[i : i + 1], without))[0, TARGETS[i]]
                wanted += fall[:, None, None] * acts[i, k]
            assert torch.allclose(found[i], wanted, atol=1e-6)


class Twice(nn.Module):
    """The same layer runs twice; then maps are taken apart as if channels came first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.same, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.same(self.same(x).relu()).relu_().view(len(x), -1))


def test_of_a_layer_that_runs_twice_the_last_run_counts() -> None:
    net, x = Twice().eval(), images(6)
    found = explain(net, x, TARGETS, ("hires-cam", "ablation-cam"), net.same).maps
    acts = net.same(net.same(x).relu()).detach().requires_grad_()
    net.head(acts.relu().reshape(2, -1))[0, 1].backward()
    assert acts.grad is not None
    assert torch.allclose(found["hires-cam", "same"][0, 1], (acts.grad * acts)[0].sum(0), atol=1e-6)
    with torch.no_grad():
        whole, wanted = net.head(acts.relu().reshape(2, -1))[0, 1], torch.zeros(6, 6)
        for k in range(3):
            without = acts[:1].clone()
            without[:, k] = 0
            wanted += (whole - net.head(without.relu().reshape(1, -1))[0, 1]) * acts[0, k]
    assert torch.allclose(found["ablation-cam", "same"][0, 1], wanted, atol=1e-6)


# Finer targets.


@pytest.mark.parametrize("a", [0.0, 0.6, 1.0])
def test_finer_targets_are_those_of_the_paper_in_closed_form_and_by_gradient(a: float) -> None:
    net, x = made("resnet10t").eval(), images()
    found = explain(net, x, Finer(TARGETS, a, nearest=2), ("cam", "grad-cam"), "layer4")
    y = net(x).detach().double()
    for i in range(2):
        for t, n in enumerate(TARGETS[i].tolist()):
            near = sorted((c for c in range(4) if c != n), key=lambda c: abs(float(y[i, c] - y[i, n])))[:2]
            p = y[i].softmax(0)[near]
            wanted = sum(p[j] * (y[i, n] - a * y[i, c]) for j, c in enumerate(near)) / (p.sum() + 1e-9)
            assert float(found.scores[i, t]) == pytest.approx(float(wanted), abs=1e-4)
    frozen = y.softmax(1).float()

    def score(out: Tensor) -> Tensor:
        rows = Finer(None, a, 2).rows(frozen.log() + 0 * out.detach(), TARGETS)
        return torch.einsum("btc,bc->bt", rows, out)

    assert torch.allclose(found.maps["grad-cam", "layer4"] * 4, found.maps["cam", "layer4"], atol=1e-4)
    through = explain(net, x, score, "grad-cam", "layer4").maps["grad-cam", "layer4"]
    assert torch.allclose(through, found.maps["grad-cam", "layer4"], atol=1e-4)


def test_finer_without_a_class_explains_the_most_probable_one() -> None:
    net, x = made("resnet10t").eval(), images()
    found = explain(net, x, Finer())
    assert found.targets.tolist() == net(x).argmax(1, keepdim=True).tolist() and found.probs.isnan().all()


# Several layers and several views as one.


def test_layers_are_fused() -> None:
    net, x = made("resnet10t").eval(), images()
    layers = ("layer4", "layer3")
    for way in ("mean", "product", "max"):
        found = explain(net, x, TARGETS, ("layer-cam",), layers, fuse=way).maps
        assert set(found) == {("layer-cam", "layer4"), ("layer-cam", "layer3"), ("layer-cam", way)}
        parts = []
        for layer in layers:
            m = found["layer-cam", layer]
            low, high = m.amin((2, 3), keepdim=True), m.amax((2, 3), keepdim=True)
            parts.append(nn.functional.interpolate((m - low) / (high - low), (64, 64), mode="bilinear"))
        wanted = {"mean": (parts[0] + parts[1]) / 2, "max": torch.maximum(*parts), "product": parts[0] * parts[1]}[way]
        if way == "product":
            low, high = wanted.amin((2, 3), keepdim=True), wanted.amax((2, 3), keepdim=True)
            wanted = (wanted - low) / (high - low)
        assert torch.allclose(found["layer-cam", way], wanted, atol=1e-5)


def test_maps_of_views_are_undone_and_averaged() -> None:
    net, x = made("resnet10t").eval(), images()
    best = net(x).argmax(1)
    key = ("grad-cam", "layer4")

    def one(images: Tensor) -> Tensor:
        return explain(net, images, best, *key).maps[key]

    found = explain(net, x, None, *key, tta=("flip", 1.5)).maps[key]
    larger = nn.functional.interpolate(x, (96, 96), mode="bilinear", antialias=True)
    parts = [one(x), one(x.flip(3)).flip(3), one(larger), one(larger.flip(3)).flip(3)]
    wanted = torch.stack([nn.functional.interpolate(p, (2, 2), mode="bilinear") for p in parts]).mean(0)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_maps_are_given_raw_positive_or_from_0_to_1() -> None:
    net, x = made("resnet10t").eval(), images()
    raw, positive, unit = (
        explain(net, x, TARGETS, "grad-cam", output=o).maps["grad-cam", "layer4"] for o in ("raw", "positive", "unit")
    )
    assert (raw < 0).any() and torch.equal(positive, raw.clamp_min(0))
    assert float(unit.min()) == 0 and float(unit.max()) == 1
