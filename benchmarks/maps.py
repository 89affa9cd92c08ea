"""`python -m benchmarks.maps`: activation maps of ours beside pytorch-grad-cam and captum, in turn, on this machine.

Networks have random weights, and batch norms that have seen the images.  Seconds are processor seconds of all threads;
those compared take turns, and a ratio is the median over the rounds.  Maps agree where their least correlation over the
images is 0.999.  Where a library's map is not the method's, a slow loop decides: one image, one target and one channel
at a time in float64, formulas as the papers write them.  The same loop with what the library does instead must then
give the library's map, or the cause is not known.  The libraries are no dependencies: `pip install grad-cam captum`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import io
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RESULTS = Path(__file__).parent / "results" / "maps.csv"
LEAST = 0.999  # correlation at which maps count as the same
NETS = {  # network: its last stage, the stage before, and one of few channels
    "resnet18": ("layer4", "layer3", "layer2"),
    "resnet50": ("layer4", "layer3", "layer1"),
    "vit_tiny_patch16_224": ("blocks.11.norm1", "blocks.10.norm1", "blocks.11.norm1"),
    "convnext_tiny": ("stages.3", "stages.2", "stages.1"),
    "mobilenetv3_large_100": ("blocks", "blocks.4", "blocks.2"),
}
SCORE = "score-cam:score=logit,weights=softmax"
PEER = {
    "grad-cam": "GradCAM", "grad-cam-pp": "GradCAMPlusPlus", "xgrad-cam": "XGradCAM", "hires-cam": "HiResCAM",
    "layer-cam": "LayerCAM", "eigen-cam:center=true": "EigenCAM", "eigen-grad-cam:center=true": "EigenGradCAM",
    "ablation-cam": "AblationCAM", SCORE: "ScoreCAM",
}  # fmt: skip
KNOWN = {  # where pytorch-grad-cam 1.5.7 differs from the method
    "eigen-cam:center=true": "the sign is arbitrary, and features are centred (here ours are too)",
    "eigen-grad-cam:center=true": "the sign is arbitrary, and features are centred (here ours are too)",
    "grad-cam-pp": "1e-6 is added to denominators of the size of the squared gradient",
    "ablation-cam": (
        "falls are divided by the score, whose sign may turn; unless min is 0, the n-th channel of 32 becomes "
        "min - n 1e7, at the class token too"
    ),
    SCORE: "masks are enlarged with corners aligned",
}
FEW = ("ablation-cam", SCORE)  # a pass for each channel: few channels, two small images
FIVE = ("grad-cam", "grad-cam-pp", "xgrad-cam", "layer-cam", "hires-cam")
LIBRARY = "pytorch-grad-cam"


def network(name: str, side: int) -> Any:
    """A network of timm with random weights, in evaluation mode."""
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
    n = side // 16
    return (lambda out: out[:, 1:].transpose(1, 2).unflatten(2, (n, n))) if name.startswith("vit") else None


def peer(net: Any, name: str, method: str, layers: tuple[str, ...], x: Any, targets: list[int]) -> np.ndarray:
    """pytorch-grad-cam: (B,H,W), 0 to 1."""
    import pytorch_grad_cam
    from pytorch_grad_cam.ablation_layer import AblationLayerVit
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    given: dict[str, Any] = {"target_layers": [net.get_submodule(n) for n in layers]}
    if method == "ablation-cam" and name.startswith("vit"):
        given["ablation_layer"] = AblationLayerVit()
    kind, how = getattr(pytorch_grad_cam, PEER[method]), reshape(name, x.shape[3])
    with contextlib.redirect_stderr(io.StringIO()), kind(model=net, reshape_transform=how, **given) as cam:
        return cam(input_tensor=x, targets=[ClassifierOutputTarget(t) for t in targets])
    raise RuntimeError("pytorch-grad-cam swallowed an IndexError")


def captum(net: Any, layer: str, x: Any, targets: list[int]) -> np.ndarray:
    """captum's LayerGradCam: (B,h,w), sign kept."""
    import torch
    from captum.attr import LayerGradCam

    found = LayerGradCam(net, net.get_submodule(layer)).attribute(x, torch.tensor(targets), relu_attributions=False)
    return found[:, 0].detach().numpy()


