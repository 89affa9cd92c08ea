"""`python -m modicum`."""

from __future__ import annotations

import sys

from modicum.cli import main

if __name__ == "__main__":
    sys.exit(main())
