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
