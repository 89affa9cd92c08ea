"""Boxes as people really draw them: what is odd is named with its file and row, and what is left trains a detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modicum.core.errors import ModicumError
from modicum.data.read import Read, read
from modicum.engine.fit import fit

SIDES = {"one.png": 1, "empty.png": 40, "full.png": 60, **{f"{i}.png": 32 for i in range(9)}}
ODD: list[tuple[list[float], str]] = [
    ([4, 4, 0, 9], "without area"), ([4, 4, 9, -3], "without area"), ([900, 4, 9, 9], "outside of its image"),
    ([20, 20, 30, 30], "it is cut"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images, one of a single pixel, one with 100 boxes, one without any; a class of which there is no box."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    images, said = [], []
    for i, (name, side) in enumerate(SIDES.items()):
        Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8)).save(tmp_path / "images" / name)
        images.append({"id": i, "file_name": name, "height": side, "width": side})
        if name == "full.png":
            said += [(i, [6 * (k % 10), 6 * (k // 10), 5, 5], k % 2) for k in range(100)]
        elif name != "empty.png":
            said.append((i, [0, 0, min(side, 20), min(side, 12)], i % 2))
    said += [(5, box, 0) for box, _ in ODD]
    boxes = [{"id": k, "image_id": i, "bbox": box, "category_id": c} for k, (i, box, c) in enumerate(said)]
    names = [{"id": c, "name": name} for c, name in enumerate(("cat", "dog", "nowhere"))]
    content = {"images": images, "annotations": boxes, "categories": names}
    (tmp_path / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


def test_what_is_odd_is_named_and_the_rest_is_read(folder: Path) -> None:
    found = read(folder)
    assert len(found.faults) == len(ODD)
    for k, (fault, (_, reason)) in enumerate(zip(found.faults, ODD, strict=True)):
        assert fault.where == f"annotations.json: annotation {110 + k}" and reason in fault.reason
    boxes = found.data.of_kind("boxes")
    assert boxes.num_rows == 100 + 10 + 1 and found.data.names == ("cat", "dog", "nowhere")
    frame = np.stack([boxes[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1)
    ids = [Path(i).name for i in found.data.ids]
    side = np.array([SIDES[name] for name in ids])[boxes["row"].to_numpy()]
    assert (frame[:, 2:] > frame[:, :2]).all() and (frame >= 0).all() and (frame.max(1) <= side).all()
    looked = dict(zip(found.data.looked["row"].to_pylist(), found.data.looked["complete"].to_pylist(), strict=True))
    assert [i for i, done in looked.items() if not done] == [ids.index("2.png")], "of this image boxes were left out"
    assert looked[ids.index("empty.png")] == 1


def test_a_detector_is_trained_on_them_and_measured(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("odd")
    monkeypatch.setenv("MODICUM_CACHE", str(home / "cache"))
    quick: dict[str, Any] = {"steps": 3, "batch": 4, "precision": "32", "net": "tiny-conv:width=4", "side": 32}
    quick["export"] = False
    run = fit(folder, home / "run", want="boxes", test=0.4, **quick)
    found = run.read("evaluation.json")
    assert found["lead"] == "ap50" and found["classes"] == ["cat", "dog", "nowhere"]
    assert found["test"]["counts"][2] == 0 and (run / "report.html").is_file()
    if found["boxes"]:
        assert found["boxes"]["precision"][2] is None


@pytest.mark.parametrize(
    ("form", "line", "where", "reason"),
    [
        ("yolo", "0 nan 0.5 0.2 0.2", "labels/a.txt", "not finite"),
        ("yolo", "0 0.5 0.5 0 0.2", "labels/a.txt", "area"),
        ("yolo", "0 5 5 0.2 0.2", "labels/a.txt", "outside"),
        ("voc", "<xmin>nan</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>", "Annotations/a.xml", ""),
        ("voc", "<xmin>5</xmin><ymin>1</ymin><xmax>2</xmax><ymax>5</ymax>", "Annotations/a.xml", "area"),
        ("coco", "NaN", "a.json", "NaN is not a number"), ("coco", "1e999", "a.json", "too large"),
    ],
)  # fmt: skip
def test_each_format_names_the_file(tmp_path: Path, form: str, line: str, where: str, reason: str) -> None:
    top = {"yolo": "images", "voc": "JPEGImages", "coco": "images"}[form]
    (tmp_path / top).mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / top / "a.png")
    if form == "yolo":
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "a.txt").write_text(f"{line}\n0 0.5 0.5 0.5 0.5\n")
        (tmp_path / "classes.txt").write_text("cat\n")
    elif form == "voc":
        (tmp_path / "Annotations").mkdir()
        thing = f"<object><name>cat</name><bndbox>{line}</bndbox></object>"
        (tmp_path / "Annotations" / "a.xml").write_text(
            f"<annotation><filename>a.png</filename><size><width>20</width><height>20</height></size>{thing}</annotation>"
        )
    else:
        one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": ["here", 1, 5, 5]}
        image, cat = {"id": 1, "file_name": "a.png"}, {"id": 1, "name": "cat"}
        text = json.dumps({"images": [image], "categories": [cat], "annotations": [one]})
        (tmp_path / "a.json").write_text(text.replace('"here"', line))
    told = _told(tmp_path, form)
    assert any(where in place and reason in why for place, why in told), told


def _told(folder: Path, form: str) -> list[tuple[str, str]]:
    """What is said to be wrong, as faults or as the error: where and why."""
    try:
        found: Read = read(folder, form)
    except ModicumError as error:
        return [(error.found, error.found)]
    return [(fault.where, fault.reason) for fault in found.faults]
