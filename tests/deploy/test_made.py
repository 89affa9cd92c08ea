"""What predict wrote is passed over when folders are walked, and what it did not write is not written over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.core.errors import SettingsError
from modicum.deploy.boxes import write_boxes
from modicum.deploy.export import export
from modicum.deploy.made import aside
from modicum.deploy.masks import write_masks
from modicum.deploy.predict import files_of
from modicum.nn.detect import detecting
from modicum.nn.segment import segmenting

from .conftest import CLASSES, digits, warm


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained networks that find boxes and masks."""
    out: dict[str, Path] = {}
    for tells, make in (("boxes", lambda net: detecting(net, width=8, depth=1)), ("masks", segmenting)):
        path = tmp_path_factory.mktemp(tells) / "model.onnx"
        meta = {"classes": CLASSES, "side": 16, "channels": 1, "temperature": None, "tells": tells}
        export(make(warm("tiny-conv:width=4", digits(16, 64))).eval(), meta, digits(16, 20), path, runs=1)
        out[tells] = path
    return out


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 20), 90, np.uint8)).save(tmp_path / name)
    return tmp_path


def walked(photos: Path) -> list[str]:
    return [p.relative_to(photos).as_posix() for p in files_of([photos])]


def test_what_was_drawn_is_no_photograph(models: dict[str, Path], photos: Path) -> None:
    before = walked(photos)
    assert before == ["a.png", "sub/b.png"]
    for _ in range(2):  # and may be written again
        assert write_boxes(models["boxes"], [photos], photos / "sub" / "annotations", sure=0.05) == 2
        assert len(list(write_masks(models["masks"], [photos], photos / "masks"))) == 2
        assert walked(photos) == before
    assert sorted(p.name for p in (photos / "masks").iterdir()) == ["a.png", "b.png", "classes.txt"]
    drawn = photos / "sub" / "annotations" / "pictures"
    assert len(list(files_of([drawn]))) == 2, "a folder that is named is looked into"
    labels = json.loads((photos / "sub" / "annotations" / "instances.json").read_text(encoding="utf-8"))
    assert len(labels["images"]) == 2 and labels["info"]["least_score"] == 0.05
    assert aside(photos / "masks") and not aside(photos) and not aside(photos / "missing")


def test_other_folders_are_walked_as_before(photos: Path) -> None:
    for name in ("annotations", "pictures", "masks"):
        (photos / name).mkdir()
        (photos / "a.png").rename(photos / name / "c.png")
        (photos / name / "instances.json").write_text('{"info": {}}')
        (photos / name / "classes.txt").write_text("cat\ndog\n")
        assert f"{name}/c.png" in walked(photos)
        (photos / name / "c.png").rename(photos / "a.png")


@pytest.mark.parametrize("name", ["instances.json", "results.json"])
def test_a_persons_boxes_are_not_written_over(models: dict[str, Path], photos: Path, name: str) -> None:
    home = photos / "annotations"
    home.mkdir()
    (home / name).write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(SettingsError, match=f"{name} lies there"):
        write_boxes(models["boxes"], [photos], home)
    assert [p.name for p in home.iterdir()] == [name] and "annotations" in (home / name).read_text()


def test_photographs_and_a_persons_masks_are_not_written_over(models: dict[str, Path], photos: Path) -> None:
    before = (photos / "a.png").read_bytes()
    with pytest.raises(SettingsError, match=r"a\.png lies there"):
        list(write_masks(models["masks"], [photos], photos))
    assert (photos / "a.png").read_bytes() == before and not (photos / "classes.txt").exists()
    (photos / "masks").mkdir()
    (photos / "masks" / "classes.txt").write_text("background\ncat\n")
    Image.fromarray(np.ones((20, 20), np.uint8)).save(photos / "masks" / "a.png")
    with pytest.raises(SettingsError, match="predict did not write it"):
        list(write_masks(models["masks"], [photos], photos / "masks"))
