"""No bytes break a reader: random ones, and valid files with bytes changed, cut out, doubled or put in.

Each reader sees a hundred examples of each kind in the normal suite and two thousand under `-m slow`.  Whatever comes,
reading ends in a set whose every image is a picture or a reason, or in one DataError.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.core.tags import DRAWN
from modicum.data.outlines import unstamp
from modicum.data.read import pixels, read

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def png(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("L", (3, 2), value).save(out, "PNG")
    return out.getvalue()


def idx(array: np.ndarray) -> bytes:
    return (0x0800 + array.ndim).to_bytes(4, "big") + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def table() -> bytes:
    return (
        b"image,annotator,class,split,confidence,p:cat,p:dog,tag:cat\na.png,ann,cat,test,0.5,0.25,0.75,1\nb,ben,,,,,,\n"
    )


def words() -> bytes:
    out = io.BytesIO()
    columns = {
        "image": ["a.png", "b", None],
        "label": [1.0, None, 2.5],
        "split": ["train", "x", ""],
        "p:1": [1, 0, None],
    }
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def images(**more: object) -> bytes:
    out = io.BytesIO()
    cells = pa.array([{"bytes": png(i), "path": f"{i}.png"} for i in range(3)])
    pq.write_table(pa.table({"image": cells, "label": [0, 1, None], "split": ["train", "test", None], **more}), out)
    return out.getvalue()


def drawn() -> bytes:
    cells = pa.array([{"bytes": png(1 + i), "path": ""} for i in range(3)])
    boxes = pa.array([[[0, 0, 2, 1], [1, 0, 3, 2]], [], None], pa.list_(pa.list_(pa.float32())))
    return images(boxes=boxes, categories=[[0, 1], [], None], instances=cells)


def ours() -> bytes:
    found = pq.read_table(io.BytesIO(images(id=["x/1", "x/2", "x/2"])))
    out = io.BytesIO()
    pq.write_table(found.replace_schema_metadata({"modicum": "{}", "huggingface": '{"info": {"features": {}}}'}), out)
    return out.getvalue()


def zipped(method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name in ("cat/1.png", "dog/2.png"):
            archive.writestr(name, png())
        archive.writestr("labels.csv", "image,group\ncat/1.png,g\n")
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("cat/1.png", "dog/2.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png())
            archive.addfile(info, io.BytesIO(png()))
    return out.getvalue()


def coco(run_lengths: bool = False) -> bytes:
    outline: object = [[0, 0, 3, 0, 3, 2, 0, 2]]
    if run_lengths:
        outline = {"size": [2, 3], "counts": "06"}
    image = {"id": 1, "file_name": "a.png", "height": 2, "width": 3}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0.5, 2, 1.5], "iscrowd": 0, "segmentation": outline}
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return json.dumps({"images": [image], "categories": names, "annotations": [box, {**box, "iscrowd": 1}]}).encode()


def voc() -> bytes:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>2</ymax></bndbox>"
    thing = f"<object><name>cat</name><difficult>0</difficult>{box}</object>"
    size = "<size><width>3</width><height>2</height></size>"
    return f"<annotation><filename>a.png</filename>{size}{thing}{thing}</annotation>".encode()


def palette() -> bytes:
    out = io.BytesIO()
    image = Image.new("P", (3, 2))
    image.putdata([0, 1, 2, 255, 1, 0])
    image.putpalette(bytes(range(9)))
    image.save(out, "PNG")
    return out.getvalue()


# What a reader is given: the name of the file that is hostile, a whole one, and what lies beside it.
BESIDE = {"a.png": png(), "b.png": png()}
IMAGES = {f"images/{name}": body for name, body in BESIDE.items()}
YOLO = b"0 0.5 0.5 1 1\n1 0 0 1 0 1 1 0 1\n"
LABELS = idx(np.array([0, 1, 2], np.uint8))
PICTURES = idx(np.zeros((3, 4, 5), np.uint8))
READERS: dict[str, tuple[str, bytes, dict[str, bytes]]] = {
    "image": ("cat/1.png", png(), {"dog/2.png": png()}),
    "csv": ("t.csv", table(), BESIDE),
    "tsv": ("t.tsv", table().replace(b",", b"\t"), BESIDE),
    "parquet table": ("t.parquet", words(), BESIDE),
    "parquet images": ("train.parquet", images(), {}),
    "parquet boxes": ("train.parquet", drawn(), {}),
    "parquet of ours": ("images.parquet", ours(), {}),
    "table beside parquet": ("t.csv", b"image,class\nx/1,cat\n", {"images.parquet": ours()}),
    "idx images": ("train-images-idx3-ubyte", PICTURES, {"train-labels-idx1-ubyte": LABELS}),
    "idx labels": ("train-labels-idx1-ubyte", LABELS, {"train-images-idx3-ubyte": PICTURES}),
    "idx packed": (
        "train-images-idx3-ubyte.gz", gzip.compress(PICTURES, mtime=0), {"train-labels-idx1-ubyte": LABELS},
    ),
    "idx names": (
        "classes.txt", b"a\nb\nc\n", {"train-images-idx3-ubyte": PICTURES, "train-labels-idx1-ubyte": LABELS},
    ),
    "zip": ("a.zip", zipped(), {}),
    "zip stored": ("a.zip", zipped(zipfile.ZIP_STORED), {}),
    "tar": ("a.tar", tarred(), {}),
    "coco": ("annotations/x.json", coco(), BESIDE),
    "coco run lengths": ("annotations/x.json", coco(run_lengths=True), BESIDE),
    "voc": ("Annotations/a.xml", voc(), {"JPEGImages/a.png": png(), "JPEGImages/b.png": png()}),
    "voc splits": (
        "ImageSets/Main/train.txt", b"a\nb 1\n",
        {"JPEGImages/a.png": png(), "JPEGImages/b.png": png(), "Annotations/a.xml": voc()},
    ),
    "yolo": ("labels/a.txt", YOLO, IMAGES),
    "yolo names": ("data.yaml", b"train: x\nnames:\n  0: cat\n  1: 'dog'\n", {**IMAGES, "labels/a.txt": YOLO}),
    "masks": ("masks/a.png", palette(), IMAGES),
    "masks names": ("classes.txt", b"cat\ndog\n", {**IMAGES, "masks/a.png": palette()}),
}  # fmt: skip


def survives(reader: str, content: bytes) -> None:
    name, _, beside = READERS[reader]
    with tempfile.TemporaryDirectory() as folder:
        for file, body in {**beside, name: content}.items():
            Path(folder, file).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, file).write_bytes(body)
        for place in {folder, str(Path(folder, name))} if "." in name and "/" not in name else {folder}:
            try:
                found = read(place)
            except DataError as error:
                assert str(error) and "\x1b" not in str(error)
                continue
            data = found.data
            assert len(data) and len(set(data.ids)) == len(data) and len(set(data.names)) == len(data.names)
            assert data.cls.max() < max(1, len(data.names)) and all(f.where and f.reason for f in found.faults)
            assert data.probs is None or np.allclose(np.nansum(data.probs, 1)[~np.isnan(data.probs[:, 0])], 1)
            assert set(data.field("split")) <= {"", "train", "val", "test"}
            _ = data.tags, data.votes, data.facts(), data.version
            masks_and_boxes(data)
            for row in range(len(data)):
                try:
                    assert pixels(data, row).ndim == 3
                except DataError as error:
                    assert str(error)


def masks_and_boxes(data: Dataset) -> None:
    """What is drawn lies in its image, of a class that there is; masks are of its size."""
    for one in data.annotations.to_pylist():
        if one["kind"] in DRAWN:
            try:
                height, width = pixels(data, one["row"]).shape[:2]
            except DataError:  # its header was sound
                continue
            assert -1 <= one["class"] < len(data.names) and (one["class"] >= 0 or one["value"] == 0)
            assert 0 <= one["x0"] < one["x1"] <= width and 0 <= one["y0"] < one["y1"] <= height
            assert one["data"] is None or unstamp(one["data"]).shape == (height, width)


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A valid file after a few changes of bytes, cuts and repetitions."""
    body = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        length = draw(st.integers(0, 12))
        change = draw(st.sampled_from(("set", "insert", "cut", "double", "end")))
        noise = draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(SPICE)))
        if change == "set":
            body[at : at + len(noise)] = noise
        elif change == "insert":
            body[at:at] = noise
        elif change == "cut":
            del body[at : at + length]
        elif change == "double":
            body[at:at] = body[at : at + length]
        else:
            del body[at:]
    return bytes(body)


