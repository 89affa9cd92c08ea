"""`python -m benchmarks.maps`: activation maps of ours beside pytorch-grad-cam and captum, in turn, on this machine.

Two things are measured on random networks: seconds (each comparison interleaved, best and range of the repetitions),
and whether maps agree (least correlation over the images with both libraries, and with a slow loop: one image, one
target, one full backward pass in float64, formulas as the papers write them).  The libraries are no dependencies of
Modicum: `pip install grad-cam captum`.  Where their map is not the method's, the table says why, and the loop decides.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SPEED, EQUAL = HERE / "results" / "maps-speed.csv", HERE / "results" / "maps-equal.csv"
NETS = {  # network: its last stage and the stage before
    "resnet18": ("layer4", "layer3"),
    "resnet50": ("layer4", "layer3"),
    "vit_tiny_patch16_224": ("blocks.11.norm1", "blocks.10.norm1"),
    "convnext_tiny": ("stages.3", "stages.2"),
    "mobilenetv3_large_100": ("blocks", "blocks.4"),
}
PEER = {
    "grad-cam": "GradCAM", "grad-cam-pp": "GradCAMPlusPlus", "xgrad-cam": "XGradCAM", "hires-cam": "HiResCAM",
    "layer-cam": "LayerCAM", "eigen-cam:center=true": "EigenCAM", "eigen-grad-cam:center=true": "EigenGradCAM",
    "score-cam:score=logit,weights=softmax": "ScoreCAM", "ablation-cam": "AblationCAM",
}  # fmt: skip
KNOWN = {  # where pytorch-grad-cam 1.5.7 is known to differ from the method
    "eigen-cam:center=true": "sign arbitrary",
    "eigen-grad-cam:center=true": "sign arbitrary",
    "grad-cam-pp": "1e-6 is added to denominators of the size of the gradient's square",
    "ablation-cam": "divided by the score, whose sign may turn; channels set to min - 1e7 unless min is 0",
    "score-cam:score=logit,weights=softmax": "masks enlarged with corners aligned",
}
FIVE = ("grad-cam", "grad-cam-pp", "xgrad-cam", "layer-cam", "hires-cam")


def network(name: str, side: int) -> Any:
    """A network of timm with random weights, in evaluation mode, its attention written out for the libraries."""
    import timm
    import torch

    torch.manual_seed(0)
    fixed = {"img_size": side} if name.startswith("vit") else {}
    return timm.create_model(name, pretrained=False, num_classes=1000, **fixed).eval()


def spread_out(net: Any, x: Any) -> None:
    """Batch norms as after training, so that maps and logits of random weights differ from image to image."""
    import torch

    with torch.no_grad():
        net.train()
        for _ in range(2):
            net(x)
        net.eval()
        for p in net.parameters():
            if float(p.abs().max()) < 1e-4 and p.ndim == 1 and p.numel() > 1:
                p.fill_(0.1)  # layer scales start at almost nothing


def reshape(name: str, side: int) -> Any:
    """How the libraries are told to read tokens."""
    if not name.startswith("vit"):
        return None
    n = side // 16
    return lambda out: out[:, 1:].transpose(1, 2).unflatten(2, (n, n))


def peer(net: Any, name: str, method: str, layers: tuple[str, ...], x: Any, targets: list[int]) -> np.ndarray:
    """pytorch-grad-cam: (B,H,W), 0 to 1."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    kind = getattr(pytorch_grad_cam, PEER[method])
    modules = [net.get_submodule(n) for n in layers]
    how = reshape(name, x.shape[3])
    with (
        contextlib.redirect_stderr(io.StringIO()),
        kind(model=net, target_layers=modules, reshape_transform=how) as cam,
    ):
        return cam(input_tensor=x, targets=[ClassifierOutputTarget(t) for t in targets])


def captum(net: Any, name: str, layer: str, x: Any, targets: list[int]) -> np.ndarray:
    """captum's LayerGradCam: (B,h,w), sign kept."""
    import torch
    from captum.attr import LayerGradCam

    found = LayerGradCam(net, net.get_submodule(layer)).attribute(x, torch.tensor(targets), relu_attributions=False)
    return found[:, 0].detach().numpy()


