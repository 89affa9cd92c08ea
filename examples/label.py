"""From the votes of several annotators to one label an image, with how sure it is.

FOLDER holds images and a table with the columns image, annotator and class, one line a vote.

    python examples/label.py FOLDER
"""

from __future__ import annotations

import sys

import modicum
from modicum.data.read import read


def main(folder: str) -> None:
    ids = read(folder).data.ids
    for method in ("majority", "dawid-skene"):
        made = modicum.label(folder, method)
        given = made.of_kind("class")
        for row, cls, sure in zip(*(given[c].to_pylist() for c in ("row", "class", "confidence")), strict=True):
            print(f"{method:>12}  {ids[row]}  {made.names[cls]}  {sure:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
