"""Train a classifier from a folder with a few labels; the same call again resumes an interrupted run.

python examples/fit.py FOLDER [RUN]
"""

from __future__ import annotations

import sys
from typing import Any

import modicum


def main(folder: str, out: str = "modicum-run", **asked: Any) -> None:
    run = modicum.fit(folder, out, **asked)  # asked: what `modicum fit --help` lists, such as minutes=5
    found = run.read("evaluation.json")
    for arm, measures in found["arms"].items():
        value, low, high = measures["accuracy"]
        print(f"{arm:>16}  {value:.1%} ({low:.1%} to {high:.1%})")
    print(found["verdict"]["sentence"])
    print(f"report: {run.folder / 'report.html'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
