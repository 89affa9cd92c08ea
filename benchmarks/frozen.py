"""`python -m benchmarks.frozen`: what a network that has learned other things is worth on a few labels.

probe: a network learns five classes of CIFAR-10; then a linear SVM on its features, with 20 labels of each of the other
five, beside the same SVM on raw pixels, on histograms of gradients (HOG) and on the features of the untrained network.
Raw pixels and HOG are given the C that is best on the test, the others 10.
tune: a network learns seven classes of Fashion-MNIST; the target are inverted pictures, turned by 30 degrees.  Few-shot
tuning, as it is and with statistics of the target and ten times the rate, beside minimising the entropy of guesses,
alone or with that of their mean held up, on 2,000 images without labels: all classes alike; up to ten times as many of
one as of another; that with a third of the images of three unknown classes.  Accuracy is on 2,100 images of the seven
classes, 300 of each.  Draws are of the labelled images, and of those without.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arena import RESULTS, Arena, done, keep
from modicum.core.method import Learn
from modicum.core.program import Stream, Train
from modicum.core.recipe import Optim

DRAWS, SHOTS, POOL, STEPS = 5, (1, 3), 2000, 200
WORLDS = ("alike", "shifted", "shifted, unknown")
NET = "tiny-conv:width=12"
ADAM = Optim(name="adamw", lr=1e-4, weight_decay=0.0)
TUNING = {"few-shot-tuning": ({}, ADAM), "few-shot-tuning bn=adapt lr=0.001": ({"bn": "adapt"}, ADAM.but(lr=1e-3))}


@dataclass(frozen=True)
class Entropy(Learn):
    """min mean_i H(p_i) - diversity H(mean_i p_i), the classifier held still (the loss of Liang et al., 2020)."""

    diversity: float = 0.0

    def build(self, info: Any, make: Any) -> Any:
        from modicum.core.net import Nets

        net = make("net")
        net.head.requires_grad_(False)
        return Nets({"net": net})

    def program(self, info: Any) -> Any:
        return [Train({"u": Stream("all", info.recipe.batch, ("weak",))}, info.recipe.steps)]

    def loss(self, nets: Any, batch: Any, clock: Any) -> Any:
        from modicum.core.loss import Term

        p = nets["net"](batch["u"]["weak"]).logits.float().softmax(1)
        each, whole = -(p * p.clamp_min(1e-9).log()).sum(1).mean(), p.mean(0)
        return {"entropy": Term(each + self.diversity * (whole * whole.clamp_min(1e-9).log()).sum(), 1.0)}


def trained(bench: Any, name: str | Learn, settings: Any = None, **recipe: Any) -> Any:
    """The net of a method, by name or as it is, in eval mode."""
    from modicum.core import registry
    from modicum.engine import choose

    cls = registry.load(name) if isinstance(name, str) else type(name)
    its = cls.recipes["small"].but(wraps=(), **recipe)
    method = choose.compose(name, settings or {}, its) if isinstance(name, str) else name
    loop = bench.loop(method, its)
    loop.run()
    return method.deliver(loop.nets).eval()


def started(bench: Any, net: Any) -> Any:
    """The bench, on which every network starts from this one's weights."""
    from modicum.models import files

    folder = Path(tempfile.mkdtemp(prefix="modicum-frozen-"))
    files.save(net, folder)
    return replace(bench, weights=folder / "net.safetensors")


def right(arena: Arena, bench: Any, net: Any, rows: np.ndarray, cls: np.ndarray) -> float:
    """Share of rows whose class, a number into the bench's names, is the net's."""
    return float((arena.logits(net, bench, rows).argmax(1) == cls).mean())


def drawn(rows: np.ndarray, cls: np.ndarray, each: int, luck: np.random.Generator) -> np.ndarray:
    """`each` rows of every class.  cls: (len(rows),)"""
    return np.concatenate([luck.permutation(rows[cls == c])[:each] for c in np.unique(cls)])


def write(part: str, world: str, arm: str, shots: int, draw: int, accuracy: float, begun: float) -> None:
    """A line of results, with the CPU seconds since `begun`."""
    seconds = f"{time.process_time() - begun:.1f}"
    row = {"part": part, "world": world, "arm": arm, "labels": shots, "draw": draw}
    keep("frozen", {**row, "accuracy": f"{accuracy:.4f}", "cpu_seconds": seconds})


