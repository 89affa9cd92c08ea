"""Grades of maps: that baselines are there, that they agree with evaluate/, and that drawn boxes and masks are used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modicum.core.errors import DataError
from modicum.data.masks import Painter
from modicum.data.read import read
from modicum.engine import grade as grading
from modicum.engine.fit import fit
from modicum.engine.grade import FILE, SCORES, grade, save
from modicum.engine.table import Finished
from modicum.evaluate import localise
from modicum.evaluate.sanity import centre_maps

pytestmark = pytest.mark.xdist_group("grade")
FAITHFUL, PLACES = list(SCORES)[:5], list(SCORES)[5:]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    patch, home = pytest.MonkeyPatch(), tmp_path_factory.mktemp("grade")
    patch.setenv("MODICUM_CACHE", str(home / "cache"))
    quick: dict[str, Any] = {"twins": "none", "judge": "none", "export": False, "precision": "32", "side": 32}
    folder = fit("sample:scenes", home / "run", want="tags", steps=10, batch=8, **quick).folder
    patch.undo()
    return folder


def test_every_kind_of_map_is_graded_beside_three_that_saw_no_network(run: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = grade(run, ["sample:scenes"], ["cam", "eigen-cam"], most=6, progress=lambda n, of: steps.append((n, of)))
    assert list(found.scores) == ["cam", "eigen-cam", "random", "centre", "edges"] and steps[-1] == (5, 5)
    assert found.images == 6 and found.drawn >= 6
    for scores in found.scores.values():
        assert list(scores) == FAITHFUL + PLACES
        assert all(v.low <= v.value <= v.high for v in scores.values())
    page = json.loads(save(found, tmp_path / "new").read_text(encoding="utf-8"))
    assert (tmp_path / "new" / FILE).is_file() and page["scores"]["cam"]["road"] == found.scores["cam"]["road"].json()
    assert page["about"]["deletion"]["higher"] is False and set(page["about"]) == set(SCORES)


def test_places_are_those_of_evaluate_localise(run: Path) -> None:
    """The centre's grades again, from the stored boxes and masks, at the images' own size."""
    most = 5
    found = grade(run, ["sample:scenes"], most=most).scores["centre"]
    data, side = read("sample:scenes").data, int(Finished.open(run).meta["side"])
    rows = np.linspace(0, len(data) - 1, most).round().astype(int)
    size, painter = 64, Painter(data)
    boxes: dict[tuple[int, int], list[list[float]]] = {}
    for box in data.of_kind("boxes").to_pylist():
        if box["row"] in rows:
            boxes.setdefault((box["row"], box["class"]), []).append([box[k] for k in ("x0", "y0", "x1", "y1")])
    pairs = sorted(boxes)
    maps = list(centre_maps(len(pairs), (side, side)))
    flat = np.array([[v * side / size for v in box] for p in pairs for box in boxes[p]])
    whose = np.repeat(np.arange(len(pairs)), [len(boxes[p]) for p in pairs])
    assert found["energy"].value == pytest.approx(localise.energy(maps, flat, whose).mean())
    assert found["pointing"].value == pytest.approx(localise.pointing(maps, flat, whose, near=0).mean())
    overlaps = localise.box_overlaps(maps, flat, whose)
    assert found["MaxBoxAccV2"].value == pytest.approx(localise.max_box_acc(overlaps).best)
    step = size // side
    masks = [(painter.whole(int(r))[step // 2 :: step, step // 2 :: step] == c + 1).astype(np.uint8) for r, c in pairs]
    assert found["PxAP"].value == pytest.approx(localise.pxap(maps, masks))


def test_images_without_drawings_are_graded_by_the_network_alone(run: Path, tmp_path: Path) -> None:
    for k in range(4):
        noise = np.random.default_rng(k).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{k}.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = grade(run, [tmp_path], layers=["stages.2", "spatial"], methods=["grad-cam"])
    assert found.images == 4 and found.drawn == 0 and [Path(w).name for w, _ in found.faults] == ["bad.png"]
    assert list(found.scores)[:2] == ["grad-cam at stages.2", "grad-cam at spatial"]
    assert list(found.scores["random"]) == FAITHFUL
    with pytest.raises(DataError, match="none of 1 images can be read"):
        grade(run, [tmp_path / "bad.png"])


def test_a_map_of_what_the_network_reads_beats_its_opposite(run: Path) -> None:
    """A network that reads the mean of the lower right quarter alone, and a method that marks just that."""

    class Corner(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            at = x.shape[2] // 2
            seen = 40 * (x[:, :, at:, at:].mean((1, 2, 3)) - 0.5)
            return type("Out", (), {"logits": torch.stack([seen, -seen], 1)})

    done = Finished.open(run)
    side = int(done.meta["side"])
    x = torch.rand(6, 3, side, side) * 0.2 + torch.tensor([0.7, 0.1] * 3)[:, None, None, None]
    fake = Finished(done.run, Corner(), {**done.meta, "temperature": None, "tells": "class"}, done.data)  # type: ignore[arg-type]
    good = np.zeros((6, side, side), np.float32)
    good[:, side // 2 :, side // 2 :] = 1
    best, worst = (grading._faithful(fake, x, maps, np.array([0, 1] * 3)) for maps in (good, 1 - good))
    assert best["average drop"].value == pytest.approx(0, abs=1e-3), "the corner alone says it"
    assert worst["average drop"].value == pytest.approx(0.5, abs=1e-3), "half of the images are bright there"
    assert best["deletion"].value < worst["deletion"].value - 0.1
