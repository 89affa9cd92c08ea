"""`python -m benchmarks.explainers`: how well each explain method shows where things are.

Scenes: those of `benchmarks.localise` on textured ground, one plain classifier a seed, every method on it; boxes and
masks of the digit.  Photographs: MobileNetV2 with ImageNet's weights on COCO's pictures, nothing trained.  Of every
class that ImageNet has too, the likeliest of its ImageNet classes is explained, and the map is held against all objects
of the class (PxAP; other pixels are background).  There Score-CAM sees the 32 strongest channels.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arena import RESULTS, done, keep

METHODS = (
    "cam", "grad-cam", "grad-cam-pp", "smooth-grad-cam-pp", "xgrad-cam", "hires-cam", "layer-cam", "eigen-cam",
    "eigen-grad-cam", "score-cam", "ablation-cam", "guided-grad-cam",
)  # fmt: skip
FEW = {"score-cam": "score-cam:top=32"}
NOTHING = ("chance", "the middle", "edges")
KEYS = ("data", "seed")
PXAP, BOXES = "pxap", "boxes"
SIDE, BATCH = 224, 8
SAME = {
    "bicycle": ("bicycle-built-for-two", "mountain bike"), "airplane": ("airliner",), "motorcycle": ("motor scooter",),
    "bus": ("school bus", "minibus", "trolleybus"), "train": ("bullet train", "electric locomotive"),
    "boat": ("speedboat", "canoe", "lifeboat", "catamaran", "yawl"), "traffic light": ("traffic light",),
    "parking meter": ("parking meter",), "bench": ("park bench",), "cat": ("tabby", "tiger cat", "Egyptian cat"),
    "dog": ("golden retriever", "Labrador retriever", "beagle", "pug", "Chihuahua", "German shepherd"),
    "sheep": ("ram", "bighorn"), "cow": ("ox",), "horse": ("sorrel",), "zebra": ("zebra",),
    "elephant": ("Indian elephant", "African elephant", "tusker"), "bear": ("brown bear", "American black bear"),
    "backpack": ("backpack",), "umbrella": ("umbrella",), "skis": ("ski",), "banana": ("banana",),
    "orange": ("orange",), "broccoli": ("broccoli",), "hot dog": ("hotdog",), "pizza": ("pizza",),
    "couch": ("studio couch",), "dining table": ("dining table",), "toilet": ("toilet seat",),
    "laptop": ("laptop", "notebook"), "mouse": ("mouse",), "remote": ("remote control",),
    "keyboard": ("computer keyboard",), "cell phone": ("cellular telephone",), "microwave": ("microwave",),
    "refrigerator": ("refrigerator",), "clock": ("analog clock", "wall clock"), "vase": ("vase",),
    "teddy bear": ("teddy",),
}  # fmt: skip
"""Classes of COCO, and what ImageNet calls them."""


# -- scenes ----------------------------------------------------------------------------------------------------------


def on_scenes(seed: int) -> Iterator[dict[str, Any]]:
    """A row a method, of one classifier."""
    from benchmarks import localise
    from modicum.evaluate.sanity import centre_maps, edge_maps, random_maps

    parts = zip(
        localise.scenes("texture", "train", localise.TRAIN, seed),
        localise.scenes("texture", "t10k", localise.HELD + localise.TEST, seed),
    )
    images, cls, masks = (np.concatenate(both) for both in parts)
    arena = localise.arena_of(images, cls, localise.CONV)
    net = localise.trained(arena, "supervised", {}, localise.STEPS, seed)
    images, cls, masks = (a[localise.TRAIN :] for a in (images, cls, masks))
    size = images.shape[1:3]
    given = (random_maps(len(cls), size), centre_maps(len(cls), size), edge_maps(images.transpose(0, 3, 1, 2)))
    for name in (*METHODS, *NOTHING):
        begun = time.process_time()
        maps = localise.seen(net, images, cls, (name,))[name] if name in METHODS else given[NOTHING.index(name)]
        took = (time.process_time() - begun) / len(cls)
        found = localise.measured(maps, cls, masks)
        yield {
            "data": "scenes", "method": name, "seed": seed, "images": localise.TEST, PXAP: f"{found['pxap']:.4f}",
            BOXES: f"{found['boxes']:.4f}", "ms": f"{1e3 * took:.2f}" if name in METHODS else "",
        }  # fmt: skip


# -- photographs -----------------------------------------------------------------------------------------------------


class Thing(NamedTuple):
    """pixels: uint8 (H,W,3).  cls: of COCO.  mask: bool (H,W), all objects of the class."""

    pixels: np.ndarray
    cls: int
    mask: np.ndarray


def imagenet() -> Any:
    """MobileNetV2 by torchvision with the stored weights, in eval mode (shared weights: README there)."""
    import torch
    import torchvision
    from torch import nn
    from torch.nn import functional as F

    from benchmarks.__main__ import data_home

    held = np.load(data_home() / "weights" / "mobilenet_v2_imagenet_int8.npz", allow_pickle=False)
    net = torchvision.models.mobilenet_v2()
    parts: dict[str, Any] = dict(net.named_modules())

    class Same(nn.Module):
        """One row and column of zeros after the last: TensorFlow's padding."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.pad(x, (0, 1, 0, 1))

    for name in [k.removesuffix(".weight_q") for k in held.files if k.endswith(".weight_q")]:
        q = held[name + ".weight_q"].astype("float32")
        scale = held[name + ".weight_scale"].reshape([-1] + [1] * (q.ndim - 1))
        part = parts[name]
        part.weight.data = torch.from_numpy(q * scale)
        part.bias = nn.Parameter(torch.from_numpy(held[name + ".bias"]))
        if name != "classifier.1":
            above, at = name.rsplit(".", 1)
            parts[above][int(at) + 1] = nn.Identity()
            if part.stride == (2, 2):
                part.padding = (0, 0)
                parts[above][int(at)] = nn.Sequential(Same(), part)
    return net.eval()


