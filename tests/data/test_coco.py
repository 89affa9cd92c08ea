"""COCO's JSON: what is read, and what is not believed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats.coco import outline
from modicum.data.outlines import packed, rolled, unstamp
from modicum.data.read import read

Put = Callable[..., Path]
CATS = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def image(number: Any, name: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": 20, "height": 10} | more


def box(number: int, of: Any, cls: Any = 3, bbox: Any = (1, 2, 4, 5), **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": of, "category_id": cls, "bbox": [*bbox] if bbox else bbox} | more


def write(root: Path, name: str, images: Any, annotations: Any, categories: Any = None) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": CATS if categories is None else categories}
    file.write_text(json.dumps(content))


def boxes(data: Dataset) -> list[tuple[Any, ...]]:
    found = data.of_kind("boxes").to_pylist()
    corners = ("x0", "y0", "x1", "y1")
    return [(data.ids[r["row"]], data.names[r["class"]], r["value"], *(r[c] for c in corners)) for r in found]


@pytest.fixture
def root(put: Put) -> Path:
    for i, name in enumerate(("images/a.png", "images/b.png", "images/c.png", "images/d.png")):
        top = put(name, i, (20, 10))
    return top


def test_boxes_crowds_splits_and_what_was_looked_at(root: Path) -> None:
    write(root, "annotations/instances_train2017.json", [image(1, "a.png"), image("x", "images/b.png")],
          [box(1, 1), box(2, 1, 7, (0.5, 0, 19.5, 10), iscrowd=1)])  # fmt: skip
    write(root, "annotations/instances_val2017.json", [image(1, "c.png")], [box(1, 1, 7)])
    write(root, "annotations/captions_val2017.json", [image(1, "c.png")], [box(1, 1, 7)])
    for place in (root, root / "annotations/instances_train2017.json"):
        found = read(place)
        assert found.faults == [] and found.data.reader == "coco" and found.data.names == ("cat", "dog")
    data = read(root).data
    assert boxes(data) == [
        ("images/a.png", "cat", None, 1, 2, 5, 7), ("images/a.png", "dog", 0, 0.5, 0, 20, 10),
        ("images/c.png", "dog", None, 1, 2, 5, 7),
    ]  # fmt: skip
    assert data.field("split").tolist() == ["train", "train", "val", ""]
    assert [(r["row"], r["kind"], r["class"], r["complete"]) for r in data.looked.to_pylist()] == [
        (0, "boxes", -1, 1), (1, "boxes", -1, 1), (2, "boxes", -1, 1),
    ]  # fmt: skip
    assert data.tags is not None and data.tags.tolist() == [[1, -1], [0, 0], [0, 1], [-1, -1]]
    assert [str(f) for f in data.facts()] == ["image", "names", "boxes:some"]


def test_outlines_of_every_kind(root: Path) -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:5, 3:9] = True
    counts = rolled(mask)
    kinds: list[Any] = [
        [[3, 2, 9, 2, 9, 5, 3, 5]], [3, 2, 9, 2, 9, 5, 3, 5], {"size": [10, 20], "counts": counts.tolist()},
        {"size": [10, 20], "counts": packed(counts)}, [[3, 2, 6, 2, 6, 5, 3, 5], [5, 2, 9, 2, 9, 5, 5, 5]],
    ]  # fmt: skip
    said = [box(i, 1, bbox=(3, 2, 6, 3), segmentation=s) for i, s in enumerate(kinds)]
    said.append(box(9, 1, bbox=None, segmentation=kinds[0]))
    write(root, "x.json", [image(1, "a.png"), image(2, "b.png"), image(3, "c.png")], [*said, box(10, 2)])
    found = read(root)
    assert found.faults == []
    for r in found.data.of_kind("instances").to_pylist():
        np.testing.assert_array_equal(unstamp(r["data"]), mask)
        assert (r["x0"], r["y0"], r["x1"], r["y1"]) == (3, 2, 9, 5)
    assert len(found.data.of_kind("instances")) == 6 and boxes(found.data)[5][3:] == (3, 2, 9, 5)
    seen = {(r["row"], r["kind"]): r["complete"] for r in found.data.looked.to_pylist()}
    assert seen == {(i, k): int((i, k) != (1, "instances")) for i in range(3) for k in ("boxes", "instances")}


@pytest.mark.parametrize("bad, says", [
    (box(5, 9), "annotation 5: of an image that is not listed, or not used: 9"),
    (box(5, 1, 4), "annotation 5: of a category that is not listed: 4"),
    (box(5, 1, None), "category that is not listed: null"), (box(5, [1]), "image that is not listed"),
    (box(5, 1, bbox=(1, 2, 0, 5)), "annotation 5: a box without area: 0 x 5 pixels"),
    (box(5, 1, bbox=(1, 2, -3, 5)), "without area"), (box(5, 1, bbox=(30, 2, 3, 5)), "outside of its image of 20 x 10"),
    (box(5, 1, bbox=(1e300, 2, 3, 5)), "without area"), (box(5, 1, bbox=(1, 2, 3)), "bbox is [1, 2, 3], expected"),
    (box(5, 1, bbox=(True, 2, 3, 4)), "bbox is"), (box(5, 1, bbox=("1", 2, 3, 4)), "bbox is"),
    (box(5, 1, bbox=None), "bbox is null"), (17, "annotation number 2 of the list: of an image"),
    ({"id": "\x1b[2J", "image_id": 3}, "annotation '\\x1b[2J': of an image"),
])  # fmt: skip
def test_an_annotation_that_is_left_out(root: Path, bad: Any, says: str) -> None:
    write(root, "x.json", [image(1, "a.png"), image(2, "b.png")], [box(1, 1), bad])
    found = read(root)
    assert len(found.faults) == 1 and found.faults[0].where.startswith("x.json: annotation ")
    assert says in f"{found.faults[0].where}: {found.faults[0].reason}" and len(boxes(found.data)) == 1
    partly = 0 if isinstance(bad, dict) and bad.get("image_id") == 1 else 1
    assert found.data.looked["complete"].to_pylist() == [partly, 1]


@pytest.mark.parametrize("bad, says", [
    ([[1, 2, 3, 4]], "an outline of 2 points"), ([[1, 2, 3, 4, 5]], "no list of pairs"),
    ([["a"] * 6], "no list of pairs"),
    ([[30, 30, 40, 30, 40, 40]], "covers no pixel"), ([[1e30, 1, 2, 2, 3, 3]], "an outline from 2, 1 to 1e+30, 3"),
    ("x", "neither polygons"),
    ({"size": [20, 10], "counts": "x"}, "neither polygons nor run lengths of 20 x 10"),
    ({"size": [10, 20], "counts": [1, 2]}, "run lengths of 3 pixels, the image has 200"),
    ({"size": [10, 20], "counts": [-1, 201]}, "not those of"),
    ({"size": [10, 20], "counts": [1.5]}, "neither text nor"),
    ({"size": [10, 20], "counts": "~"}, "not text of COCO's kind"), ({"size": [10, 20]}, "neither text nor"),
    ({"size": [10, 20], "counts": [200]}, "covers no pixel"), ([[]], "an outline of 0 points"),
])  # fmt: skip
def test_an_outline_that_is_left_out(root: Path, bad: Any, says: str) -> None:
    write(root, "x.json", [image(1, "a.png")], [box(1, 1, segmentation=bad)])
    found = read(root)
    assert says in found.faults[0].reason and found.faults[0].reason.endswith("only its box is used")
    assert len(found.faults) == 1 and len(boxes(found.data)) == 1 and not found.data.of_kind("instances").num_rows
    seen = {r["kind"]: r["complete"] for r in found.data.looked.to_pylist()}
    assert seen == {"boxes": 1, "instances": 0}


def test_a_box_that_leaves_its_image_is_cut(root: Path) -> None:
    write(root, "x.json", [image(1, "a.png")], [box(1, 1, bbox=(-5, 2, 8, 5)), box(2, 1, bbox=(-0.5, 2, 8, 8.4))])
    found = read(root)
    assert [b[3:] for b in boxes(found.data)] == [(0, 2, 3, 7), (0, 2, 7.5, 10)]
    assert [(f.where, f.reason) for f in found.faults] == [
        ("x.json: annotation 1", "a box that leaves its image of 20 x 10 pixels: it is cut")
    ]


def test_images_and_categories_that_are_left_out(root: Path) -> None:
    (root / "images/d.png").write_bytes(b"x")
    images = [
        image(1, "a.png"), image(1, "b.png"), image(2, "none.png"), image(3, "c.png", width=21), image(4, "d.png"),
        {"id": 5}, "x", image(6, "../../etc/passwd"), image(7, "b.png", height="10"), image(8, "c.png", width=None),
    ]  # fmt: skip
    cats = [*CATS, {"id": 3, "name": "bird"}, {"id": 4}, {"id": 5, "name": "a\x1bb"}, {"id": 6, "name": " "}, None]
    write(root, "x.json", images, [box(i, i) for i in range(1, 9)], cats)
    found = read(root)
    assert found.data.names == ("cat", "dog") and [b[0] for b in boxes(found.data)] == ["images/a.png"]
    said = [f"{f.where}: {f.reason}" for f in found.faults if ": annotation" not in f.where]
    expected = (
        "image 1: two images", "image 2: no image 'none.png'", "image 3: says 21 x 10 pixels, images/c.png has 20 x 10",
        "image 4: says 20 x 10 pixels, images/d.png has 0 x 0", "image 5: no id", "image number 7 of the list: no id",
        "image 6: '../../etc/passwd' leads out", 'image 7: height and width are \'10\' and 20',
        "image 8: height and width are 10 and null", "category 3: two categories", "category 4: no id and name",
        "category 5: a control", "category 6: a class without", "category number",
    )  # fmt: skip
    for words in expected:
        assert any(words in line for line in said), (words, said)
    assert len(said) == len(expected)


@pytest.mark.parametrize("text", [
    b"{", b'{"images": [], "annotations": [], "categories": [], "images": []}',
    b'{"images": 3, "annotations": [], "categories": []}', b'{"images": [NaN], "annotations": [], "categories": []}',
    b'{"images": [' + b"[" * 100_000 + b'], "annotations": 1}', b'{"images": [1e999], "annotations": []}',
])  # fmt: skip
def test_files_that_are_not_used(root: Path, text: bytes) -> None:
    (root / "bad.json").write_bytes(text)
    if sum(k in text for k in (b'"images"', b'"annotations"', b'"categories"')) >= 2:
        with pytest.raises(DataError, match=r"bad\.json: not used"):
            read(root)
    write(root, "good.json", [image(1, "a.png")], [box(1, 1)])
    found = read(root)
    assert len(boxes(found.data)) == 1 and all(f.where == "bad.json" for f in found.faults)


def test_a_file_is_known_by_keys_anywhere_in_it(root: Path) -> None:
    """A long list of images before, and another after: no key near either end."""
    long = [image(i, f"{i} none.png") for i in range(9, 20_000)]
    content = {"info": {}, "images": [image(1, "a.png"), *long], "annotations": [box(1, 1)], "categories": CATS}
    (root / "x.json").write_text(json.dumps({**content, "more": ["x" * 100_000]}))
    (root / "y.json").write_text(json.dumps([content]))
    assert len(boxes(read(root).data)) == 1


def test_one_image_in_two_files(root: Path) -> None:
    write(root, "annotations/train.json", [image(1, "a.png")], [box(1, 1)])
    write(root, "annotations/val.json", [image(1, "a.png")], [box(1, 1)])
    found = read(root)
    assert len(boxes(found.data)) == 1 and found.data.field("split")[0] == "train"
    assert found.faults[0].reason == "images/a.png is in 'train' already"


def test_files_in_the_folders_of_the_splits(put: Put) -> None:
    put("train/a.png", 1, (20, 10))
    root = put("valid/a.png", 2, (20, 10))
    for word in ("train", "valid"):
        write(root, f"{word}/_annotations.coco.json", [image(0, "a.png")], [box(1, 0, 3 if word == "train" else 7)])
    data = read(root).data
    assert data.field("split").tolist() == ["train", "val"]
    assert [b[:2] for b in boxes(data)] == [("train/a.png", "cat"), ("valid/a.png", "dog")]


def test_a_turned_photograph_has_the_size_it_is_seen_with(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    write(tmp_path, "x.json", [image(1, "a.jpg", width=10, height=20)], [box(1, 1, bbox=(0, 0, 10, 20))])
    assert read(tmp_path).faults == []


def test_many_boxes_are_quick(tmp_path: Path) -> None:
    """A hundred thousand in well under the ten seconds that a person waits for; no outline is drawn."""
    for i in range(10):
        Image.new("L", (640, 480)).save(tmp_path / f"{i}.png")
    numbers = np.random.default_rng(0).integers(1, 300, (20_000, 4)).tolist()
    write(tmp_path, "x.json", [image(i, f"{i}.png", width=640, height=480) for i in range(10)],
          [box(n, n % 10, bbox=four) for n, four in enumerate(numbers)])  # fmt: skip
    start = time.process_time()
    found = read(tmp_path)
    assert len(boxes(found.data)) == 20_000 and time.process_time() - start < 2


def test_the_whole_outline_is_tried_before_it_is_believed() -> None:
    with pytest.raises(ValueError, match="neither polygons"):
        outline(3, 4, 4)
    part = outline([[0, 0, 4, 0, 4, 4, 0, 4]], 4, 4)
    assert part is not None and part.mask.all()
