"""Write images and labels as another format: folders, table, parquet or idx.

python examples/convert.py DATA OUT FORMAT
"""

from __future__ import annotations

import sys

import modicum


def main(data: str, out: str, to: str = "parquet") -> None:
    done = modicum.convert(data, out, to)
    print(f"{len(done.data)} images as {to}: {done.folder}")
    for line in done.lost:
        print(f"not held: {line}")


if __name__ == "__main__":
    main(*sys.argv[1:])
