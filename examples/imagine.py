"""Make images of digits that nobody wrote down, with tags, as a set that `fit` reads.

python examples/imagine.py OUT [CUTOUTS]
"""

from __future__ import annotations

import sys

import modicum


def main(out: str, cutouts: str = "sample:digits") -> None:
    made = modicum.imagine("3,5", out, number=4, cutouts=cutouts)
    print(made.said)


if __name__ == "__main__":
    main(*sys.argv[1:])
