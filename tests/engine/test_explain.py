"""`modicum.explain`: a torch module with images as it wants them, or a run's folder with image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import modicum
from modicum.core.errors import DataError, RunError
from modicum.engine.fit import fit


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.maps, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.maps(x).mean((2, 3)))


def test_a_torch_module_is_explained() -> None:
    found = modicum.explain(Small(), torch.rand(2, 3, 8, 8), targets=1, methods="grad-cam", layers="maps")
    assert found.maps["grad-cam", "maps"].shape == (2, 1, 6, 6) and found.scores.shape == (2, 1)
    assert not found.warnings


def test_a_run_is_explained_by_files_folders_or_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODICUM_CACHE", str(tmp_path / "cache"))
    quick = {"twins": "none", "labels": 2, "side": 16, "judge": "none", "export": False, "precision": "32"}
    run = fit("sample:digits", tmp_path / "run", steps=2, **quick)
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (16, 16, 1), np.uint8).repeat(3, 2)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    files = [tmp_path / f"{i}.png" for i in range(3)]
    by_name = modicum.explain(run.folder, files).maps
    (one,) = modicum.explain(str(run.folder), files[2]).maps.values()
    ((key, maps),) = by_name.items()
    assert key == ("cam", "spatial") and maps.shape[:2] == (3, 1) and torch.allclose(one, maps[2:], atol=1e-6)
    given = modicum.explain(run.folder, torch.rand(2, 1, 16, 16), methods=["grad-cam", "eigen-cam"])
    assert set(given.maps) == {("grad-cam", "spatial"), ("eigen-cam", "spatial")}
    with pytest.raises(DataError, match="no such file"):
        modicum.explain(run.folder, tmp_path / "none.png")
    with pytest.raises(RunError):
        modicum.explain(tmp_path / "none", files)
