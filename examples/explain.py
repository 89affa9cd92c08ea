"""Draw where a trained network looks for its answer, and say how much of the map lies in its brightest tenth.

python examples/explain.py RUN OUT IMAGES...

The first argument of `modicum.explain` may be any torch module too, with images as it wants them: see its docstring.
"""

from __future__ import annotations

import sys
from pathlib import Path

import modicum
from modicum.data.images import decode
from modicum.engine.verbs import images_in
from modicum.report.pictures import beside


def main(run: str, out: str, *images: str) -> None:
    seen = modicum.explain(run, list(images))
    ((method, layer),) = seen.maps
    Path(out).mkdir(exist_ok=True)
    for file, heat, sure in zip(images_in(list(images)), seen.maps[method, layer][:, 0], seen.probs[:, 0], strict=True):
        Path(out, f"{file.stem}.png").write_bytes(beside(decode(file), heat.numpy()))
        share = heat.relu().flatten().sort(descending=True).values[: -(-heat.numel() // 10)].sum() / heat.relu().sum()
        print(f"{file.name}: where it sees a class of probability {sure:.2f} ({method}): {share:.0%} in one tenth")
    for text in seen.warnings:
        print(f"careful: {text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
