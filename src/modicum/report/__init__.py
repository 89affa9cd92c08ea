"""One self-contained page about a run, and the pictures in it."""

from __future__ import annotations