def slow(net: Any, name: str, method: str, layer: str, x: Any, targets: list[int]) -> np.ndarray:
    """One image and one target at a time, a whole backward pass in float64, the papers' formulas: (B,h,w)."""
    import copy

    import torch

    net, how = copy.deepcopy(net).double(), reshape(name, x.shape[3]) or (lambda out: out)
    maps = []
    for one, target in zip(x.double(), targets, strict=True):
        kept: list[Any] = []
        handle = net.get_submodule(layer).register_forward_hook(lambda m, i, out, to=kept: to.append(out))
        score = net(one[None])[0, target]
        handle.remove()
        kept[0].retain_grad()
        score.backward()
        acts, grads = (how(t)[0].detach().numpy() for t in (kept[0], kept[0].grad))

        def scored(channel: int, acts_of: Any = kept[0], image: Any = one, cls: int = target) -> float:
            def put(module: Any, given: Any, out: Any) -> Any:
                changed = acts_of.detach().clone()
                how(changed)[:, channel] = 0
                return changed

            hook = net.get_submodule(layer).register_forward_hook(put)
            with torch.no_grad():
                found = float(net(image[None])[0, cls])
            hook.remove()
            return found

        said = score.item()
        maps.append(formula(method, acts, grads, lambda k, s=said, f=scored: s - f(k)))
    return np.stack(maps)


def formula(method: str, acts: np.ndarray, grads: np.ndarray, fall: Callable[[int], float]) -> np.ndarray:
    """One map (h,w) from maps and gradients (K,h,w), channel by channel."""
    if method.startswith("eigen"):
        parts = (grads * acts if "grad" in method else acts).reshape(len(acts), -1).T
        parts = parts - parts.mean(0)
        return (parts @ np.linalg.svd(parts, full_matrices=False)[2][0]).reshape(acts.shape[1:])
    out = np.zeros(acts.shape[1:])
    for k, (a, g) in enumerate(zip(acts, grads, strict=True)):
        if method == "grad-cam":
            out += g.mean() * a
        elif method == "hires-cam":
            out += g * a
        elif method == "layer-cam":
            out += np.maximum(g, 0) * a
        elif method == "xgrad-cam":
            out += (a * g).sum() / (a.sum() + 1e-7) * a
        elif method == "grad-cam-pp":
            below = 2 * g**2 + a.sum() * g**3
            out += (np.where(g > 0, g**2 / np.where(below == 0, 1, below), 0) * np.maximum(g, 0)).sum() * a
        else:
            out += fall(k) * a
    return out