class Shown(NamedTuple):
    """One image by the loop.  acts, grads: (K,h,w), float64.  said: the score.  without(k, value, all): the score with
    channel k set to value, all: also at tokens of no place.  through(mask (H,W)): the score of the masked image."""

    acts: np.ndarray
    grads: np.ndarray
    said: float
    without: Callable[[int, float, bool], float]
    through: Callable[[Any], float]


def loop(net: Any, name: str, layer: str, x: Any, targets: list[int]) -> Iterator[Shown]:
    """One image and one target at a time, a whole backward pass in float64."""
    import torch

    net, how = copy.deepcopy(net).double(), reshape(name, x.shape[3]) or (lambda out: out)
    module = net.get_submodule(layer)
    for one, target in zip(x.double()[:, None], targets, strict=True):
        kept: list[Any] = []
        handle = module.register_forward_hook(lambda m, i, out, to=kept: to.append(out))
        score = net(one)[0, target]
        handle.remove()
        kept[0].retain_grad()
        score.backward()

        def without(k: int, value: float, all_: bool, own: Any = kept[0], image: Any = one, cls: int = target) -> float:
            changed = own.detach().clone()
            how(changed)[:, k] = value
            if all_ and changed.ndim == 3:
                changed[:, :, k] = value
            hook = module.register_forward_hook(lambda m, i, out: changed)
            with torch.no_grad():
                found = float(net(image)[0, cls])
            hook.remove()
            return found

        def through(mask: Any, image: Any = one, cls: int = target) -> float:
            with torch.no_grad():
                return float(net(image * mask)[0, cls])

        acts, grads = (how(t)[0].detach().numpy() for t in (kept[0], kept[0].grad))
        yield Shown(acts, grads, score.item(), without, through)


def formula(method: str, seen: Shown, theirs: bool, size: tuple[int, int]) -> np.ndarray:
    """One map (h,w), channel by channel: of the paper, or with what the library is known to do instead."""
    if method.startswith("eigen"):
        parts = (seen.grads * seen.acts if "grad" in method else seen.acts).reshape(len(seen.acts), -1).T
        parts = parts - parts.mean(0)
        return (parts @ np.linalg.svd(parts, full_matrices=False)[2][0]).reshape(seen.acts.shape[1:])
    if method == "hires-cam":
        return sum(g * a for a, g in zip(seen.acts, seen.grads, strict=True))
    if method == "layer-cam":
        return sum(np.maximum(g, 0) * a for a, g in zip(seen.acts, seen.grads, strict=True))
    weights = np.array([weight(method, seen, k, theirs, size) for k in range(len(seen.acts))])
    if method == SCORE:
        weights = np.exp(weights - weights.max()) / np.exp(weights - weights.max()).sum()
    return sum(w * a for w, a in zip(weights, seen.acts, strict=True))


