"""Shared by all tests: one thread a process, no hub, and where the sample data lies."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real sample sets; the test is skipped where it is absent."""
    folder = Path(os.environ.get("MODICUM_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("sample data are not here: set MODICUM_DATA")
    return folder
