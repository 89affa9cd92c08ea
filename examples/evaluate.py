"""The measures of a run, on its test split or on other labelled images.

python examples/evaluate.py RUN [FOLDER]
"""

from __future__ import annotations

import sys

import modicum


def main(run: str, folder: str | None = None) -> None:
    found = modicum.evaluate(run, folder)
    for arm, measures in found["arms"].items():
        value, low, high = measures["accuracy"]
        print(f"{arm:>16}  {value:.1%} ({low:.1%} to {high:.1%})")
    print(found["verdict"]["sentence"])


if __name__ == "__main__":
    main(*sys.argv[1:])
