"""Classify new images with an exported network.  Needs onnxruntime, Pillow and numpy; torch is not imported.

python examples/predict.py RUN IMAGES...
"""

from __future__ import annotations

import sys

import modicum


def main(run: str, *images: str) -> None:
    for answer in modicum.predict(run, images):
        if answer.fault:
            print(f"{answer.id}: cannot be read: {answer.fault}")
        else:
            print(f"{answer.id}: {answer.name}, probability {answer.confidence:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
