"""Which images a person should label next.

python examples/select.py RUN [BUDGET]
"""

from __future__ import annotations

import sys

import modicum


def main(run: str, budget: str = "10") -> None:
    table, positions = modicum.select(run, int(budget))
    for name in table.data.ids[table.rows[positions]]:
        print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
