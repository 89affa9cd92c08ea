"""The whole job on handwritten digits, and the figures that it wrote.

python examples/demo.py [OUT]
"""

from __future__ import annotations

import sys

import modicum


def main(out: str = "modicum-demo") -> None:
    found = modicum.demo(out)
    for labels, figures in found["labels"].items():
        for arm, (value, low, high) in figures["seeds"][0]["accuracy"].items():
            print(f"{labels} labels a class, {arm:>16}: {value:.1%} (95 % interval {low:.1%} to {high:.1%})")
    print(f"open {out}/report.html in a browser")


if __name__ == "__main__":
    main(*sys.argv[1:])