def agreement(a: np.ndarray, b: np.ndarray, signed: bool) -> float:
    """Least correlation over images of maps (B,h,w) and (B,h,w)."""
    found = [correlation(p, q) for p, q in zip(a, b, strict=True)]
    return float(min(found if signed else np.abs(found)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, of two maps; 1 where both are constant (nothing speaks for the class), 0 where one is."""
    flat = (np.ptp(a) == 0) + (np.ptp(b) == 0)
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if not flat else float(flat == 2)


def equal(name: str, side: int, batch: int, methods: list[str]) -> list[dict[str, Any]]:
    """Rows of the table of agreement for one network."""
    import torch

    from modicum.nn.capture import explain

    net, layer = network(name, side), NETS[name][0]
    torch.manual_seed(1)
    x = torch.rand(batch, 3, side, side)
    spread_out(net, x)
    with torch.no_grad():
        targets = net(x).argmax(1).tolist()
    rows = []
    for method in methods:
        raw = explain(net, x, torch.tensor(targets), method, layer).maps[method, layer]
        ours = raw[:, 0].numpy()
        free = method.startswith("eigen")
        row = {"net": name, "layer": layer, "method": method, "side": side, "batch": batch, "loop": "", "captum": ""}
        if not method.startswith("score"):
            row["loop"] = f"{agreement(ours, slow(net, name, method, layer, x, targets), not free):.6f}"
        if method == "grad-cam" and not name.startswith("vit"):
            row["captum"] = f"{agreement(ours, captum(net, name, layer, x, targets), True):.6f}"
        theirs = peer(net, name, method, (layer,), x, targets)
        row["pytorch-grad-cam"] = f"{_shown(raw, theirs, free):.6f}"
        row["known difference"] = KNOWN.get(method, "")
        rows.append(row)
        print(row, flush=True)
    return rows


def _shown(raw: Any, theirs: np.ndarray, free: bool) -> float:
    """Agreement with what pytorch-grad-cam gives: positive part, 0 to 1, enlarged."""
    from modicum.functional.heat import resized, unit

    size = theirs.shape[1:]
    ways = [resized(unit((sign * raw).relu()), size)[:, 0].numpy() for sign in ((1, -1) if free else (1,))]
    found = [[correlation(a, b) for a, b in zip(way, theirs, strict=True)] for way in ways]
    return float(np.max(found, 0).min())


Task = tuple[str, Callable[[], Any], str, Callable[[], Any], float]  # what, ours, against, other, bar (other / ours)


def tasks(name: str, side: int, batch: int, slow_side: int) -> list[Task]:
    """What is timed.  The bar is the least ratio of the other's time to ours."""
    import torch

    from modicum.functional.heat import principal
    from modicum.nn.capture import explain

    net, (last, before) = network(name, side), NETS[name]
    first = {"resnet18": "layer2", "resnet50": "layer2"}.get(name, before)
    x, small = torch.rand(batch, 3, side, side), torch.rand(1, 3, slow_side, slow_side)
    spread_out(net, x)
    targets = list(range(batch))
    every = torch.arange(1000).expand(batch, 1000)

    def forward() -> Any:
        with torch.no_grad():
            return net(x)

    def ours(method: Any, layers: Any, images: Any = x) -> Callable[[], Any]:
        return lambda: explain(net, images, torch.tensor(targets[: len(images)]), method, layers)

    def theirs(method: str, layers: tuple[str, ...], images: Any = x) -> Callable[[], Any]:
        return lambda: peer(net, name, method, layers, images, targets[: len(images)])

    def all_of_theirs() -> None:
        for method in FIVE:
            for layer in (first, before, last):
                peer(net, name, method, (layer,), x, targets)

    acts = next(iter(explain(net, x, 0, _acts(), last).maps.values()))[:, :]
    lib = "pytorch-grad-cam"
    score = "score-cam:score=logit,weights=softmax"
    found: list[Task] = [
        ("Grad-CAM, last stage", ours("grad-cam", last), "a forward", forward, 1 / 1.05),
        ("Grad-CAM, stage before", ours("grad-cam", before), "a forward", forward, 1 / 1.2),
        ("Grad-CAM, last stage", ours("grad-cam", last), lib, theirs("grad-cam", (last,)), 2.8),
        ("Eigen-CAM, call", ours("eigen-cam:center=true", last), lib, theirs("eigen-cam:center=true", (last,)), 4),
        ("Eigen-CAM, call, stage before", ours("eigen-cam:center=true", before), lib,
         theirs("eigen-cam:center=true", (before,)), 4),
        ("Eigen-CAM, decomposition", lambda: principal(acts, True), "numpy's SVD", lambda: _svd(acts.numpy()), 20),
        ("5 methods x 3 layers", ours(FIVE, (first, before, last)), lib, all_of_theirs, 12),
        (f"Ablation, stage before, 1 x {slow_side}", ours("ablation-cam", before, small), lib,
         theirs("ablation-cam", (before,), small), 5),
        (f"Ablation, last stage, 1 x {slow_side}", ours("ablation-cam", last, small), lib,
         theirs("ablation-cam", (last,), small), 5),
        (f"Score, 1 x {slow_side}", ours(score, last, small), lib, theirs(score, (last,), small), 1.6),
        (f"Score, bfloat16, 1 x {slow_side}", ours(f"{score},half=true", last, small), lib,
         theirs(score, (last,), small), 1.6),
        (f"Score, top 64 channels, 1 x {slow_side}", ours(f"{score},top=64", last, small), lib,
         theirs(score, (last,), small), 5),
    ]  # fmt: skip
    if name.startswith("resnet"):
        found.insert(
            3, ("CAM of 1000 classes", lambda: explain(net, x, every, "cam", last), "a forward", forward, 1 / 1.05)
        )
    return found


def _acts() -> Any:
    from modicum.core.method import Explain, Seen

    class Acts(Explain):
        """The maps themselves."""

        gradient = False

        def weigh(self, seen: Seen) -> Any:
            return seen.acts

    return (Acts(),)


def _svd(acts: np.ndarray) -> None:
    """As pytorch-grad-cam does it."""
    for one in acts:
        parts = one.reshape(len(one), -1).T
        np.linalg.svd(parts - parts.mean(0), full_matrices=True)


def timed(task: Task, name: str, repeats: int, side: int, batch: int) -> dict[str, Any]:
    """One comparison, interleaved: CPU seconds of this process (all threads), the least of each, the ratios' range."""
    what, ours, against, other, bar = task
    pairs = []
    for i in range(repeats + 1):
        pair = {}
        for key, call in ((0, ours), (1, other)) if i % 2 else ((1, other), (0, ours)):
            begun = time.process_time()
            call()
            pair[key] = time.process_time() - begun
        pairs.append(pair)
    pairs = pairs[1:]  # the first warms up
    a, b = min(p[0] for p in pairs), min(p[1] for p in pairs)
    ratios = sorted(p[1] / p[0] for p in pairs)
    row = {
        "net": name, "what": what, "against": against, "side": side, "batch": batch, "ours": f"{a:.4f}",
        "other": f"{b:.4f}", "ratio": f"{b / a:.3f}", "lowest": f"{ratios[0]:.3f}", "highest": f"{ratios[-1]:.3f}",
        "bar": f"{bar:.3f}", "reached": str(b / a >= bar), "repeats": repeats,
    }  # fmt: skip
    print(row, flush=True)
    return row


def ranked(name: str, side: int) -> dict[str, Any]:
    """Rank correlation of Score-CAM on the top channels with Score-CAM on all, one image, raw weights."""
    import torch
    from scipy.stats import spearmanr

    from modicum.nn.capture import explain

    net, (last, _), x = network(name, side), NETS[name], torch.rand(1, 3, side, side)
    spread_out(net, torch.rand(4, 3, side, side))
    methods = ["score-cam", *(f"score-cam:top={n}" for n in (16, 32, 64, 128)), "score-cam:half=true"]
    maps = [m.flatten().numpy() for m in explain(net, x, 0, methods, last).maps.values()]
    found = {m: f"{spearmanr(maps[0], other).statistic:.3f}" for m, other in zip(methods[1:], maps[1:], strict=True)}
    print(name, "rank correlation with all channels:", found, flush=True)
    return found


def main() -> None:
    """Parse, measure, write and print."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.maps", description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(NETS), choices=NETS)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--slow-side", type=int, default=224, help="side of the one image of Score- and Ablation-CAM")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--methods", nargs="*", default=[m for m in PEER if "score" not in m and "ablation" not in m])
    parser.add_argument("--only", choices=("speed", "equal", "ranks"), help="one of the tables")
    parser.add_argument("--what", default="", help="only comparisons whose name holds this")
    parser.add_argument("--keep", action="store_true", help="write results/maps-*.csv")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    about = {"threads": asked.threads, "torch": torch.__version__.split("+")[0], "load": f"{os.getloadavg()[0]:.1f}"}
    speed, same = list[dict[str, Any]](), list[dict[str, Any]]()
    for name in asked.nets:
        side = asked.slow_side if name.startswith("vit") else asked.side
        if asked.only in (None, "equal"):
            same += [{**r, **about} for r in equal(name, side, asked.batch, asked.methods)]
        if asked.only in (None, "ranks") and not name.startswith("vit"):
            ranked(name, asked.slow_side)
        if asked.only in (None, "speed"):
            for task in tasks(name, side, asked.batch, asked.slow_side):
                if asked.what in task[0]:
                    speed.append({**timed(task, name, asked.repeats, side, asked.batch), **about})
    for file, rows in ((SPEED, speed), (EQUAL, same)):
        if asked.keep and rows:
            with file.open("w", newline="", encoding="utf-8") as out:
                writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
