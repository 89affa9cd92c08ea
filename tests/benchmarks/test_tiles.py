"""Tiles of blood smears: what is written follows from the source's boxes, and is read back as what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import tiles
from modicum.core.tags import tags
from modicum.data.read import read


def test_stained_spots_without_a_box_are_crowds() -> None:
    image = np.full((160, 160, 3), 200, np.uint8)
    image[10:50, 20:70, 1] = 150
    image[100:140, 100:140, 1] = 150
    image[80:85, 0:160:20, 1] = 150  # a few specks
    none, both = np.zeros((0, 4)), np.array([[20.0, 10, 70, 50], [100, 100, 140, 140]])
    assert tiles.crowds(image, none).tolist() == both.tolist()
    assert tiles.crowds(image, both[:1]).tolist() == both[1:].tolist()
    assert tiles.crowds(image, both).shape == (0, 4)


def test_a_set_of_tiles(shared_data: Path, tmp_path: Path) -> None:
    first, second = (tiles.drawn("test", 0.1, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a.xyxy, b.xyxy) for a, b in zip(first, second, strict=True))
    tiles.written(tmp_path, 0)
    one = read(tmp_path).data
    train, group = one.of_split("train"), one.field("group")
    assert train.sum() == 3 * tiles.A_CLASS + tiles.EMPTY and (~train).sum() == 0.4 * train.sum()
    assert not set(group[train]) & set(group[~train])
    source = read(shared_data / "bccd").data
    split = dict(zip((Path(i).stem for i in source.ids), source.field("split"), strict=True))
    assert {split[g] for g in group[train]} == {"train"} and {split[g] for g in group[~train]} == {"test"}
    said, known = one.of_kind("boxes"), tags(one)
    real = said.filter(np.asarray([v is None for v in said["value"].to_pylist()]))
    present = {(r, c) for r, c in zip(real["row"].to_pylist(), real["class"].to_pylist(), strict=True)}
    assert known is not None and {(int(r), int(c)) for r, c in np.argwhere(known == 1)} == present
    assert ((known[train] == 1).sum(0) >= tiles.A_CLASS).all() and (known[train] == 0).any(0).all()
    sides = {side for i in one.ids for side in Image.open(tmp_path / str(i)).size}
    assert sides == {tiles.TILE}
    boxes = np.stack([said[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1)
    assert (boxes >= 0).all() and (boxes <= tiles.TILE).all()
