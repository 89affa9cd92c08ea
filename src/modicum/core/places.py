"""Folders of the user's that Modicum keeps things in."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path:
    """Where pixel caches live: MODICUM_CACHE, else the user's cache folder.  It can be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else "")
    return Path(os.environ.get("MODICUM_CACHE") or Path(base or Path.home() / ".cache") / "modicum")


def state_home() -> Path:
    """Where tracebacks of faults are kept: below XDG_STATE_HOME, else the user's folder for such things."""
    base = os.environ.get("XDG_STATE_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else "")
    return Path(base or Path.home() / ".local" / "state") / "modicum"
