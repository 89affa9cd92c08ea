from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats.folders import place
from modicum.data.images import decode
from modicum.data.read import pixels, read
from modicum.data.walk import each, walk

Put = Callable[..., Path]


def classes(root: Path) -> dict[str, tuple[str, str]]:
    """id -> (class name, split)."""
    data = read(root).data
    return {i: (data.names[c] if c >= 0 else "", s) for i, c, s in zip(data.ids, data.cls, data.field("split"))}


def test_plain_class_folders(put: Put) -> None:
    for name in ("dog/2.png", "cat/b/1.png", "cat/a.png", "dog/10.png"):
        root = put(name)
    data = read(root).data
    assert data.reader == "folders" and data.names == ("cat", "dog")
    assert data.ids.tolist() == ["cat/a.png", "cat/b/1.png", "dog/10.png", "dog/2.png"]
    assert data.cls.tolist() == [0, 0, 1, 1] and set(data.field("split")) == {""}
    np.testing.assert_array_equal(pixels(data, 1), decode(root / "cat/b/1.png"))


@pytest.mark.parametrize("word, split", [("train", "train"), ("val", "val"), ("Validation", "val"), ("TEST", "test")])
def test_splits_above_the_classes(put: Put, word: str, split: str) -> None:
    put("other/x.png")
    assert classes(put(f"{word}/cat/1.png")) == {f"{word}/cat/1.png": ("cat", split), "other/x.png": ("other", "")}


@pytest.mark.parametrize("pool", ["unlabelled", "Unlabeled", "pool"])
def test_pools_and_loose_images_have_no_class(put: Put, pool: str) -> None:
    for name in (
        f"{pool}/deep/1.png",
        f"train/{pool}/2.png",
        "train/3.png",
        "4.png",
        "test/cat/5.png",
        "train/dog/6.png",
    ):
        root = put(name)
    found = classes(root)
    assert found.pop("test/cat/5.png") == ("cat", "test") and found.pop("train/dog/6.png") == ("dog", "train")
    assert set(found.values()) == {("", "train")}


def test_flat_folder_and_single_folder(put: Put) -> None:
    root = put("1.png")
    put("2.png")
    assert classes(root) == {"1.png": ("", ""), "2.png": ("", "")} and read(root).data.names == ()


def test_a_single_class_folder_is_no_class(put: Put) -> None:
    found = read(put("JPEGImages/1.png"))
    assert found.data.names == () and "only class folder" in found.faults[0].reason


def test_wrapping_folder(put: Put) -> None:
    put("flowers/rose/1.png")
    assert classes(put("flowers/oak/2.png")) == {"flowers/oak/2.png": ("oak", ""), "flowers/rose/1.png": ("rose", "")}


def test_place() -> None:
    assert place("cat/train/1.png") == ("train", "cat")
    assert place("train/test/1.png") == ("train", "")
    assert place("10/1.png") == ("", "10")


def test_numbered_classes_count(put: Put) -> None:
    for n in (10, 2, 1):
        root = put(f"{n}/x.png")
    assert read(root).data.names == ("1", "2", "10")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_folders_whose_names_can_be_no_class(put: Put) -> None:
    root = put("cat/1.png")
    put("dog/2.png")
    put("x\x1b[2J/3.png")
    put("T-shirt%2Ftop/4.png")
    put("\u202ecod/5.png")
    found = read(root)
    assert found.data.names == ("T-shirt/top", "cat", "dog", "\u202ecod") and found.data.cls.tolist() == [
        0,
        1,
        2,
        -1,
        3,
    ]
    assert [(f.where, f.reason.split(":")[0]) for f in found.faults] == [
        ("x\\x1b[2J/", "a control character in the name 'x\\x1b[2J'")
    ]  # fmt: skip


def test_folders_of_one_name_in_two_spellings_are_one_class(put: Put) -> None:
    put("e\u0301/1.png")
    root = put("\u00e9/2.png")
    put("b/3.png")
    found = read(root)
    assert found.data.names == ("b", "\u00e9") and sorted(found.data.cls.tolist()) == [0, 1, 1] and not found.faults


def test_ignored_and_faulty_files(put: Put) -> None:
    root = put("cat/1.png")
    put("dog/1.png")
    for name in (".hidden.png", "cat/Thumbs.db", "cat/.DS_Store", "README.md", "cat/notes.txt"):
        (root / name).write_text("x")
    (root / ".git").mkdir()
    (root / "empty").mkdir()
    (root / "dog/cell.czi").write_text("x")
    found = read(root)
    assert len(found.data) == 2
    assert {f.where: f.reason for f in found.faults} == {
        "dog/cell.czi": ".czi is not read as an image", "empty/": "no image in this folder",
    }  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links(put: Put, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = put("cat/1.png")
    put("dog/1.png")
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.png").write_bytes((root / "cat/1.png").read_bytes())
    (root / "cat/out.png").symlink_to(outside / "secret.png")
    (root / "cat/in.png").symlink_to(root / "dog/1.png")
    (root / "cat/dead.png").symlink_to(root / "none.png")
    (root / "loop").symlink_to(root)
    (root / "away").symlink_to(outside)
    found = read(root)
    assert found.data.ids.tolist() == ["cat/1.png", "cat/in.png", "dog/1.png"]
    reasons = {f.where: f.reason for f in found.faults}
    assert reasons["cat/out.png"] == reasons["away"] == "a link that leaves the folder: copy the file here"
    assert reasons["cat/dead.png"] == "a link to nothing" and reasons["loop"] == "a link to a folder"


@pytest.mark.skipif(os.name == "nt", reason="Windows names are always text")
def test_a_name_that_is_no_text(put: Put) -> None:
    root = put("cat/1.png")
    put("dog/1.png")
    try:
        Path(os.fsdecode(os.fsencode(root / "cat") + b"/\xff.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system refuses such names")
    found = read(root)
    assert len(found.data) == 2 and found.faults[0].reason == "the name is not UTF-8: rename it"


def test_ids_never_lead_out(put: Put) -> None:
    root = str(put("1.png"))
    for name in ("../x.png", "/etc/x.png", "C:\\x.png", "a/..\\..\\x.png"):
        with pytest.raises(DataError, match="leads out"):
            pixels(Dataset.build([name], reader="folders", root=root), 0)


def test_errors_say_what_was_seen(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing here"):
        read(tmp_path / "none")
    with pytest.raises(DataError, match="empty"):
        read(tmp_path)
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(DataError, match=r"1 \.xyz files[\s\S]*class folders"):
        read(tmp_path)
    with pytest.raises(DataError, match="Did you mean 'folders'"):
        read(tmp_path, "folder")
    with pytest.raises(DataError, match="sample:nothing"):
        read("sample:nothing")


def test_one_folder_at_a_time_is_the_order_of_the_whole(tmp_path: Path) -> None:
    """Names around the slash (33 ! 46 . 47 / 48 0) are where an order by folder could differ from one by name."""
    names = ("a/1.png", "a!/1.png", "a.png", "a0/b/2.png", "a0/b.png", "a0.png", "a/z/1.png", "b.PNG")
    for name in (*names, "a/notes.doc", "a/.hidden.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found, faults = walk(tmp_path)
    assert list(each(tmp_path)) == sorted([*found, *(f.where for f in faults)]) and len(found) == len(names)
    with pytest.raises(DataError, match="cannot be read"):
        list(each(tmp_path / "none"))
