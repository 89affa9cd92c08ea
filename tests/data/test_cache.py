from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.cache import Pixels
from modicum.data.images import resize
from modicum.data.read import pixels, read
from modicum.data.samples import sample

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


@pytest.mark.parametrize("name", ["pixels.bin", "index.npy", "meta.json"])
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


def test_remains_of_killed_builds_go_after_a_day(mixed: Dataset, tmp_path: Path) -> None:
    for name in (".making-1-old", ".making-2-new"):
        (tmp_path / "cache" / name).mkdir(parents=True)
    os.utime(tmp_path / "cache" / ".making-1-old", (0, 0))
    Pixels.build(mixed, tmp_path / "cache")
    assert homes(tmp_path / "cache") == [".makin", "pixels"]


_BUILD = """
import sys, time, modicum.data.cache as cache
from modicum.data.read import read
data = read(sys.argv[1]).data
write = cache._write
def slow(*rest):
    open(sys.argv[3] + str(len(sys.argv[4])), "w").close()
    import pathlib
    while not (pathlib.Path(sys.argv[3] + "1").exists() and pathlib.Path(sys.argv[3] + "2").exists()): time.sleep(0.01)
    write(*rest)
cache._write = slow
print(cache.Pixels.build(data, sys.argv[2]).batch([0, 1])[0].sum())
"""


def test_two_processes_at_once_end_with_one_good_cache(mixed: Dataset, tmp_path: Path) -> None:
    """Each waits until the other has begun, so that both build and one of them loses the race for the name."""
    call = [sys.executable, "-c", _BUILD, mixed.root, str(tmp_path / "cache"), str(tmp_path / "mark")]
    two = [subprocess.Popen([*call, "x" * n], stdout=subprocess.PIPE, text=True) for n in (1, 2)]
    said = [p.communicate(timeout=60)[0] for p in two]
    assert [p.returncode for p in two] == [0, 0] and said[0] == said[1] != ""
    assert homes(tmp_path / "cache") == ["pixels"]
    home = next((tmp_path / "cache").iterdir())
    assert json.loads((home / "meta.json").read_text())["images"] == 5
    np.testing.assert_array_equal(Pixels.load(home).image(1), pixels(mixed, 1))
