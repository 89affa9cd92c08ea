from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.cache import Pixels
from modicum.data.hashes import BYTES, sketch
from modicum.data.images import resize
from modicum.data.read import pixels, read
from modicum.data.samples import sample
from modicum.data.stream import content

Put = Callable[..., Path]
RNG = np.random.default_rng(0)


def homes(folder: Path) -> list[str]:
    return sorted(p.name[:6] for p in folder.iterdir())


@pytest.fixture
def mixed(put: Put) -> Dataset:
    """Colour 5x4 and 200x150, grey 6x7, 16-bit 5x3, and one that cannot be read."""
    put("a.png", 1)
    put("b.png", 2, size=(200, 150))
    root = put("c.png")
    Image.fromarray(RNG.integers(0, 256, (7, 6), np.uint8)).save(root / "c.png")
    Image.fromarray(RNG.integers(0, 65536, (3, 5)).astype(np.uint16)).save(root / "d.png")
    (root / "e.png").write_bytes(b"noise")
    return read(root).data


def test_mixed_sizes_channels_and_depths(mixed: Dataset, tmp_path: Path) -> None:
    cache = Pixels.build(mixed, tmp_path / "cache")
    assert cache.channels == 3 and cache.good.tolist() == [True] * 4 + [False] and len(cache) == 5
    assert [f.where for f in cache.faults] == ["e.png"] and "not a readable" in cache.faults[0].reason
    for row in range(4):
        whole = pixels(mixed, row)
        np.testing.assert_array_equal(cache.image(row), np.broadcast_to(whole, (*whole.shape[:2], 3)))
    assert cache.image(3).dtype == np.uint16 and cache.image(4).shape == (0, 0, 3)
    block, sizes = cache.batch(np.array([2, 0, 4]))
    assert block.shape == (3, 7, 6, 3) and block.dtype == np.uint8 and sizes.dtype == np.int32
    assert sizes.tolist() == [[7, 6], [4, 5], [0, 0]] and not block[1, 4:].any() and not block[1, :, 5:].any()
    np.testing.assert_array_equal(block[1, :4, :5], pixels(mixed, 0))
    np.testing.assert_array_equal(block[0], np.repeat(pixels(mixed, 2), 3, 2))


def test_a_batch_with_sixteen_bits_is_sixteen_bits(mixed: Dataset, tmp_path: Path) -> None:
    block, _ = Pixels.build(mixed, tmp_path / "cache").batch(np.array([0, 3]))
    assert block.dtype == np.uint16
    np.testing.assert_array_equal(block[0, :4, :5], pixels(mixed, 0).astype(np.uint16) * 257)
    np.testing.assert_array_equal(block[1, :3, :5], np.repeat(pixels(mixed, 3), 3, 2))


def test_shorter_side_is_brought_down_never_up(mixed: Dataset, tmp_path: Path) -> None:
    cache = Pixels.build(mixed, tmp_path / "cache", side=30)
    assert cache.side == 30 and [cache.image(r).shape[:2] for r in range(4)] == [(4, 5), (30, 40), (7, 6), (3, 5)]
    np.testing.assert_array_equal(cache.image(1), resize(pixels(mixed, 1), 30))


def test_the_quick_path_equals_the_slow_one(put: Put, tmp_path: Path) -> None:
    for i in range(20):
        root = put(f"{i:02d}.png", i)
    (root / "03.png").write_bytes(b"noise")
    data = read(root).data
    cache = Pixels.build(data, tmp_path / "cache")
    assert cache._even is not None and cache._even.shape == (19, 4, 5, 3)
    rows = np.array([7, 0, 7, 19])
    block, sizes = cache.batch(rows)
    np.testing.assert_array_equal(block, np.stack([pixels(data, r) for r in rows]))
    assert (sizes == [4, 5]).all()
    assert cache.batch(np.array([3, 4]))[0].shape == (2, 4, 5, 3) and not cache.batch(np.array([3, 4]))[0][0].any()
    assert cache.batch(np.array([], int))[0].shape[0] == 0


