"""Boxes and masks in COCO, VOC, YOLO and mask folders: any set goes round, and tags follow from what is drawn."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from modicum.core.dataset import MODEL, Dataset
from modicum.core.tables import LOOKED, table
from modicum.core.tags import DRAWN
from modicum.data.convert import convert, differences
from modicum.data.formats import writable
from modicum.data.objects import IGNORED, Apart, Objects, fitted, split_of
from modicum.data.outlines import Part, part_of, stamp, unstamp
from modicum.data.read import read
from modicum.data.samples import sample

SIZES = ((9, 14), (16, 8), (5, 5), (1, 3))
NAMES = ("cat", "dog", "a <b> & 'c'")
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def drawn(draw: st.DrawFn, whole: bool = False) -> tuple[Objects, list[str]]:
    """Boxes, instances and masks in images of SIZES, some looked at and empty, some not; whole: in whole pixels."""
    said = Objects()
    for row, (height, width) in enumerate(SIZES):
        if draw(st.booleans()):
            continue
        for kind in ("boxes", "masks"):
            said.look(kind, row)
        taken = np.zeros((height, width), bool)
        for cls in draw(st.lists(st.integers(0, len(NAMES) - 1), max_size=3)):
            step = 1.0 if whole else 0.125
            x0, x1 = sorted(draw(st.lists(st.integers(0, int(width / step)), min_size=2, max_size=2, unique=True)))
            y0, y1 = sorted(draw(st.lists(st.integers(0, int(height / step)), min_size=2, max_size=2, unique=True)))
            frame = x0 * step, y0 * step, x1 * step, y1 * step
            said.add("boxes", row, cls, frame, None, draw(st.sampled_from([None, IGNORED])) if whole else None)
            mask = np.zeros((height, width), bool)
            mask[int(y0 * step) : int(y1 * step), int(x0 * step) : int(x1 * step)] = True
            part = part_of(mask & ~taken)
            if part is not None and not any(
                r == row and c == cls and k == "masks"
                for r, c, k in zip(said.said["row"], said.said["class"], said.said["kind"])
            ):
                taken |= mask
                said.add("masks", row, cls, part.frame, stamp(part, height, width))
    split = draw(st.lists(st.sampled_from(["", "train", "val", "test"]), min_size=len(SIZES), max_size=len(SIZES)))
    return said, split


def made(folder: Path, said: Objects, split: list[str], top: str = "in") -> Dataset:
    """The images on disk, and what is said of them."""
    ids = []
    for row, (height, width) in enumerate(SIZES):
        file = folder / top / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width), row, np.uint8)).save(file)
        ids.append(f"{row}.png")
    base = Dataset.build(ids, NAMES, reader="folders", root=str(folder / top), split=np.array(split, object))
    return base + said.delta(NAMES)


def only(said: Objects, kind: str, ignored: bool = True) -> Objects:
    out = Objects(looked={kind: said.looked[kind]} if kind in said.looked else {})
    for cells in zip(*said.said.values()):
        row, of, cls, value, *frame, data = cells
        if of == kind and (ignored or value is None):
            out.add(kind, row, cls, tuple(frame), data, value)
    return out


def goes_round(said: Objects, split: list[str], to: str) -> list[str]:
    """What is lost of boxes or masks on the way through a format."""
    with tempfile.TemporaryDirectory() as folder:
        data = made(Path(folder), said, split)
        place = Path(folder, "out")
        place.mkdir()
        ids = writable()[to].write(data, place, lambda done, total: None)
        assert len(set(ids)) == len(data)
        back = read(place, to).data if data.looked.num_rows else read(place).data
        for row, name in enumerate(ids):
            assert Path(place, name).read_bytes() == Path(folder, "in", str(data.ids[row])).read_bytes()
        if data.looked.num_rows:
            assert dict(zip(back.ids, back.field("split"))) == dict(zip(ids, data.field("split")))
        lost = differences(data, back, ids)
    return [line for line in lost if line.partition(":")[0] in DRAWN or line.startswith("what was looked")]


@QUICK
@given(drawn(whole=True))
def test_boxes_go_round_coco_and_voc(found: tuple[Objects, list[str]]) -> None:
    said, split = found
    said = only(said, "boxes")
    assert goes_round(said, split, "coco") == []
    corners = [said.said[c] for c in ("x0", "y0", "x1", "y1")]
    if all(x1 - x0 > 1 and y1 - y0 > 1 for x0, y0, x1, y1 in zip(*corners)):  # VOC has no box of one pixel
        assert goes_round(said, split, "voc") == []


@QUICK
@given(drawn())
def test_boxes_between_pixels_go_round_coco_and_yolo(found: tuple[Objects, list[str]]) -> None:
    said, split = found
    for to in ("coco", "yolo"):
        assert goes_round(only(said, "boxes"), split, to) == []


@QUICK
@given(drawn(whole=True))
def test_masks_go_round(found: tuple[Objects, list[str]]) -> None:
    said, split = found
    assert goes_round(only(said, "masks"), split, "masks") == []


@QUICK
@given(drawn(whole=True))
def test_instances_go_round_coco(found: tuple[Objects, list[str]]) -> None:
    said, split = found
    mine = only(said, "masks")
    mine.said["kind"] = ["instances"] * len(mine.said["row"])
    mine.looked = {"instances": mine.looked.get("masks", {})}
    lost = goes_round(mine, split, "coco")
    empty = not mine.said["row"]  # a file without an outline says nothing of instances
    assert [line for line in lost if not empty or "looked for, of instances" not in line] == []


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "masks"])
def test_what_was_written_is_kept_by_writing_it_again(tmp_path: Path, to: str) -> None:
    data = sample("scenes-plain")
    data = data.take(np.arange(0, len(data), 20))
    ids = convert_from(data, tmp_path / "a", to)
    first = read(tmp_path / "a")
    assert first.faults == [] and first.data.reader == to and len(first.data) == 65
    kept = {"coco": {"boxes", "instances"}, "masks": {"masks"}}.get(to, {"boxes"})
    assert not {line.partition(":")[0] for line in differences(data, first.data, ids)} & kept
    assert first.data.tags is not None and np.array_equal(first.data.tags[np.argsort(np.argsort(ids))], data.tags)
    again = convert(tmp_path / "a", tmp_path / "b", to, strict=True)
    assert again.lost == [] and again.faults == []


def test_a_table_beside_boxes_adds_to_them(tmp_path: Path) -> None:
    said = Objects()
    said.look("boxes", 0)
    said.add("boxes", 0, 1, (1, 1, 4, 5))
    convert_from(made(tmp_path, said, ["train", "", "", ""]), tmp_path / "c", "coco")
    (tmp_path / "c/labels.csv").write_text("image,class,group\n0.png,bird,g\n")
    data = read(tmp_path / "c").data
    assert data.reader == "coco" and data.names == (*NAMES, "bird") and data.field("group").tolist().count("g") == 1
    box = data.of_kind("boxes").to_pylist()
    assert [(r["class"], r["x0"], r["y1"]) for r in box] == [(1, 1, 5)]


def convert_from(data: Dataset, place: Path, to: str) -> list[str]:
    place.mkdir()
    return writable()[to].write(data, place, lambda done, total: None)


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "masks"])
def test_images_with_odd_names(tmp_path: Path, to: str) -> None:
    """Rows of a Parquet file, pages of a TIFF and names without an ending become files with one of their own."""
    pages = [Image.fromarray(np.full((6, 8), 40 * i, np.uint8)) for i in range(2)]
    (tmp_path / "in").mkdir()
    pages[0].save(tmp_path / "in/a.b.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "in/c#1.png")
    data = read(tmp_path / "in").data
    assert data.ids.tolist() == ["a.b.tif#0", "a.b.tif#1", "c#1.png"]
    said, part = Objects(), Part(np.ones((2, 3), bool), 1, 2)
    for row in range(3):
        for kind in ("boxes", "instances", "masks"):
            said.add(kind, row, 0, part.frame, None if kind == "boxes" else stamp(part, 6, 8))
            said.look(kind, row)
    ids = convert_from(data + said.delta(["x"]), tmp_path / "out", to)
    back = read(tmp_path / "out")
    assert back.faults == [] and sorted(back.data.ids) == sorted(ids)
    assert set(back.data.looked["row"].to_pylist()) == {0, 1, 2}
    assert set(back.data.annotations["row"].to_pylist()) == {0, 1, 2}


def test_guesses_of_a_model_are_not_written(tmp_path: Path) -> None:
    data = made(tmp_path, Objects(), [""] * 4)
    box = {c: np.array([v]) for c, v in zip(("x0", "y0", "x1", "y1"), (1, 1, 3, 3))}
    data = data + data.delta(source="net", who=MODEL, row=[0], kind="boxes", **{"class": [0]}, **box)
    for to in ("coco", "voc", "yolo"):
        convert_from(data, tmp_path / to, to)
        files = [f.read_bytes() for f in (tmp_path / to).rglob("*") if f.suffix in (".json", ".xml", ".txt")]
        assert not any(word in text for text in files for word in (b"bbox", b"bndbox", b"0 0."))


# -- tags that follow --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tags_follow_from_objects_as_in_a_loop(choose: st.DataObject) -> None:
    n, c = 4, 3
    rows, classes = st.integers(0, n - 1), st.integers(-1, c - 1)
    kinds = st.sampled_from(["boxes", "masks", "instances", "points", "scribbles", "tags"])
    objects = choose.draw(st.lists(st.tuples(rows, kinds, classes, st.sampled_from([None, 0.0, 1.0])), max_size=8))
    looks = choose.draw(st.lists(st.tuples(rows, kinds, classes, st.sampled_from([0, 1])), max_size=8))
    objects = [(r, k, max(i, 0), v or 0.0) if k == "tags" else (r, k, i, v) for r, k, i, v in objects]
    data = with_said(n, c, objects, looks)
    truth = [[-1] * c for _ in range(n)]
    for about in ("drawn", "tags"):
        mine = [(r, k) for r, k, *_ in looks]
        assert len(mine) == len(looks)
        out = [[-1] * c for _ in range(n)]
        for r, kind, cls, complete in looks:
            if (kind == "tags") == (about == "tags") and complete:
                for i in range(c):
                    if cls in (-1, i):
                        out[r][i] = 0
        if about == "tags":
            for r, kind, cls, value in objects:
                if kind == "tags":
                    out[r][cls] = int(value > 0.5)  # type: ignore[operator]
        else:
            for r in range(n):
                for i in range(c):
                    here = [v for q, k, cls, v in objects if (q, cls) == (r, i) and k != "tags"]
                    if any(v != 0.0 for v in here):
                        out[r][i] = 1
                    elif here:
                        out[r][i] = -1
        truth = [[b if b >= 0 else a for a, b in zip(t, o)] for t, o in zip(truth, out)]
    assert np.array_equal(np.array(truth), data.tags if data.tags is not None else np.full((n, c), -1))
    tagged = [any(v >= 0 for v in t) for t in truth]
    assert data.known("tags").tolist() == tagged and data.rows("tagged").tolist() == [r for r in range(n) if tagged[r]]
    for kind in ("boxes", "masks", "points"):
        also = {kind, "instances"} if kind == "masks" else {kind}
        known = {r for r, k, *_ in objects if k in also} | {r for r, k, _, done in looks if k in also and done}
        assert data.known(kind).tolist() == [r in known for r in range(n)]
        if any(k == kind for _, k, *_ in (*objects, *looks)):
            assert str(next(f for f in data.facts() if f.kind == kind)) == kind + ("" if len(known) == n else ":some")


def with_said(
    n: int, c: int, objects: list[tuple[int, str, int, float | None]], looks: list[tuple[int, str, int, int]]
) -> Dataset:
    said = Objects()
    for row, kind, cls, value in objects:
        said.add(kind, row, cls, None, None, value)
    names = [f"c{i}" for i in range(c)]
    columns = dict(zip(("row", "class", "complete"), np.array([(r, i, d) for r, _, i, d in looks], np.int32).T))
    delta = said.delta(names)
    if looks:
        looked = table(LOOKED, kind=[k for _, k, *_ in looks], source=np.zeros(len(looks), np.int32), **columns)
        delta = replace(delta, looked=looked)
    return Dataset.build([f"{i}.png" for i in range(n)], names) + delta


def test_what_a_model_drew_makes_no_tag() -> None:
    data = Dataset.build(["a", "b"], ["x", "y"])
    data = data + data.delta(source="net", who=MODEL, row=[0], kind="boxes", **{"class": [1]})
    assert data.tags is None and not data.known("tags").any() and [str(f) for f in data.facts()][-1] == "boxes:some~"


def test_hidden_boxes_are_not_taken_for_none() -> None:
    data = with_said(2, 2, [(0, "boxes", 1, None), (1, "boxes", 0, None)], [(0, "boxes", -1, 1), (1, "boxes", -1, 1)])
    assert data.tags is not None and data.tags.tolist() == [[0, 1], [1, 0]]
    hidden = data.without("boxes", np.array([0]))
    assert hidden.tags is not None and hidden.tags.tolist() == [[-1, -1], [1, 0]] and hidden.looked.num_rows == 1


# -- small parts -------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=4, max_size=4), st.integers(1, 30), st.integers(1, 30))
def test_a_fitted_box_lies_in_its_image(corners: list[float], height: int, width: int) -> None:
    x0, y0, x1, y1 = corners
    inside = min(x1, width) - max(x0, 0), min(y1, height) - max(y0, 0)
    if x1 <= x0 or y1 <= y0 or min(inside) <= 0:
        with pytest.raises(ValueError, match="a box"):
            fitted(x0, y0, x1, y1, height, width)
        return
    frame, odd = fitted(x0, y0, x1, y1, height, width)
    assert 0 <= frame[0] < frame[2] <= width and 0 <= frame[1] < frame[3] <= height
    assert bool(odd) == (max(-x0, -y0, x1 - width, y1 - height) >= 1)
    if not odd and min(x0, y0, width - x1, height - y1) >= 0:
        assert frame == (x0, y0, x1, y1)


def test_names_are_set_apart() -> None:
    apart = Apart("images", ["train", "", "odd", "train"])
    assert [apart.place(r, leaf) for r, leaf in enumerate(("a.png", "A.jpg", "a.JPG", "a.jpg"))] == [
        "images/train/a.png", "images/A.jpg", "images/a-2.JPG", "images/train/a-2.jpg",
    ]  # fmt: skip
    assert split_of("x/Validation/images/y.png") == "val" and split_of("train.png") == ""
    assert Apart("images", ["train"]).keeps(["images/train/a.png"])
    assert not Apart("images", ["val"]).keeps(["images/train/a.png"])
    assert not Apart("images", ["", ""]).keeps(["images/a.png", "images/A.jpg"])


def test_a_part_of_a_mask() -> None:
    part = Part(np.ones((2, 3), bool), 1, 4)
    assert part.frame == (4, 1, 7, 3) and unstamp(stamp(part, 5, 9)).sum() == 6
