"""Put a method through the conformance suite.

python examples/check.py METHOD
"""

from __future__ import annotations

import sys

import modicum


def main(method: str) -> None:
    for result in modicum.check(method):
        print(f"{'passed' if result.ok else 'FAILED'}  {result.check}  {result.message}".rstrip())


if __name__ == "__main__":
    main(*sys.argv[1:])
