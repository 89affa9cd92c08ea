"""Write a run's network as one ONNX file that was compared with it on real images.

python examples/export.py RUN FILE.onnx
"""

from __future__ import annotations

import sys

import modicum


def main(run: str, file: str) -> None:
    found = modicum.export(run, file)
    print(f"{file}: {found['bytes'] / 1e3:.0f} kB, logits differ by at most {found['largest_difference']:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
