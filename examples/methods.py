"""The methods there are, by role, from their cards; no method is imported.

python examples/methods.py [ROLE]
"""

from __future__ import annotations

import sys

import modicum


def main(role: str = "") -> None:
    for name, card in modicum.methods(role).items():
        print(f"{card.role:>8}  {name:22} {card.idea}")


if __name__ == "__main__":
    main(*sys.argv[1:])
