"""Draw where a trained network looks for its answer.

python examples/explain.py RUN OUT IMAGES...
"""

from __future__ import annotations

import sys

import modicum


def main(run: str, out: str, *images: str) -> None:
    drawn = modicum.explain(run, list(images), out)
    for file, name in zip(drawn.files, drawn.classes, strict=True):
        print(f"{file}: where it sees {name!r}")
    for text in drawn.warnings:
        print(f"careful: {text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
