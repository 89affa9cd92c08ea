"""Write a run's report again, as one page without scripts or outside requests.

python examples/report.py RUN
"""

from __future__ import annotations

import sys

import modicum


def main(run: str) -> None:
    page = modicum.report(run)
    print(f"{page}: {page.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
