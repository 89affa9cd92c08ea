"""The labels of a run that look most like mistakes.

python examples/score.py RUN
"""

from __future__ import annotations

import sys

import numpy as np

import modicum


def main(run: str, method: str = "self-confidence") -> None:
    table, values = modicum.score(run, method, rows="class")
    print(f"larger means {modicum.methods('score')[method].higher}")
    for i in np.argsort(-values)[:10]:
        print(f"{values[i]:.3f}  {table.data.ids[table.rows[i]]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
