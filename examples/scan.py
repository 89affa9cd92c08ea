"""What is in a folder: counts, traits, and files that cannot be used.

python examples/scan.py FOLDER
"""

from __future__ import annotations

import sys

import modicum


def main(folder: str) -> None:
    seen = modicum.scan(folder)
    print("\n".join(seen.lines()))
    for trait, numbers in seen.traits.items():
        print(f"the labels or images are {trait}: {numbers}")
    for fault in seen.faults[:5]:
        print(f"skipped {fault.where}: {fault.reason}")


if __name__ == "__main__":
    main(*sys.argv[1:])