def things() -> Iterator[Thing]:
    """Every class of SAME in every picture that has outlines."""
    import io
    import json

    import pyarrow.parquet as pq
    from PIL import Image

    from benchmarks.__main__ import data_home

    home = data_home() / "coco384"
    names = json.loads((home / "classes.json").read_text())["things80"]
    for row in pq.read_table(home / "coco384.parquet").to_pylist():
        if row["instances"] is None:
            continue
        pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))
        instance = np.asarray(Image.open(io.BytesIO(row["instances"]["bytes"])))
        classes = np.array([-1, *row["instance_categories"]])[instance]
        for cls in sorted(set(row["instance_categories"])):
            mask = classes == cls
            if names[cls] in SAME and mask.any():
                yield Thing(pixels, names.index(names[cls]), mask)


def targets() -> dict[int, list[int]]:
    """COCO's class -> classes of ImageNet."""
    import json

    from benchmarks.__main__ import data_home

    names = json.loads((data_home() / "coco384" / "classes.json").read_text())["things80"]
    lines = (data_home() / "weights" / "synset_words.txt").read_text().splitlines()
    first = {line.split(" ", 1)[1].split(",")[0].strip(): i for i, line in enumerate(lines)}
    return {names.index(name): [first[word] for word in words] for name, words in SAME.items()}


def on_photographs() -> Iterator[dict[str, Any]]:
    """A row a method."""
    import torch

    from modicum.data.images import square
    from modicum.evaluate.localise import pxap
    from modicum.evaluate.sanity import centre_maps, edge_maps, random_maps
    from modicum.functional.regions import at_size
    from modicum.nn.capture import explain

    net, known, seen = imagenet(), targets(), list(things())
    x = np.stack([square(t.pixels, SIDE, 3) for t in seen]).astype(np.float32) / 127.5 - 1
    images = torch.from_numpy(x).permute(0, 3, 1, 2)
    masks = [_to(t.mask) for t in seen]
    with torch.no_grad():
        logits = torch.cat([net(images[i : i + 32]) for i in range(0, len(images), 32)])
    cls = torch.tensor([max(known[t.cls], key=lambda c: float(row[c])) for t, row in zip(seen, logits, strict=True)])
    size = (SIDE, SIDE)
    given = (random_maps(len(cls), size), centre_maps(len(cls), size), edge_maps(images.numpy()))
    for name in (*METHODS, *NOTHING):
        begun, out = time.process_time(), []
        for i in range(0, len(cls) if name in METHODS else 0, BATCH):
            found = explain(net, images[i : i + BATCH], cls[i : i + BATCH], FEW.get(name, name)).maps
            out.append(at_size(next(iter(found.values())), size)[:, 0].numpy())
        took = (time.process_time() - begun) / len(cls)
        maps = np.concatenate(out) if out else given[NOTHING.index(name)]
        yield {
            "data": "photographs", "method": name, "seed": 0, "images": len(cls), PXAP: f"{pxap(maps, masks):.4f}",
            BOXES: "", "ms": f"{1e3 * took:.2f}" if out else "",
        }  # fmt: skip


def _to(mask: np.ndarray) -> np.ndarray:
    """A mask squeezed as its picture is, bool (SIDE,SIDE)."""
    y, x = (((np.arange(SIDE) + 0.5) * n / SIDE).astype(np.int64) for n in mask.shape)
    return np.asarray(mask[y[:, None], x])


# -- results ---------------------------------------------------------------------------------------------------------


def table() -> str:
    """Means over seeds, in Markdown."""
    rows = list(csv.DictReader((RESULTS / "explainers.csv").open(encoding="utf-8")))
    lines = ["| data | method | seeds | images | PxAP, % (sd) | MaxBoxAccV2, % (sd) | CPU ms an image |"]
    lines.append("|" + "---|" * 7)

    def of(mine: list[dict[str, str]], name: str) -> str:
        values = np.array([100 * float(r[name]) for r in mine if r[name]])
        sd = f" ({values.std(ddof=1):.1f})" if len(values) > 1 else ""
        return f"{values.mean():.1f}{sd}" if len(values) else ""

    for data, method in dict.fromkeys((r["data"], r["method"]) for r in rows):
        mine = [r for r in rows if (r["data"], r["method"]) == (data, method)]
        spent = [float(r["ms"]) for r in mine if r["ms"]]
        lines.append(
            f"| {data} | {method} | {len(mine)} | {mine[0]['images']} | {of(mine, PXAP)} | {of(mine, BOXES)} | "
            f"{f'{np.mean(spent):.1f}' if spent else ''} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Fill what is missing; print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explainers", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    there = done("explainers", *KEYS)
    if ("photographs", "0") not in there:
        for row in list(on_photographs()):
            keep("explainers", row)
    for seed in range(asked.seeds):
        if ("scenes", str(seed)) not in there:
            for row in list(on_scenes(seed)):
                keep("explainers", row)
    print(table())


if __name__ == "__main__":
    main()