def weight(method: str, seen: Shown, k: int, theirs: bool, size: tuple[int, int]) -> float:
    """What channel k counts."""
    import torch

    a, g = seen.acts[k], seen.grads[k]
    if method == "grad-cam":
        return g.mean()
    if method == "xgrad-cam":
        return (a * g).sum() / (a.sum() + 1e-7)
    if method == "grad-cam-pp":
        below = 2 * g**2 + a.sum() * g**3 + (1e-6 if theirs else 0)
        return (np.where(g > 0, g**2 / np.where(below == 0, 1, below), 0) * np.maximum(g, 0)).sum()
    if method == "ablation-cam":
        low = seen.acts.min()
        fall = seen.said - seen.without(k, low - (1 + k % 32) * 1e7 if theirs and low != 0 else 0, theirs)
        return fall / seen.said if theirs else fall
    large = torch.nn.functional.interpolate(torch.tensor(a[None, None]), size, mode="bilinear", align_corners=theirs)
    return seen.through((large - large.min()) / (large.max() - large.min() + (1e-8 if theirs else 0)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, of two maps; 1 where both are constant (nothing speaks for the class), 0 where one is."""
    flat = int(np.ptp(a) == 0) + int(np.ptp(b) == 0)
    return float(flat == 2) if flat else float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def agreement(a: np.ndarray, b: np.ndarray, free: bool) -> float:
    """Least correlation over images of maps (B,h,w) and (B,h,w); free: whichever sign."""
    found = [correlation(p, q) for p, q in zip(a, b, strict=True)]
    return float(min(np.abs(found) if free else found))


def shown(raw: np.ndarray, theirs: np.ndarray, free: bool) -> float:
    """Agreement with what pytorch-grad-cam gives: positive part, 0 to 1, enlarged."""
    import torch

    from modicum.functional.heat import resized, unit

    maps, size = torch.tensor(raw)[:, None], (theirs.shape[1], theirs.shape[2])
    ways = [resized(unit((sign * maps).relu()), size)[:, 0].numpy() for sign in ((1, -1) if free else (1,))]
    found = [[correlation(a, b) for a, b in zip(way, theirs, strict=True)] for way in ways]
    return float(np.max(found, 0).min())


def equal(name: str, side: int, batch: int) -> list[dict[str, Any]]:
    """Rows of the table of agreement for one network."""
    rows = []
    for methods, where, pixels, images in ((tuple(PEER)[:-2], 0, side, batch), (FEW, 2, 64, 2)):
        rows += _equal(name, methods, NETS[name][where], pixels, images)
    return rows


def _equal(name: str, methods: tuple[str, ...], layer: str, side: int, batch: int) -> list[dict[str, Any]]:
    import torch

    from modicum.nn.capture import explain

    net = network(name, side)
    torch.manual_seed(1)
    x = torch.rand(batch, 3, side, side)
    spread_out(net, x)
    with torch.no_grad():
        targets = net(x).argmax(1).tolist()
    found, rows = explain(net, x, torch.tensor(targets), methods, layer).maps, []
    seen = list(loop(net, name, layer, x, targets))
    for method in methods:
        ours, free = found[method, layer][:, 0].numpy(), method.startswith("eigen")
        slow = np.stack([formula(method, s, False, (side, side)) for s in seen])
        about = {"net": name, "what": f"{method} at {layer}", "side": side, "batch": batch, "bar": LEAST}
        values = {"slow loop": agreement(ours, slow, free)}
        theirs = peer(net, name, method, (layer,), x, targets)
        values[LIBRARY] = shown(ours, theirs, free)
        if method == "grad-cam" and not name.startswith("vit"):
            values["captum"] = agreement(ours, captum(net, layer, x, targets), False)
        if values[LIBRARY] < LEAST:
            way = np.stack([formula(method, s, True, (side, side)) for s in seen])
            about["why"] = f"{KNOWN.get(method, 'not known')}: the loop so agrees {shown(way, theirs, free):.4f}"
        for against, value in values.items():
            why = about.get("why", "") if against == LIBRARY else ""
            right = value >= LEAST or bool(why and values["slow loop"] >= LEAST)
            row = {"table": "agreement", **about, "against": against, "value": f"{value:.6f}", "why": why}
            rows.append(row | {"reached": right})
            print(name, about["what"], against, f"{value:.6f}", why, flush=True)
    return rows


class Task(NamedTuple):
    """A comparison.  least: of the other's time over ours."""

    what: str
    ours: Callable[[], Any]
    against: str
    other: Callable[[], Any]
    least: float
    rounds: int = 0  # 0: as many as asked


def tasks(name: str, side: int, batch: int) -> list[Task]:
    """What is timed of a network."""
    import torch

    from modicum.functional.heat import principal
    from modicum.nn.capture import explain

    net, (last, before, few) = network(name, side), NETS[name]
    x = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1))
    spread_out(net, x)
    every, eigen = torch.arange(1000).expand(batch, 1000), "eigen-cam:center=true"

    def forward() -> None:
        with torch.no_grad():
            net(x)

    def pair(what: str, method: str, layer: str, least: float, images: Any = x, given: str = "", n: int = 0) -> Task:
        targets = list(range(len(images)))
        return Task(
            f"{what} at {layer}", lambda: explain(net, images, torch.tensor(targets), method + given, layer),
            LIBRARY, lambda: peer(net, name, method, (layer,), images, targets), least, n,
        )  # fmt: skip

    def one_by_one() -> None:
        for method in FIVE:
            for layer in (few, before, last):
                peer(net, name, method, (layer,), x, list(range(batch)))

    def maps(layer: str) -> Any:
        kept: list[Any] = []
        handle = net.get_submodule(layer).register_forward_hook(lambda m, i, out: kept.append(out))
        forward()
        handle.remove()
        return kept[0]

    found = [
        Task(f"Grad-CAM at {last}", lambda: explain(net, x, 0, "grad-cam", last), "a forward", forward, 1 / 1.05),
        Task(f"Grad-CAM at {before}", lambda: explain(net, x, 0, "grad-cam", before), "a forward", forward, 1 / 1.2),
        pair("Grad-CAM", "grad-cam", last, 2.8),
    ]
    if not name.startswith("resnet"):
        return found
    acts, one = maps(last), x[:1]
    slowest = [
        pair("Score-CAM, 1 image", SCORE, few, 1.6, one, n=1),
        pair("Score-CAM, bfloat16, 1 image", SCORE, few, 1.6, one, ",half=true", 1),
    ]
    if name == "resnet18":
        slowest += [
            pair("Ablation-CAM, 1 image", "ablation-cam", before, 5, one, n=1),
            pair("Ablation-CAM, 1 image", "ablation-cam", last, 5, one, n=1),
            pair("Score-CAM, 1 image", SCORE, last, 1.6, one, n=1),
            pair("Score-CAM, 64 maps, 1 image", SCORE, last, 5, one, ",top=64", 1),
        ]
    return [
        *found,
        Task(f"CAM of 1000 classes at {last}", lambda: explain(net, x, every, "cam", last), "a forward", forward,
             1 / 1.05),
        *(pair("Eigen-CAM", eigen, layer, 4) for layer in (last, before, "layer2", "layer1")),
        Task(f"Eigen-CAM's decomposition at {last}", lambda: principal(acts, True), "numpy's SVD",
             lambda: svd(acts.numpy()), 20),
        Task("5 methods x 3 layers", lambda: explain(net, x, 0, FIVE, (few, before, last)), LIBRARY, one_by_one, 12, 1),
        *slowest,
    ]  # fmt: skip