def test_a_set_that_comes_as_one_block(tmp_path: Path) -> None:
    data = sample("digits")
    cache = Pixels.build(data, tmp_path)
    block, _ = cache.batch(np.arange(len(data)))
    assert block.shape == (1797, 8, 8, 1) and cache.channels == 1
    np.testing.assert_array_equal(block[100], pixels(data, 100))
    assert Pixels.build(data, tmp_path, side=4).image(9).shape == (4, 4, 1)


def test_a_second_build_decodes_nothing(mixed: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    first = Pixels.build(mixed, tmp_path / "cache", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5)
    monkeypatch.setattr("modicum.data.cache.stream", None)
    labelled = mixed + mixed.delta_class(np.zeros(5, int), source="x", who="human")
    again = Pixels.build(labelled, tmp_path / "cache")
    assert again.home == first.home and [f.where for f in again.faults] == ["e.png"]


def test_changed_images_and_other_sides_are_other_caches(mixed: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    first = Pixels.build(mixed, folder)
    assert Pixels.build(mixed, folder, side=2).home != first.home
    Image.new("RGB", (9, 9)).save(Path(mixed.root, "a.png"))
    assert Pixels.build(mixed, folder).image(0).shape == (9, 9, 3)
    assert Pixels.build(mixed.take(np.array([1, 0])), folder).image(1).shape == (9, 9, 3)


@pytest.mark.parametrize("name", ["pixels.bin", "index.npy", "sketches.npy", "meta.json"])
def test_a_damaged_cache_is_refused_and_built_again(mixed: Dataset, tmp_path: Path, name: str) -> None:
    cache = Pixels.build(mixed, tmp_path / "cache")
    whole = (cache.home / name).read_bytes()
    (cache.home / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        Pixels.load(cache.home)
    np.testing.assert_array_equal(Pixels.build(mixed, tmp_path / "cache").image(0), pixels(mixed, 0))


def test_nothing_readable_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"noise")
    data = read(tmp_path / "images").data
    with pytest.raises(DataError, match=r"not one of 1 images can be read; the first: a\.png"):
        Pixels.build(data, tmp_path / "cache")
    assert homes(tmp_path / "cache") == []


def test_an_interrupted_build_is_never_seen(mixed: Dataset, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pixels.build(mixed, tmp_path / "cache", progress=stop)
    assert homes(tmp_path / "cache") == []


_BUILD = """
import os, sys, time
from modicum.data.cache import Pixels
from modicum.data.read import read
def slowly(done, total):
    with open(sys.argv[3], "a") as marks:
        marks.write(f"{os.getpid()}\\n")
    time.sleep(float(sys.argv[4]))
data = read(sys.argv[1]).data
print("ready", flush=True)
sys.stdin.readline()
print(Pixels.build(data, sys.argv[2], progress=slowly).batch([0, 1])[0].sum())
"""


def builder(data: Dataset, tmp_path: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that is about to build, and takes this long for each part of the images."""
    call = [sys.executable, "-c", _BUILD, data.root, tmp_path / "cache", tmp_path / "marks", str(seconds)]
    child = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_of_two_processes_one_builds_and_the_other_waits(mixed: Dataset, tmp_path: Path) -> None:
    two = [builder(mixed, tmp_path, 0.3) for _ in range(2)]
    for child in two:
        go(child)
    said = [child.communicate(timeout=60)[0] for child in two]
    assert [child.returncode for child in two] == [0, 0] and said[0] == said[1] != ""
    assert len(set((tmp_path / "marks").read_text().split())) == 1  # one alone decoded
    assert homes(tmp_path / "cache") == ["pixels"]
    home = next((tmp_path / "cache").iterdir())
    assert json.loads((home / "meta.json").read_text())["images"] == 5
    np.testing.assert_array_equal(Pixels.load(home).image(1), pixels(mixed, 1))


@pytest.mark.parametrize("waiting", [False, True])
def test_after_kill_9_the_next_one_cleans_up_and_builds(mixed: Dataset, tmp_path: Path, waiting: bool) -> None:
    """Killed in the middle of the images; the other process is waiting by then, or comes later."""
    first, second = (builder(mixed, tmp_path, seconds) for seconds in (1000, 0))
    go(first)
    until((tmp_path / "marks").exists)
    assert homes(tmp_path / "cache") == [".makin"]
    if waiting:
        go(second)
        time.sleep(0.2)
        assert second.poll() is None and homes(tmp_path / "cache") == [".makin"]
    first.kill()
    first.wait()
    if not waiting:
        assert homes(tmp_path / "cache") == [".makin"]
        go(second)
    assert second.communicate(timeout=60)[0] and second.returncode == 0
    assert homes(tmp_path / "cache") == ["pixels"]
    np.testing.assert_array_equal(Pixels.build(mixed, tmp_path / "cache").image(1), pixels(mixed, 1))


def test_building_another_set_cleans_up_too(mixed: Dataset, tmp_path: Path) -> None:
    first = builder(mixed, tmp_path, 1000)
    go(first)
    until((tmp_path / "marks").exists)
    other = Pixels.build(mixed, tmp_path / "cache", side=3)
    assert homes(tmp_path / "cache") == [".makin", "pixels"]  # it lives
    first.kill()
    first.wait()
    Pixels.build(mixed, tmp_path / "cache", side=2)
    assert homes(tmp_path / "cache") == ["pixels", "pixels"] and other.home.is_dir()


def test_sketches_and_sizes_are_those_of_the_images(mixed: Dataset, tmp_path: Path) -> None:
    cache = Pixels.build(mixed, tmp_path / "cache", side=64)
    assert cache.index["whole_height"].tolist() == [4, 150, 7, 3, 0] and cache.sketches.shape == (5, BYTES)
    assert not cache.sketches[4].any() and cache.index["hash"][4] == b""
    for row in range(4):
        whole = sketch(pixels(mixed, row)).astype(int)
        assert np.abs(cache.sketches[row] - whole).mean() < 2
        assert cache.index["hash"][row].decode() == content(Path(mixed.root, mixed.ids[row]).read_bytes())


def test_of_equal_sixteen_bit_values_the_place_is_even(put: Put, tmp_path: Path) -> None:
    root = put("a.png", size=(3, 3))
    Image.fromarray(np.full((3, 3), 65535, np.uint16)).save(root / "b.png")
    cache = Pixels.build(read(root).data, tmp_path / "cache")
    assert cache.index["offset"].tolist() == [0, 28] and (cache.image(1) == 65535).all()


def test_two_caches_are_read_as_one(tmp_path: Path) -> None:
    """Rows of both, of other sizes, channels and bits, as each gives them by itself."""
    from modicum.data.cache import join, of_images

    luck = np.random.default_rng(0)
    grey, deep = luck.integers(0, 256, (6, 5, 1), np.uint8), luck.integers(0, 60000, (7, 4, 1), np.uint16)
    for name, array in (("a.png", grey), ("b.png", deep)):
        Image.fromarray(array[..., 0]).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"no image")
    data = Dataset.build(["a.png", "b.png", "c.png"], reader="folders", root=str(tmp_path))
    first = Pixels.build(data, tmp_path / "x")
    images = luck.integers(0, 256, (4, 8, 8, 3), np.uint8)
    both = join(first, of_images(images))
    assert len(both) == 7 and both.channels == 3 and both.good.tolist() == [True, True, False, *[True] * 4]
    np.testing.assert_array_equal(both.image(0), np.repeat(grey, 3, 2))
    np.testing.assert_array_equal(both.image(1), np.repeat(deep, 3, 2))
    np.testing.assert_array_equal(both.image(5), images[2])
    assert both.image(2).shape[:2] == (0, 0)
    pixels, sizes = both.batch(np.array([6, 0]))
    np.testing.assert_array_equal(pixels[0], images[3])
    np.testing.assert_array_equal(pixels[1, :6, :5], np.repeat(grey, 3, 2))
    assert sizes.tolist() == [[8, 8], [6, 5]] and not pixels[1, 6:].any()
    pixels, _ = both.batch(np.array([1, 3]))
    np.testing.assert_array_equal(pixels[1], images[0].astype(np.uint16) * 257)
    assert both.index["whole_height"].tolist() == [6, 7, 0, 8, 8, 8, 8] and both.faults == first.faults
