"""Boxes and instances in columns of Parquet files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.data.convert import convert
from modicum.data.outlines import unstamp
from modicum.data.read import Read, read

MAP = np.zeros((4, 6), np.uint16)
MAP[0:2, 1:3], MAP[2:4, 4:6] = 1, 2


def png(values: np.ndarray) -> dict[str, Any]:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": "x.png"}


def write(folder: Path, file: str = "train.parquet", names: list[str] | None = None, **columns: list[Any]) -> Read:
    n = len(next(iter(columns.values())))
    images = [png(np.full((4, 6), i, np.uint8)) for i in range(n)]
    table = pa.table({"image": images, **columns})
    if names:
        hub = {"info": {"features": {"categories": {"feature": {"names": names}}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(hub)})
    pq.write_table(table, folder / file)
    return read(folder)


def boxes(data: Dataset) -> list[tuple[Any, ...]]:
    found = data.of_kind("boxes").to_pylist()
    return [(r["row"], data.names[r["class"]], *(r[c] for c in ("x0", "y0", "x1", "y1"))) for r in found]


def test_boxes_and_instances(tmp_path: Path) -> None:
    found = write(
        tmp_path, names=["cat", "dog"], boxes=[[[1, 0, 3, 2], [4, 2, 6, 4]], [], None], categories=[[1, 0], [], None],
        instances=[png(MAP), None, png(MAP * 0)], instance_categories=[[1, 0], None, []],
    )  # fmt: skip
    data = found.data
    assert found.faults == [] and data.names == ("cat", "dog")
    assert boxes(data) == [(0, "dog", 1, 0, 3, 2), (0, "cat", 4, 2, 6, 4)]
    for r in data.of_kind("instances").to_pylist():
        number = 1 if data.names[r["class"]] == "dog" else 2
        np.testing.assert_array_equal(unstamp(r["data"]), number == MAP)
        assert (0, data.names[r["class"]], *(r[c] for c in ("x0", "y0", "x1", "y1"))) in boxes(data)
    seen = {(r["kind"], r["row"], r["complete"]) for r in data.looked.to_pylist()}
    assert seen == {("boxes", 0, 1), ("boxes", 1, 1), ("instances", 0, 1), ("instances", 2, 1)}
    assert data.tags is not None and data.tags.tolist() == [[1, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize("columns, names", [
    ({"categories": [[3, 0]]}, ("0", "1", "2", "3")), ({"categories": [["b", "a"]]}, ("a", "b")),
    ({}, ("object",)), ({"label": ["crack"]}, ("crack",)),
])  # fmt: skip
def test_classes_by_number_by_word_and_by_image(
    tmp_path: Path, columns: dict[str, list[Any]], names: tuple[str, ...]
) -> None:
    data = write(tmp_path, boxes=[[[1, 0, 3, 2], [4, 2, 6, 4]]], **columns).data
    assert data.names == names and len(boxes(data)) == 2


@pytest.mark.parametrize("columns, says, left", [
    ({"boxes": [[[1.0, 0, 3, 2], [1, 1, 1, 3]]]}, "boxes: a box without area", 1),
    ({"boxes": [[[1.0, 0, 3, 2], [1, 1, float("nan"), 3]]]}, "not finite", 1),
    ({"boxes": [[[1.0, 0, 3, 2], [1, 1, 3]]]}, "is no box: expected", 1),
    ({"boxes": [[[1.0, 0, 3, 2]]], "categories": [[1, 2]]}, "1 boxes and 2 categories", 0),
    ({"boxes": [[[1.0, 0, 3, 2], [1, 1, 2, 2]]], "categories": [[1, -2]]}, "class '-2': there are 2 classes", 1),
    ({"instances": [png(MAP.T.copy())]}, "a picture of 4 x 6 pixels for one of 6 x 4", 0),
    ({"instances": [{"bytes": b"x", "path": ""}]}, "instances: not a readable PNG", 0),
    ({"instances": [png(MAP)], "instance_categories": [[1]]}, "instance 2, and 1 categories", 0),
])  # fmt: skip
def test_what_is_left_out(tmp_path: Path, columns: dict[str, list[Any]], says: str, left: int) -> None:
    found = write(tmp_path, **columns)
    assert len(found.faults) == 1 and says in found.faults[0].reason and len(boxes(found.data)) == left
    assert all(r["complete"] == 0 for r in found.data.looked.to_pylist())
    assert not found.data.of_kind("instances").num_rows


def test_columns_of_other_types_are_passed_over(tmp_path: Path) -> None:
    data = write(tmp_path, boxes=["a"], instances=[3], categories=[1.5]).data
    assert not data.annotations.num_rows and not data.looked.num_rows


def test_two_files_and_an_image_without_bytes(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", boxes=[[[1, 0, 3, 2]]], categories=[["b"]])
    cells = [None, png(MAP.astype(np.uint8))["bytes"]]
    more = {"boxes": [[[0, 0, 1, 1]], [[2, 2, 5, 4]]], "categories": [["x"], ["a"]]}
    pq.write_table(pa.table({"image": pa.array(cells, pa.binary()), **more}), tmp_path / "b.parquet")
    found = read(tmp_path)
    assert boxes(found.data) == [(0, "b", 1, 0, 3, 2), (1, "a", 2, 2, 5, 4)] and len(found.faults) == 1
    assert found.data.looked["row"].to_pylist() == [0, 1]


@pytest.mark.parametrize(
    "name, images, objects", [("coco384", 384, 2714), ("nuclei", 147, 5489), ("em-defects", 42, 5742)]
)
def test_real_sets(shared_data: Path, name: str, images: int, objects: int) -> None:
    """As many boxes as their READMEs say, and each instance's frame is one of them."""
    data = read(shared_data / name).data
    assert len(data) == images and len(boxes(data)) == objects
    if name == "nuclei":
        columns = ("row", "x0", "y0", "x1", "y1")
        assert data.of_kind("boxes").select(columns).equals(data.of_kind("instances").select(columns))