def svd(acts: np.ndarray) -> None:
    """As pytorch-grad-cam does it."""
    for one in acts:
        parts = one.reshape(len(one), -1).T
        np.linalg.svd(parts - parts.mean(0), full_matrices=True)


def timed(task: Task, rounds: int, about: dict[str, Any]) -> dict[str, Any]:
    """One comparison: median and range of the ratio over rounds, in which the two take turns."""
    pairs = []
    for i in range(1 + (task.rounds or rounds)):
        took = {}
        for call in (task.ours, task.other) if i % 2 else (task.other, task.ours):
            begun = time.process_time()
            call()
            took[call] = time.process_time() - begun
        pairs.append((took[task.ours], took[task.other]))
    pairs = pairs[1:] if len(pairs) > 2 else pairs  # the first warms up
    ratios = sorted(other / ours for ours, other in pairs)
    value = statistics.median(ratios)
    row = {
        "table": "speed", **about, "what": task.what, "against": task.against, "value": f"{value:.3f}",
        "lowest": f"{ratios[0]:.3f}", "highest": f"{ratios[-1]:.3f}", "bar": f"{task.least:.3f}",
        "ours": f"{min(p[0] for p in pairs):.4f}", "other": f"{min(p[1] for p in pairs):.4f}",
        "rounds": len(pairs), "reached": value >= task.least,
    }  # fmt: skip
    print(about["net"], task.what, task.against, *(f"{k} {row[k]}" for k in ("value", "lowest", "highest", "bar")),
          row["reached"], flush=True)  # fmt: skip
    return row


