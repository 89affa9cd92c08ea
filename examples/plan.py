"""Which methods lead from the labels in a folder to a classifier, and what a folder of tags would lack.

python examples/plan.py FOLDER
"""

from __future__ import annotations

import sys

import modicum
from modicum.core.errors import NeedsError


def main(folder: str) -> None:
    for chain in modicum.plan("class", data=folder).chains:
        print(" > ".join(chain.names), f"(cost {chain.cost:g})")
    try:
        modicum.plan("class", have="image")
    except NeedsError as error:
        print(f"with images alone: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