MASK = np.zeros((4, 6), np.uint8)
MASK[0:2, 1:3], MASK[2:4, 4:6], MASK[3, 0] = 1, 2, 255


@pytest.mark.parametrize("column", ["mask", "semantic"])
def test_masks_of_class_numbers(tmp_path: Path, column: str) -> None:
    found = write(tmp_path, names=["cat", "dog"], **{column: [png(MASK), None, png(MASK * 0)]})
    data, said = found.data, found.data.of_kind("masks").to_pylist()
    assert found.faults == [] and data.names == ("cat", "dog") and {r["row"] for r in said} == {0}
    for r, number in zip(said, (1, 2, 255), strict=True):
        np.testing.assert_array_equal(unstamp(r["data"]), number == MASK)
        assert (r["class"], r["value"]) == ((-1, 0) if number == 255 else (number - 1, None))
    assert {(r["kind"], r["row"], r["complete"]) for r in data.looked.to_pylist()} == {("masks", 0, 1), ("masks", 2, 1)}


def test_a_mask_of_0_and_255_has_one_class(tmp_path: Path) -> None:
    found = write(tmp_path, mask=[png((MASK == 1).astype(np.uint8) * 255), png(MASK * 0)])
    assert [f.reason for f in found.faults] == ["only 0 and 255: 255 is taken for the class, not for unknown"]
    (one,) = found.data.of_kind("masks").to_pylist()
    assert one["class"] == 0 and one["value"] is None and len(found.data.names) == 1


def test_masks_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    wide = png(np.full((4, 6), 300, np.uint16))
    bomb = {"bytes": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\xff" * 40, "path": None}
    words, nothing = ({"bytes": content, "path": None} for content in (b"no picture", None))
    bad = [png(np.zeros((5, 6), np.uint8)), wide, words, bomb, nothing]
    found = write(tmp_path, mask=[*bad, png(MASK)])
    assert [f.where for f in found.faults] == [f"train.parquet#{k}" for k in range(len(bad))]
    assert "6 x 5 pixels for one of 6 x 4" in found.faults[0].reason and "300" in found.faults[1].reason
    assert {r["row"] for r in found.data.looked.to_pylist()} == {len(bad)}, "of the others nothing is known"


def test_a_column_called_mask_that_holds_no_pictures_is_left_alone(tmp_path: Path) -> None:
    found = write(tmp_path, mask=["a", "b"])
    assert found.data.of_kind("masks").num_rows == 0 and found.data.looked.num_rows == 0


def test_masks_go_round(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    first = write(tmp_path / "in", names=["cat", "dog"], mask=[png(MASK), None, png(MASK * 0)]).data
    convert(tmp_path / "in", tmp_path / "out", "parquet")
    back = read(tmp_path / "out").data
    assert back.names == first.names
    for column in ("row", "class", "value", "x0", "y0", "x1", "y1"):
        assert back.of_kind("masks")[column].to_pylist() == first.of_kind("masks")[column].to_pylist()
    pairs = zip(back.of_kind("masks")["data"].to_pylist(), first.of_kind("masks")["data"].to_pylist(), strict=True)
    assert all((unstamp(a) == unstamp(b)).all() for a, b in pairs)
    assert back.looked.to_pylist() == first.looked.to_pylist()
