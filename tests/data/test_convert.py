"""Every format that is written reads back as what it was written from, and what it cannot hold is said."""

from __future__ import annotations

import csv
import io
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.convert import convert, differences
from modicum.data.formats import writable
from modicum.data.names import guard
from modicum.data.read import pixels, read
from modicum.data.stream import content

Put = Callable[..., Path]


def same(a: Dataset, b: Dataset) -> None:
    """Every table column and every pixel; sources may be numbered otherwise, and hold others that said nothing."""
    assert a.ids.tolist() == b.ids.tolist() and a.names == b.names and a.cls.tolist() == b.cls.tolist()
    assert a.images.to_pylist() == b.images.to_pylist()
    assert (a.probs is None) == (b.probs is None) and (a.tags is None) == (b.tags is None)
    if a.probs is not None:
        np.testing.assert_array_equal(a.probs, b.probs)
    if a.tags is not None:
        np.testing.assert_array_equal(a.tags, b.tags)
    for table in ("annotations", "looked"):
        assert said(a, table) == said(b, table)
    for row in range(len(a)):
        assert content(pixels(a, row)) == content(pixels(b, row))


def said(data: Dataset, table: str) -> list[str]:
    """Rows of a table as text in any order, with the name and kind of who said it."""
    sources = [(s["name"], s["who"]) for s in data.sources.to_pylist()]
    return sorted(repr({**r, "source": sources[r["source"]]}) for r in getattr(data, table).to_pylist())


def who_voted(data: Dataset) -> list[tuple[str, str, str]]:
    names = data.sources["name"].to_pylist()
    return [(data.ids[r], names[s], data.names[c]) for r, s, c in zip(*data.votes)]


@pytest.fixture
def rich(put: Put) -> Path:
    """Images in folders with every kind of label in two tables."""
    names = ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "train/unlabelled/4.png", "train/unlabelled/5.png")
    for i, name in enumerate(names):
        root = put(name, i)
    (root / "labels.csv").write_text(
        "image,class,confidence,split,group,session,domain,p:cat,p:dog,tag:cat,tag:dog\n"
        "train/cat/1.png,cat,0.1,,g 1,s0,=site,0.1,0.9,1,0\ntrain/dog/2.png,,,,,,,0.333333,0.666667,,1\n"
        "test/cat/3.png,,,,-1,,@x,,,0,\n4,,,val,'+g,s1,,,,,\n"
    )
    (root / "votes.csv").write_text("image,annotator,class\n5,ann,dog\n5,=ben,cat\n1,ann,cat\n")
    return root


@pytest.mark.parametrize("to", ["folders", "table", "parquet"])
def test_everything_that_is_known_goes_round(rich: Path, tmp_path_factory: pytest.TempPathFactory, to: str) -> None:
    out = tmp_path_factory.mktemp("out")
    source = read(rich).data
    assert len(source.votes[0]) == 3 and source.probs is not None and source.tags is not None
    done = convert(rich, out / "a", to, strict=to != "folders")
    if to == "folders":  # an image that waits in train/unlabelled/ for its split moves
        assert [line.partition(" of ")[0] for line in done.lost] == ["names", "the order"]
    else:
        same(source, done.data)
    same(done.data, convert(out / "a", out / "b", to, strict=True).data)
    votes = {(r.rpartition("/")[2], *rest) for r, *rest in who_voted(done.data)}
    assert votes == {("5.png", "ann", "dog"), ("5.png", "=ben", "cat"), ("1.png", "ann", "cat")}