SPICE = (
    b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\n", b'"', b",,,", b"1e309", b"-1", b"nan",
    b"\xe2\x80\xae",
    b"../", b"/", b"\\", b"=1+1", b"\r", b"PK\x05\x06", b"\x80", "é".encode(), "é".encode("utf-16"),
)  # fmt: skip


def fuzzed(reader: str, how: settings) -> tuple[Callable[[], None], Callable[[], None]]:
    """The two tests of a reader: noise, and a valid file changed."""

    @how
    @given(st.one_of(st.binary(max_size=400), st.binary(max_size=200).map(lambda b: READERS[reader][1][:24] + b)))
    def noise(content: bytes) -> None:
        survives(reader, content)

    @how
    @given(mutated(READERS[reader][1]))
    def changed(content: bytes) -> None:
        survives(reader, content)

    return noise, changed


@pytest.mark.parametrize("reader", READERS)
def test_the_whole_file_is_read(reader: str) -> None:
    survives(reader, READERS[reader][1])
    name, content, beside = READERS[reader]
    with tempfile.TemporaryDirectory() as folder:
        for file, body in {**beside, name: content}.items():
            Path(folder, file).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, file).write_bytes(body)
        place = Path(folder, name) if name.endswith((".zip", ".tar")) else Path(folder)
        assert len(read(place).data) >= 2


@pytest.mark.parametrize("reader", READERS)
def test_any_bytes(reader: str) -> None:
    for test in fuzzed(reader, QUICK):
        test()


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_any_bytes_for_long(reader: str) -> None:
    for test in fuzzed(reader, LONG):
        test()