# -- probe -----------------------------------------------------------------------------------------------------------


def hog(images: np.ndarray, cell: int = 8, bins: int = 9) -> np.ndarray:
    """Histograms of oriented gradients (Dalal, Triggs 2005): uint8 (N,H,W,c) -> (N, blocks * 4 * bins)."""
    x = images.astype(np.float64) / 255
    down, across = np.gradient(x, axis=(1, 2))
    most = np.hypot(down, across).argmax(-1)[..., None]  # of the channels, the one with the largest gradient
    down, across = (np.take_along_axis(g, most, -1)[..., 0] for g in (down, across))
    size, at = np.hypot(down, across), np.arctan2(down, across) % np.pi / np.pi * bins
    low, share = np.floor(at).astype(int) % bins, at % 1
    each = np.zeros((*size.shape, bins))
    np.put_along_axis(each, low[..., None], (size * (1 - share))[..., None], -1)
    over = ((low + 1) % bins)[..., None]
    np.put_along_axis(each, over, np.take_along_axis(each, over, -1) + (size * share)[..., None], -1)
    n, h, w = size.shape
    cells = each.reshape(n, h // cell, cell, w // cell, cell, bins).sum((2, 4))
    high, wide = h // cell - 1, w // cell - 1  # blocks of 2 x 2 cells
    blocks = np.concatenate([cells[:, i : high + i, j : wide + j] for i in (0, 1) for j in (0, 1)], -1)
    blocks = blocks / np.sqrt(np.square(blocks).sum(-1, keepdims=True) + 1e-6)
    blocks = np.minimum(blocks, 0.2)
    return (blocks / np.sqrt(np.square(blocks).sum(-1, keepdims=True) + 1e-6)).reshape(n, -1)


def best_svm(x: np.ndarray, cls: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Accuracy of the SVM on features at length 1, at the C that is best on the test."""
    import torch

    from modicum.functional.linear import fit_linear

    unit = [torch.from_numpy(a / np.linalg.norm(a, axis=1, keepdims=True).clip(1e-9)) for a in (x, test)]
    found = [fit_linear(unit[0], torch.from_numpy(cls), 5, c=c) for c in (0.1, 1.0, 10.0, 100.0)]
    return max(float(((unit[1] @ w.T + b).argmax(1).numpy() == truth).mean()) for w, b in found)


def probe() -> None:
    """Five draws of 20 labels a class, one network."""
    arena = Arena.open("cifar10", 32, NET, "32-true")
    source = arena.train[arena.cls[arena.train] < 5]
    target, test = (rows[arena.cls[rows] >= 5] for rows in (arena.train, arena.test))
    test, none = test[::2], np.empty(0, np.int64)
    begun = time.process_time()
    first = arena.bench(source, arena.cls[source], none, arena.data.names[:5], 0)
    net = trained(first, "supervised", steps=1000, batch=64)
    own = arena.test[arena.cls[arena.test] < 5]
    write("probe", "source", "supervised", 5000, 0, right(arena, first, net, own, arena.cls[own]), begun)
    truth = arena.cls[test] - 5
    for draw in range(DRAWS):
        rows = drawn(target, arena.cls[target], 20, np.random.default_rng([177, draw]))
        cls = arena.cls[rows] - 5
        plain = arena.bench(rows, cls, none, arena.data.names[5:], draw)
        for arm, bench in (("learned", started(plain, net)), ("untrained", plain)):
            for name in ("linear-probe", "knn"):
                begun = time.process_time()
                write("probe", arm, name, 20, draw, right(arena, bench, trained(bench, name), test, truth), begun)
        images = [np.stack([arena.pixels.image(int(r)) for r in some]) for some in (rows, test)]
        for arm, told in (("raw pixels", lambda x: x.reshape(len(x), -1) / 255.0), ("HOG", hog)):
            begun = time.process_time()
            write("probe", arm, "svm", 20, draw, best_svm(told(images[0]), cls, told(images[1]), truth), begun)


# -- tune ------------------------------------------------------------------------------------------------------------


def target_of(arena: Arena, rows: np.ndarray) -> Arena:
    """The pictures of these rows, inverted and turned by 30 degrees, as a set of their own."""
    from PIL import Image

    from modicum.core.dataset import HUMAN, Dataset
    from modicum.testing.toy import pixels_of

    turned = [Image.fromarray(arena.pixels.image(int(r)).squeeze()).rotate(30, Image.Resampling.BILINEAR) for r in rows]
    images = 255 - np.stack([np.asarray(t) for t in turned])[..., None]
    bare = Dataset.build([f"{i:05d}.png" for i in range(len(rows))], arena.data.names, split="train")
    data = bare + bare.delta_class(arena.cls[rows], source="human", who=HUMAN)
    return replace(arena, data=data, pixels=pixels_of(np.ascontiguousarray(images)))


def unlabelled(world: str, rows: np.ndarray, cls: np.ndarray, luck: np.random.Generator) -> np.ndarray:
    """POOL rows of a world."""
    share = np.array([1.0] * 7 if world == "alike" else 10 ** -(np.arange(7) / 6))
    unknown = POOL // 3 if "unknown" in world else 0
    counts = np.round((POOL - unknown) * share / share.sum()).astype(int)
    counts = [*counts, *([unknown // 3] * 3)]
    return np.concatenate([luck.permutation(rows[cls == c])[:n] for c, n in enumerate(counts)])


def tune() -> None:
    """One network of the source; draws of labels, and of a pool for each world."""
    arena = Arena.open("fashion-mnist", 28, NET, "32-true")
    names, none = arena.data.names[:7], np.empty(0, np.int64)
    rows = arena.train[arena.cls[arena.train] < 7]
    begun = time.process_time()
    first = arena.bench(rows, arena.cls[rows], none, names, 0)
    net = trained(first, "supervised", steps=600, batch=64)
    own = arena.test[arena.cls[arena.test] < 7]
    write("tune", "source", "supervised", 6000, 0, right(arena, first, net, own, arena.cls[own]), begun)
    luck = np.random.default_rng(139)
    some = np.r_[drawn(arena.train, arena.cls[arena.train], 1000, luck), drawn(own, arena.cls[own], 300, luck)]
    there = target_of(arena, some)
    pool, test = np.arange(10_000), np.arange(10_000, len(some))
    known = pool[there.cls[pool] < 7]
    bench = started(there.bench(known[:7], there.cls[known[:7]], none, names, 0), net)
    begun = time.process_time()
    write("tune", "any", "as it is", 0, 0, right(there, bench, net, test, there.cls[test]), begun)
    truth = there.cls[test]
    for draw in range(DRAWS):
        for shots in SHOTS:
            mine = drawn(known, there.cls[known], shots, np.random.default_rng([shots, draw]))
            bench = started(there.bench(mine, there.cls[mine], none, names, draw), net)
            for arm, (settings, rate) in TUNING.items():
                begun = time.process_time()
                tuned = trained(bench, "few-shot-tuning", settings, steps=STEPS, optim=rate)
                write("tune", "any", arm, shots, draw, right(there, bench, tuned, test, truth), begun)
        for world in WORLDS:
            free = unlabelled(world, pool, there.cls[pool], np.random.default_rng([7, draw]))
            bench = started(there.bench(none, none, free, names, draw), net)
            for arm, diversity in (("entropy", 0.0), ("entropy and its mean's", 1.0)):
                begun = time.process_time()
                found = trained(bench, Entropy(diversity), steps=STEPS, batch=64, optim=Optim(lr=0.01))
                write("tune", world, arm, 0, draw, right(there, bench, found, test, truth), begun)


def table() -> str:
    """Mean and standard deviation over draws, in Markdown."""
    import csv

    rows = list(csv.DictReader((RESULTS / "frozen.csv").open()))
    lines = ["| part | world | arm | labels a class | draws | accuracy, % (sd) |", "|---|---|---|---|---|---|"]
    keys = ("part", "world", "arm", "labels")
    for key in dict.fromkeys(tuple(r[k] for k in keys) for r in rows):
        value = np.array([100 * float(r["accuracy"]) for r in rows if tuple(r[k] for k in keys) == key])
        sd = f" ({value.std(ddof=1):.1f})" if len(value) > 1 else ""
        lines.append(f"| {' | '.join(key)} | {len(value)} | {value.mean():.1f}{sd} |")
    return "\n".join(lines)


def main() -> None:
    """Run the parts that have no results yet; print the table."""
    argparse.ArgumentParser(prog="python -m benchmarks.frozen", description=__doc__).parse_args()
    for part in (probe, tune):
        if (part.__name__,) not in done("frozen", "part"):
            part()
    print(table())


if __name__ == "__main__":
    main()