def ranked(name: str, side: int) -> list[dict[str, Any]]:
    """Rank correlation of Score-CAM of the maps that vary most, and of bfloat16, with Score-CAM of all in float32."""
    import torch
    from scipy.stats import spearmanr

    from modicum.nn.capture import explain

    net, last = network(name, side), NETS[name][0]
    x = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(1))
    spread_out(net, x)
    all_ = "score-cam:score=logit"  # probabilities of random weights are all alike
    ways = [all_, *(f"{all_},top={n}" for n in (16, 32, 64, 128)), f"{all_},half=true"]
    maps = [m.flatten().numpy() for m in explain(net, x[:1], 0, ways, last).maps.values()]
    rows = []
    for way, other in zip(ways[1:], maps[1:], strict=True):
        value = float(spearmanr(maps[0], other).statistic)
        about = {"table": "ranks", "net": name, "what": f"{way} at {last}", "against": "all maps, float32"}
        rows.append(about | {"side": side, "batch": 1, "value": f"{value:.3f}", "bar": 0.95, "reached": value >= 0.95})
        print(name, way, "rank correlation with all maps", f"{value:.3f}", flush=True)
    return rows


HEADS = {
    "speed": ("faster than the other by", "How many times the other's seconds are ours: a forward's at 1.00 is free."),
    "agreement": ("correlation", "Least correlation over the images. Eigen methods: whichever sign."),
    "ranks": ("rank correlation", "Score-CAM on fewer maps or bits, beside all maps in float32."),
}


def table(rows: list[dict[str, str]]) -> str:
    """The docs' tables, from the rows of results/maps.csv."""
    parts = []
    for kind, (head, said) in HEADS.items():
        if kind not in {r["table"] for r in rows}:
            continue
        parts += [said, "", f"| network | what | images | beside | {head} | bar | reached | why |", "|" + "---|" * 8]
        for r in (r for r in rows if r["table"] == kind):
            span = f" ({float(r['lowest']):.2f} to {float(r['highest']):.2f})" if r["lowest"] else ""
            value = f"{float(r['value']):.{2 if kind == 'speed' else 4}f}{span}"
            parts.append(
                f"| {r['net']} | {r['what']} | {r['batch']} x {r['side']} px | {r['against']} | {value} | "
                f"{float(r['bar']):.{2 if kind == 'speed' else 3}f} | "
                f"{'yes' if r['reached'] == 'True' else 'no'} | {r['why']} |"
            )
        parts.append("")
    return "\n".join(parts)


def main() -> None:
    """Parse, measure, write and print."""
    import torch

    from modicum.runs.run import processor

    parser = argparse.ArgumentParser(prog="python -m benchmarks.maps", description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(NETS), choices=NETS)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=tuple(HEADS), help="one of the tables")
    parser.add_argument("--what", default="", help="only comparisons of speed whose name holds this")
    parser.add_argument("--keep", action="store_true", help=f"write {RESULTS.name}, from which the docs are made")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    load, rows = f"{os.getloadavg()[0]:.1f}", list[dict[str, Any]]()
    for name in asked.nets:
        if asked.only in (None, "agreement"):
            rows += equal(name, asked.side, asked.batch)
        if asked.only in (None, "ranks") and name == "resnet18":
            rows += ranked(name, asked.side)
        if asked.only in (None, "speed"):
            about = {"net": name, "side": asked.side, "batch": asked.batch}
            some = [t for t in tasks(name, asked.side, asked.batch) if asked.what in t.what]
            rows += [timed(t, asked.rounds, about) for t in some]
    if asked.keep:
        machine = {"threads": asked.threads, "processor": processor(), "torch": torch.__version__.split("+")[0]}
        heads = list(dict.fromkeys(k for r in rows for k in (*r, *machine, "load", "why", "lowest", "highest")))
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, heads, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows({**r, **machine, "load": load} for r in rows)


if __name__ == "__main__":
    main()
