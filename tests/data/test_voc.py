"""Pascal VOC's XML: what is read, and what is not believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats.voc import parsed
from modicum.data.read import read

Put = Callable[..., Path]


def thing(name: str = "dog", box: tuple[object, ...] = (2, 3, 5, 7), more: str = "") -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def xml(root: Path, name: str, *things: str, size: tuple[int, int] = (20, 10), filename: str = "") -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    said = f"<filename>{filename}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
    file.write_text(f"<annotation>{said}{''.join(things)}</annotation>", encoding="utf-8")


def boxes(data: Dataset) -> list[tuple[object, ...]]:
    corners = ("x0", "y0", "x1", "y1")
    found = data.of_kind("boxes").to_pylist()
    return [(data.ids[r["row"]], data.names[r["class"]], r["value"], *(r[c] for c in corners)) for r in found]


@pytest.fixture
def root(put: Put) -> Path:
    for i, stem in enumerate("abcd"):
        top = put(f"VOC/JPEGImages/{stem}.png", i, (20, 10))
    return top


def test_boxes_splits_and_what_was_looked_at(root: Path) -> None:
    xml(root, "VOC/Annotations/a.xml", thing(), thing("cat & co".replace("&", "&amp;"), (1, 1, 20, 10)))
    xml(
        root, "VOC/Annotations/b.xml", thing(more="<difficult>1</difficult><part><name>head</name></part>"), size=(0, 0)
    )
    xml(root, "VOC/Annotations/c.xml")
    sets = root / "VOC/ImageSets/Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("a\n")
    (sets / "test.txt").write_text("b  1\nc -1\n\nnone\n")
    (sets / "trainval.txt").write_text("a\nb\n")
    found = read(root)
    data = found.data
    assert found.faults == [] and data.reader == "voc" and data.names == ("cat & co", "dog")
    assert boxes(data) == [
        ("VOC/JPEGImages/a.png", "dog", None, 1, 2, 5, 7), ("VOC/JPEGImages/a.png", "cat & co", None, 0, 0, 20, 10),
        ("VOC/JPEGImages/b.png", "dog", 0, 1, 2, 5, 7),
    ]  # fmt: skip
    assert data.field("split").tolist() == ["train", "test", "test", ""]
    assert [(r["row"], r["kind"], r["complete"]) for r in data.looked.to_pylist()] == [
        (i, "boxes", 1) for i in range(3)
    ]
    assert data.tags is not None and data.tags.tolist() == [[1, 1], [0, -1], [0, 0], [-1, -1]]
    (sets / "train.txt").unlink()
    assert read(root).data.field("split").tolist() == ["train", "test", "test", ""]


@pytest.mark.parametrize("bad, says", [
    (thing(box=(5, 3, 5, 7)), "a box without area: from 5, 3 to 5, 7"), (thing(box=(5, 3, 4, 7)), "without area"),
    (thing(box=(30, 3, 40, 7)), "outside of its image of 20 x 10"), (thing(box=("nan", 3, 4, 7)), "not finite"),
    (thing(box=("x", 3, 4, 7)), "xmin is 'x', expected a number"), (thing(box=(1, 2, 3)), "ymax is '', expected"),
    (thing(""), "a class without a name"), ("<object/>", "a class without a name"),
    (thing("a" * 300), "300 characters"),
])  # fmt: skip
def test_an_object_that_is_left_out(root: Path, bad: str, says: str) -> None:
    xml(root, "VOC/Annotations/a.xml", thing(), bad)
    xml(root, "VOC/Annotations/b.xml", thing("cat"))
    found = read(root)
    assert len(found.faults) == 1 and says in found.faults[0].reason
    assert found.faults[0].where == "VOC/Annotations/a.xml: object 2"
    assert len(boxes(found.data)) == 2 and found.data.looked["complete"].to_pylist() == [0, 1]


def test_a_box_that_leaves_its_image_is_cut(root: Path) -> None:
    xml(root, "VOC/Annotations/a.xml", thing(box=(0, 1, 20, 12)), thing(box=(0, 0.5, 20.5, 10)))
    found = read(root)
    assert [b[3:] for b in boxes(found.data)] == [(0, 0, 20, 10)] * 2
    assert [f.where[-8:] for f in found.faults] == ["object 1", "object 2"]  # xmin 0 lies a whole pixel outside


ENTITY = '<!DOCTYPE a [<!ENTITY x "dog">]><annotation><object><name>&x;</name></object></annotation>'


@pytest.mark.parametrize("text, says", [
    (ENTITY, "document type"), (ENTITY.encode("utf-16"), "document type"),
    ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "document type"),
    ("<annotation>", "not readable XML"), ("", "not readable XML"),
    ("<annotation>&x;</annotation>", "not readable XML"),
    ('<?xml version="1.0" encoding="nope"?><annotation/>', "not readable XML"),
    ("<html/>", "<html>, expected <annotation>"), ("<annotation>" + "x" * (5 << 20), "larger than 4 MiB"),
    ("<a>" * 100_000, "not readable XML"),
])  # fmt: skip
def test_files_that_are_not_used(root: Path, text: str | bytes, says: str) -> None:
    xml(root, "VOC/Annotations/b.xml", thing())
    (root / "VOC/Annotations/a.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    found = read(root)
    assert len(boxes(found.data)) == 1 and [f.where for f in found.faults] == ["VOC/Annotations/a.xml"]
    assert says in found.faults[0].reason and found.data.looked.num_rows == 1


def test_a_flood_of_entities_takes_no_time(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY x{i + 1} "{f"&x{i};" * 10}">' for i in range(20))
    (tmp_path / "a.xml").write_text(f'<!DOCTYPE a [<!ENTITY x0 "ha">{entities}]><annotation>&x20;</annotation>')
    with pytest.raises(DataError, match="document type"):
        parsed(tmp_path / "a.xml")


def test_a_file_of_another_image(root: Path) -> None:
    xml(root, "VOC/Annotations/a.xml", thing(), size=(10, 20))
    xml(root, "VOC/Annotations/none.xml", thing(), filename="../../x.png")
    xml(root, "VOC/Annotations/other.xml", thing(), filename="b.png")
    xml(root, "VOC/Annotations/third.xml", thing(), filename="b.png")
    (root / "VOC/JPEGImages/c.png").write_bytes(b"x")
    xml(root, "VOC/Annotations/c.xml", thing())
    found = read(root)
    assert [b[0] for b in boxes(found.data)] == ["VOC/JPEGImages/b.png"]
    assert [(f.where[16:], f.reason[:30]) for f in found.faults] == [
        ("a.xml", "says 10 x 20 pixels, VOC/JPEGI"), ("c.xml", "not a readable PNG, JPEG, TIFF"),
        ("none.xml", "'../../x.png' leads out of the"), ("third.xml", "VOC/JPEGImages/b.png has its b"),
    ]  # fmt: skip


def test_masks_of_voc_are_no_images(root: Path, put: Put) -> None:
    xml(root, "VOC/Annotations/a.xml", thing())
    put("VOC/SegmentationClass/a.png", 1, (20, 10))
    put("VOC/SegmentationObject/a.png", 1, (20, 10))
    assert len(read(root).data) == 4


def test_files_beside_the_images(put: Put) -> None:
    put("train/x.png", 1, (20, 10))
    root = put("test/x.png", 2, (20, 10))
    xml(root, "train/x.xml", thing("a"))
    xml(root, "test/x.xml", thing("b"))
    data = read(root).data
    assert {(b[0], b[1]) for b in boxes(data)} == {("train/x.png", "a"), ("test/x.png", "b")}
    assert dict(zip(data.ids, data.field("split"))) == {"train/x.png": "train", "test/x.png": "test"}


@pytest.mark.skipif(os.name == "nt", reason="no such files")
def test_links_and_pipes_are_not_opened(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    xml(outside, "a.xml", thing("secret"))
    xml(root, "VOC/Annotations/b.xml", thing())
    (root / "VOC/Annotations/a.xml").symlink_to(outside / "a.xml")
    os.mkfifo(root / "VOC/Annotations/c.xml")
    data = read(root).data
    assert data.names == ("dog",) and data.looked.num_rows == 1


def test_blood_cells(shared_data: Path) -> None:
    """364 images, 4,155 + 372 + 361 boxes of which two have no area (its README)."""
    found = read(shared_data / "bccd")
    data = found.data
    assert len(data) == 364 and data.names == ("Platelets", "RBC", "WBC") and len(found.faults) == 2
    counts = np.bincount(data.of_kind("boxes")["class"].to_numpy())
    assert counts.tolist() == [361, 4153, 372] and all("without area" in f.reason for f in found.faults)
    split = data.field("split")
    assert [(split == s).sum() for s in ("train", "val", "test")] == [205, 87, 72]
    assert data.looked.num_rows == 364 and sorted(data.looked["complete"].to_pylist())[:3] == [0, 0, 1]
