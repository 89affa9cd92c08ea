"""YOLO's text files: what is read, and what is not believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats.yolo import _yaml, named
from modicum.data.outlines import unstamp
from modicum.data.read import read

Put = Callable[..., Path]


def boxes(data: Dataset) -> list[tuple[object, ...]]:
    found = data.of_kind("boxes").to_pylist()
    return [(data.ids[r["row"]], r["class"], *(round(r[c], 4) for c in ("x0", "y0", "x1", "y1"))) for r in found]


def lines(root: Path, name: str, *text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in text))


@pytest.fixture
def root(put: Put) -> Path:
    for i, name in enumerate(("images/train/a.png", "images/train/b.png", "images/val/c.png", "images/val/d.png")):
        top = put(name, i, (20, 10))
    (top / "data.yaml").write_text("path: .\ntrain: images/train\nnames:\n  0: cat\n  1: 'dog: big'  # old\n\nnc: 2\n")
    return top


def test_boxes_outlines_and_what_was_looked_at(root: Path) -> None:
    lines(root, "labels/train/a.txt", "0 0.5 0.5 0.5 1", "", "1 0.1 0.2 0.1 0.2")
    lines(root, "labels/train/b.txt")
    lines(root, "labels/val/c.txt", "1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6")
    found = read(root)
    data = found.data
    assert found.faults == [] and data.reader == "yolo" and data.names == ("cat", "dog: big")
    assert boxes(data) == [
        ("images/train/a.png", 0, 5, 0, 15, 10), ("images/train/a.png", 1, 1, 1, 3, 3),
    ("images/val/c.png", 1, 2, 2, 10, 6),
    ]  # fmt: skip
    truth = np.zeros((10, 20), bool)
    truth[2:6, 2:10] = True
    np.testing.assert_array_equal(unstamp(data.of_kind("instances")["data"][0].as_py()), truth)
    assert data.looked["row"].to_pylist() == [0, 1, 2] and set(data.looked["complete"].to_pylist()) == {1}
    assert data.field("split").tolist() == ["train", "train", "val", "val"]


@pytest.mark.parametrize("bad, says", [
    ("0 0.5 0.5 0 0.5", "a box without area"), ("0 0.5 0.5 -0.1 0.5", "without area"),
    ("2 0.5 0.5 0.1 0.1", "class 2, but"),
    ("-1 0.5 0.5 0.1 0.1", "class -1"), ("0.5 0.5 0.5 0.1 0.1", "class 0.5"), ("nan 0.5 0.5 0.1 0.1", "class nan"),
    ("0 nan 0.5 0.1 0.1", "not finite"), ("0 inf 0.5 0.1 0.1", "not finite"),
    ("0 3 0.5 0.1 0.1", "outside of its image"),
    ("0 0.5 0.5 0.1", "4 numbers"), ("0 0.5 0.5 0.1 0.1 0.9", "6 numbers"),
    ("cat 0.5 0.5 0.1 0.1", "else than numbers"),
    ("0 0.5 0.5 0.5 0.5 0.5 0.5", "covers no pixel"), ("0 1e300 1 1 1", "far outside"),
    ("0 1 1e30 0 0 1 1", "far outside"),
])  # fmt: skip
def test_a_line_that_is_left_out(root: Path, bad: str, says: str) -> None:
    lines(root, "labels/train/a.txt", "0 0.5 0.5 0.5 1", bad)
    found = read(root)
    assert [f.where for f in found.faults] == ["labels/train/a.txt: line 2"] and says in found.faults[0].reason
    assert len(boxes(found.data)) == 1 and found.data.looked["complete"].to_pylist() == [0]


def test_a_box_that_leaves_its_image_is_cut(root: Path) -> None:
    lines(root, "labels/train/a.txt", "0 0.5 0.5 1.2 1", "0 0.5 0.5 1.0000001 1")
    found = read(root)
    assert [b[2:] for b in boxes(found.data)] == [(0, 0, 20, 10)] * 2 and len(found.faults) == 1


def test_files_without_an_image_and_images_that_cannot_be_read(root: Path) -> None:
    lines(root, "labels/train/a.txt", "0 0.5 0.5 0.5 1")
    lines(root, "labels/train/none.txt", "0 0.5 0.5 0.5 1")
    (root / "labels/train/b.txt").write_bytes(b"0 0.5\0")
    (root / "images/val/c.png").write_bytes(b"x")
    lines(root, "labels/val/c.txt", "0 0.5 0.5 0.5 1")
    found = read(root)
    assert [(f.where, f.reason[:22]) for f in found.faults] == [
        ("labels/train/b.txt", "not a text file of box"), ("labels/val/c.txt", "not a readable PNG, JP"),
        ("labels/train/none.txt", "no image of this name"),
    ]  # fmt: skip


def test_other_places(put: Put, tmp_path: Path) -> None:
    put("train/images/a.png", 1, (20, 10))
    put("valid/images/a.png", 2, (20, 10))
    lines(tmp_path, "train/labels/a.txt", "3 0.5 0.5 0.5 1")
    lines(tmp_path, "valid/labels/a.txt", "1 0.5 0.5 0.5 1")
    data = read(tmp_path).data
    assert data.names == ("0", "1", "2", "3") and data.field("split").tolist() == ["train", "val"]
    assert [b[:2] for b in boxes(data)] == [("train/images/a.png", 3), ("valid/images/a.png", 1)]


def test_text_files_beside_the_images(put: Put, tmp_path: Path) -> None:
    put("b.png", 1, (20, 10))
    put("a.png", 2, (20, 10))
    lines(tmp_path, "a.txt", "1 0.5 0.5 0.5 1")
    lines(tmp_path, "notes.txt", "hello")
    assert read(tmp_path).data.reader == "folders"  # nothing says that they are boxes
    lines(tmp_path, "classes.txt", "cat", "dog")
    data = read(tmp_path).data
    assert data.reader == "yolo" and data.names == ("cat", "dog") and data.looked.num_rows == 1


def test_a_class_that_would_take_all_memory(root: Path) -> None:
    (root / "data.yaml").unlink()
    lines(root, "labels/train/a.txt", "900000 0.5 0.5 0.5 1")
    with pytest.raises(DataError, match="class 900000, and no list of names"):
        read(root)


@pytest.mark.parametrize("text, names", [
    ("names: [a, 'b, c', \"d\"]  # x\n", ["a", "b, c", "d"]), ("names:\n- a\n- b  # x\nnc: 2\n", ["a", "b"]),
    ("nc: 2\nnames:\n  # x\n  0: a\n\n  1: 'it''s'\ntrain: x\n", ["a", "it's"]), ("names: {0: a, 1: b}", ["a", "b"]),
    ("names: [a,\n  b,\n c]\n", ["a", "b", "c"]), ("nc: 3\n", []), ("names:\n", []), ("names: []", []), ("", []),
])  # fmt: skip
def test_names_in_yaml(text: str, names: list[str]) -> None:
    assert named(text) == names


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8), unique=True)
)
def test_any_names_are_read_as_they_were_written(names: list[str]) -> None:
    names = [n.strip() for n in names if n.strip()]
    assert [n.strip() for n in named(_yaml(Dataset.build([], names), []))] == names


def test_numbers_out_of_order_are_refused(root: Path) -> None:
    (root / "data.yaml").write_text("names:\n  1: a\n  0: b\n")
    lines(root, "labels/train/a.txt", "0 0.5 0.5 0.5 1")
    found = read(root)
    assert found.data.names == ("0",) and "number 1 where 0 is expected" in found.faults[0].reason
