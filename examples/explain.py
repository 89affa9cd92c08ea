"""Draw where a trained network looks for its answer, and say in one sentence what each map shows.

python examples/explain.py RUN OUT IMAGES...

The first argument of `modicum.explain` may be any torch module too, with images as it wants them: see its docstring.
"""

from __future__ import annotations

import sys
from pathlib import Path

import modicum
from modicum.engine.inputs import Inputs
from modicum.evaluate.marks import marks, sentence
from modicum.report.panels import Panel, joined, over, plain, png


def main(run: str, out: str, *images: str) -> None:
    seen = modicum.explain(run, list(images), sanity=True)
    ((method, layer),) = seen.maps
    Path(out).mkdir(exist_ok=True)
    for one, heat, sure in zip(Inputs.of(images), seen.maps[method, layer][:, 0].numpy(), seen.probs[:, 0].tolist()):
        picture, name = plain(one.pixels), Path(one.name).stem
        page = joined([[Panel(picture, (name,)), Panel(over(picture, heat), (f"{sure:.2f}", method))]])
        Path(out, f"{name}.png").write_bytes(png(page))
        print(f"{name}: {sentence('where it sees its class', sure, marks(heat))}")
    for text in seen.warnings:
        print(f"careful: {text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