def test_idx_goes_round_and_says_what_it_cannot_hold(put: Put, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    first = convert("sample:digits", out / "a", "idx")
    assert [line.partition(":")[0] for line in first.lost] == ["names of 1,797 images", "split of 1,797 images"]
    (out / "a" / "t.csv").write_text("image,group,split\ntrain/00003,g,test\ntrain/00004,,val\n")
    again = convert(out / "a", out / "b", "idx")
    assert [line.partition(":")[0] for line in again.lost] == ["names of 1,794 images", "the order of the images"]
    final = convert(out / "b", out / "c", "idx", strict=True)
    assert final.lost == [] and final.data.field("group").tolist().count("g") == 1
    same(again.data, final.data)
    assert (out / "c" / "train-images-idx3-ubyte").stat().st_size == 16 + 64 * 1796


def test_idx_is_as_its_description_says(tmp_path: Path) -> None:
    """Read by hand: magic number, sizes, then bytes, all numbers big-endian."""
    done = convert("sample:digits", tmp_path / "out", "idx")
    images = (tmp_path / "out/train-images-idx3-ubyte").read_bytes()
    labels = (tmp_path / "out/train-labels-idx1-ubyte").read_bytes()
    assert struct.unpack(">4I", images[:16]) == (2051, 1797, 8, 8) and struct.unpack(">2I", labels[:8]) == (2049, 1797)
    assert [*labels[8:]] == done.data.cls.tolist() and len(images) == 16 + 1797 * 64
    at = 16 + 9 * 64
    assert [*images[at : at + 64]] == pixels(done.data, 9).ravel().tolist()


@pytest.mark.parametrize("case, says", [
    ("colour", "3 channels, 8 bits: IDX files hold grey"), ("deep", "1 channels, 16 bits"),
    ("sizes", r"4 x 2 px, .*the first is 3 x 2 px"), ("unlabelled", "1 images have no class"),
])  # fmt: skip
def test_what_idx_has_no_place_for(tmp_path: Path, case: str, says: str) -> None:
    for i, name in enumerate(("cat/1.png", "dog/2.png", "pool/3.png" if case == "unlabelled" else "dog/3.png")):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        mode = {"colour": "RGB", "deep": "I;16"}.get(case, "L")
        Image.new(mode, (4 if case == "sizes" and i == 2 else 3, 2)).save(file)
    with pytest.raises(DataError, match=says):
        convert(tmp_path / "in", tmp_path / "out", "idx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_files_are_copied_to_the_byte(rich: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    Image.new("RGB", (9, 8), (200, 10, 10)).save(rich / "train/cat/x.jpg", quality=30)
    convert(rich, out / "pq", "parquet", strict=True)
    back = convert(out / "pq", out / "dirs", "table", strict=True)
    for name in back.data.ids:
        assert (out / "dirs" / name).read_bytes() == (rich / name).read_bytes()


def test_sixteen_bits_and_one_pixel_stay(tmp_path: Path) -> None:
    deep = np.array([[0, 1, 255, 256, 65535]], np.uint16)
    (tmp_path / "in").mkdir()
    Image.fromarray(deep).save(tmp_path / "in/deep.png")
    Image.new("L", (1, 1), 7).save(tmp_path / "in/one.tif")
    convert(tmp_path / "in", tmp_path / "pq", "parquet", strict=True)
    done = convert(tmp_path / "pq", tmp_path / "dirs", "table", strict=True)
    np.testing.assert_array_equal(pixels(done.data, 0)[..., 0], deep)
    assert done.data.ids.tolist() == ["deep.png", "one.tif"]


def test_pages_of_a_stack_become_images_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pages = [Image.fromarray(np.full((4, 5), 1000 * i, np.uint16)) for i in range(3)]
    pages[0].save(tmp_path / "in/stack.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "in/t.csv").write_text("image,class\nstack.tif#0,a\nstack.tif#2,b\n")
    exact = convert(tmp_path / "in", tmp_path / "pq", "parquet", strict=True)
    files = convert(tmp_path / "in", tmp_path / "files", "table")
    assert exact.data.ids.tolist() == ["stack.tif#0", "stack.tif#1", "stack.tif#2"]
    assert files.data.ids.tolist() == ["stack.tif#0.png", "stack.tif#1.png", "stack.tif#2.png"]
    for done in (exact.data, files.data):
        assert done.cls.tolist() == [0, -1, 1]
        assert [int(pixels(done, r).max()) for r in range(3)] == [0, 1000, 2000]


# -- names -------------------------------------------------------------------------------------------------------------

HARD = [
    "T-shirt/top",
    "CON",
    "aux.txt",
    "a. ",
    ".hidden",
    "Cat",
    "cat",
    "CAT",
    "test",
    "pool",
    "a.zip",
    "100%",
    "%41",
    "=1+1",
    "x\u202ey",
]


def test_class_names_that_no_folder_can_have(tmp_path: Path, put: Put) -> None:
    for i in range(len(HARD)):
        root = put(f"in/{i}.png", i)
    with (root / "in/t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "class"], *([f"{i}.png", guard(word)] for i, word in enumerate(HARD))])
    source = read(root / "in").data
    assert {source.names[c] for c in source.cls} == {w.strip() for w in HARD}
    done = convert(root / "in", root / "out", "folders")
    assert [line.partition(" of ")[0] for line in done.lost] == ["names", "the order"] and not done.faults
    back = dict(zip((Path(i).name for i in done.data.ids), (done.data.names[c] for c in done.data.cls)))
    assert back == {i: source.names[c] for i, c in zip(source.ids, source.cls)}
    folders = sorted(p.name for p in (root / "out").iterdir())
    assert len({f.casefold() for f in folders}) == len(folders) == len(HARD) and "%43ON" in folders
    assert not any(set(f) & set('<>:"/\\|?*') or f[-1] in ". " or f[0] == "." for f in folders)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("to", ["table", "folders"])
def test_file_names_that_another_system_cannot_hold(put: Put, to: str) -> None:
    for i, name in enumerate(("aux.png", "a.png", "A.png", "b?.png", "c .png", "x/d.png", "X/e.png", "x\ty.png")):
        root = put(f"in/{name}", i)
    if len(list((root / "in").rglob("*.png"))) < 8:
        pytest.skip("this file system takes names for one that differ in capitals")
    done = convert(root / "in", root / "out", to)
    names = done.data.ids.tolist()
    assert len({n.casefold() for n in names}) == 8 and done.lost[0].startswith("names of")
    assert not any(set(n) & set('<>:"\\|?*\t') for n in names) and "%61ux.png" in [Path(n).name for n in names]
    exact = convert(root / "in", root / "pq", "parquet", strict=True)
    assert exact.data.ids.tolist() == read(root / "in").data.ids.tolist()


def test_a_class_too_long_for_a_folder_says_what_holds_it(put: Put) -> None:
    root = put("in/1.png")
    (root / "in/t.csv").write_text(f"image,class\n1,{'?' * 200}\n")
    with pytest.raises(DataError, match="too long for a folder\nWrite a table"):
        convert(root / "in", root / "out", "folders")
    assert not convert(root / "in", root / "pq", "parquet", strict=True).lost


# -- what is lost ------------------------------------------------------------------------------------------------------


def test_what_no_format_holds_is_said(tmp_path: Path) -> None:
    data = Dataset.build(["a", "b"], ["x", "y"], cls=np.array([0, 1]))
    more = data + data.delta(source="net", who="model", row=np.array([0]), kind="class", **{"class": np.array([1])})
    more = more + data.delta(source="p", who="human", row=np.array([1]), kind="boxes", x0=np.array([1.0], np.float32))
    more = replace(more, columns={"features": np.zeros((2, 3), np.float32)})
    lost = differences(more, data, ["a", "b"])
    assert lost == [
        "1 labels made by a model: only what people said is written", "boxes: 1 of 1", "the column 'features'",
    ]  # fmt: skip
    assert differences(data, data, ["a", "b"]) == []
    other = Dataset.build(["b", "c"], ["y"], cls=np.array([0, -1]), group=np.array(["g", ""], object))
    assert [line.partition(":")[0] for line in differences(data, other, ["a", "b"])] == [
        "1 images, which cannot be read back", "class of 1 images", "group of 1 images", "classes without an image",
    ]  # fmt: skip


def test_strict_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="idx cannot hold 2 things; the first: names of 1,797"):
        convert("sample:digits", tmp_path / "new" / "deep" / "out", "idx", strict=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to, says", [("digits", "not a format to write"), ("parket", "Did you mean 'parquet'")])
def test_what_is_not_written(tmp_path: Path, to: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        convert("sample:digits", tmp_path / "out", to)
    assert set(writable()) == {"folders", "table", "parquet", "idx", "coco", "voc", "yolo", "masks"}


def test_nothing_is_overwritten(put: Put) -> None:
    root = put("in/1.png")
    (root / "full").mkdir()
    (root / "full/x").write_text("x")
    (root / "file").write_text("x")
    for place in ("full", "file", "in"):
        with pytest.raises(DataError, match=r"something here already|lies in the folder"):
            convert(root / "in", root / place, "table")
    with pytest.raises(DataError, match="lies in the folder that is read"):
        convert(root / "in", root / "in/out", "table")
    (root / "empty").mkdir()
    assert len(convert(root / "in", root / "empty", "table").data) == 1
    assert sorted(p.name for p in root.iterdir()) == ["empty", "file", "full", "in"]


@pytest.mark.skipif(os.name == "nt", reason="no such signal")
def test_a_kill_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    code = (
        "import sys, time; from modicum.data.convert import convert\n"
        "def slow(done, total):\n    print(done, flush=True); time.sleep(0.05)\n"
        f"convert('sample:digits', {str(tmp_path / 'out')!r}, 'folders', progress=slow)"
    )
    job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert job.stdout is not None and job.stdout.readline()
    job.send_signal(signal.SIGKILL)
    job.wait()
    job.stdout.close()
    left = [p.name for p in tmp_path.iterdir()]
    assert len(left) == 1 and left[0].startswith(".out.")
    old = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / left[0], (old, old))
    convert("sample:digits", tmp_path / "out", "idx")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


# -- any set -----------------------------------------------------------------------------------------------------------

WORD = (
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8)
    .map(str.strip)
    .filter(bool)
)
NAME = st.one_of(
    st.sampled_from(["cat", "Cat", "dog", "=1", "-1", "test", "pool", "CON", "a/b", "'", "1", "10", "<b>"]), WORD
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Image names, rows of a table of labels, and rows of a table of votes."""
    number = draw(st.integers(1, 4))
    stems = [draw(st.sampled_from(["", "cat/", "site/", "test/", "x/y/"])) + f"{i}.png" for i in range(number)]
    classes = draw(st.lists(NAME, min_size=1, max_size=3, unique=True))
    with_probs, with_tags, open_ = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    heads = ["class", "split", "group", "session", "domain", "confidence"]
    rows = []
    for stem in stems:
        row = [stem, draw(st.sampled_from(["", *classes] if open_ else [""]))]
        row += [
            draw(st.sampled_from(["", "train", "val", "test"])),
            *(draw(st.one_of(st.just(""), WORD)) for _ in range(3)),
        ]
        row += [draw(st.sampled_from(["", "0.1", "1", "0.333"]))]
        if with_probs:
            shares = (
                np.array(draw(st.lists(st.integers(0, 9), min_size=len(classes), max_size=len(classes))), float) + 0.1
            )
            row += [f"{v:.9g}" for v in shares / shares.sum()] if draw(st.booleans()) else [""] * len(classes)
        if with_tags:
            row += [draw(st.sampled_from(["", "0", "1"])) for _ in classes]
        rows.append([guard(c) for c in row])
    heads += [f"p:{c}" for c in classes] * with_probs + [f"tag:{c}" for c in classes] * with_tags
    people = st.sampled_from(["ann", "=ben", "10", "9"])
    votes = [
        [s, guard(p), guard(draw(st.sampled_from(classes)))] for s in stems for p in draw(st.sets(people, max_size=2))
    ]
    return stems, [["image", *heads], *rows], [["image", "annotator", "class"], *votes] if votes else []


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (3, 2), value).save(out, "PNG")
    return out.getvalue()


def round_trip(drawn: tuple[list[str], list[list[str]], list[list[str]]], to: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        place = Path(home, "in")
        for i, stem in enumerate(drawn[0]):
            (place / stem).parent.mkdir(parents=True, exist_ok=True)
            (place / stem).write_bytes(png(i))
        for name, lines in zip(("labels.csv", "votes.csv"), drawn[1:]):
            if lines:
                with (place / name).open("w", newline="", encoding="utf-8") as file:
                    csv.writer(file).writerows(lines)
        source = read(place).data
        once = convert(place, Path(home, "once"), to)
        if not once.lost:
            same(source, once.data)
        assert not [x for x in once.lost if not x.startswith(FORGIVEN[to])], once.lost
        twice = convert(Path(home, "once"), Path(home, "twice"), to)
        assert twice.lost == []
        same(once.data, twice.data)


# What the layout cannot say: folders lose names where they move an image, and with them the order of images.
CLASSES = ("the order of the classes", "classes without an image")
FORGIVEN = {"folders": ("names of", "the order of", "split of", *CLASSES), "table": CLASSES, "parquet": CLASSES}
HOW = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@pytest.mark.parametrize("to", FORGIVEN)
def test_any_set_goes_round(to: str) -> None:
    settings(max_examples=30, **HOW)(given(tables())(lambda drawn: round_trip(drawn, to)))()


@pytest.mark.slow
@pytest.mark.parametrize("to", FORGIVEN)
def test_any_set_goes_round_for_long(to: str) -> None:
    settings(max_examples=2000, **HOW)(given(tables())(lambda drawn: round_trip(drawn, to)))()


# -- real sets ---------------------------------------------------------------------------------------------------------


def test_flowers_there_and_back(shared_data: Path, tmp_path: Path) -> None:
    first = convert(shared_data / "flowers17", tmp_path / "dirs", "folders")
    assert (tmp_path / "dirs/train/lily of the valley").is_dir() and len(first.data) == 1360
    back = convert(tmp_path / "dirs", tmp_path / "pq", "parquet", strict=True)
    assert set(back.data.counts()) == {80} and len(back.data.rows("split:train")) == 1087
    hub = pq.read_schema(tmp_path / "pq/images.parquet")
    assert hub.metadata is not None and b"huggingface" in hub.metadata and hub.names[:3] == ["id", "image", "label"]
