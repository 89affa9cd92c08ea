"""Blood cells in small pictures: tiles of BCCD's smears with the boxes that lie there, as a folder for `fit`.

A tile is TILE pixels a side, at full size.  An object is in the tile that holds its centre, and its box is cut to the
tile; one whose centre lies elsewhere but that shows REACH of itself is to be ignored (`iscrowd`).  Tags follow from
boxes.  For training, A_CLASS tiles are drawn around objects of each class, and EMPTY that
hold none; measured is on TEST
as many, of the source's test pictures.  Two tiles of a picture share less than half of their pixels.  `labels.csv`
names the picture of each tile as its group, so that folds part pictures, not tiles.

The source left out red cells where they crowd, so its boxes of RBC are not complete.  What COCO has for that is a box
with `iscrowd`: each stained spot of LEAST pixels or more that no box covers is written as a crowd of red cells.  There,
RBC is neither present nor absent, a detector is not taught that it is background, and finding it is no mistake.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TILE, REACH, AWAY = 160, 0.1, 50
STAINED, LEAST = 0.94, 600  # green by red, at most: plasma has 1.0; pixels of a spot
CLASSES = ("WBC", "RBC", "Platelets")
A_CLASS, EMPTY = 100, 60
TEST = 0.4


class Tile(NamedTuple):
    """row: of its picture.  corner: x and y of its upper left pixel.  image: uint8 (TILE,TILE,3).  xyxy: float (M,4) in
    pixels of the tile.  cls: (M,), numbers into CLASSES.  whole: bool (M,), False = to be ignored."""

    row: int
    corner: np.ndarray
    image: np.ndarray
    xyxy: np.ndarray
    cls: np.ndarray
    whole: np.ndarray


@cache
def smears() -> Any:
    """The pictures with their boxes."""
    from benchmarks.__main__ import data_home
    from modicum.data.read import read

    return read(data_home() / "bccd").data


@cache
def picture(row: int) -> np.ndarray:
    """A whole picture, uint8 (480,640,3)."""
    from modicum.data.read import pixels

    return pixels(smears(), row)


def crowds(image: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
    """Boxes (K,4) around the stained spots of a tile that no box (M,4) covers."""
    from scipy.ndimage import binary_fill_holes, binary_opening, find_objects, label

    stained = binary_fill_holes(image[..., 1] < STAINED * image[..., 0].astype(float))
    for x0, y0, x1, y1 in xyxy.round().astype(int).tolist():
        stained[y0:y1, x0:x1] = False
    spot, _ = label(binary_opening(stained, iterations=3))
    large = [s for k, s in enumerate(find_objects(spot), 1) if (spot[s] == k).sum() >= LEAST]
    return np.array([[x.start, y.start, x.stop, y.stop] for y, x in large], float).reshape(-1, 4)


class Smears:
    """Pictures of a split, from which tiles are cut."""

    def __init__(self, split: str) -> None:
        data = smears()
        said = data.of_kind("boxes")
        number = np.array([CLASSES.index(name) for name in data.names])
        self.row, self.cls = said["row"].to_numpy(), number[said["class"].to_numpy()]
        self.xyxy = np.stack([said[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1).astype(float)
        self.rows = np.flatnonzero(data.of_split(split))
        self.size = np.array([640, 480])
        self.taken: list[Tile] = []

    def tile(self, row: int, at: np.ndarray, bare: bool = False) -> Tile | None:
        """The tile around a point, moved into the picture, with what reaches into it; None if too much of it is taken.

        bare: None, too, if it holds an object or a crowd.
        """
        corner = np.clip(at - TILE / 2, 0, self.size - TILE).astype(int)
        mine = self.row == row
        moved = self.xyxy[mine] - np.tile(corner, 2)
        middle, cut = (moved[:, :2] + moved[:, 2:]) / 2, moved.clip(0, TILE)
        inside = ((middle >= 0) & (middle < TILE)).all(1)
        if not self.free(row, corner) or (bare and inside.any()):
            return None
        seen = inside | (_areas(cut) >= REACH * _areas(moved))
        x, y = corner.tolist()
        image = picture(row)[y : y + TILE, x : x + TILE]
        spots = crowds(image, cut)
        if bare and len(spots):
            return None
        crowd = np.full(len(spots), CLASSES.index("RBC"))
        cls, whole = np.append(self.cls[mine][seen], crowd), np.append(inside[seen], crowd < 0)
        return Tile(row, corner, image, np.concatenate([cut[seen], spots]), cls, whole)

    def free(self, row: int, corner: np.ndarray) -> bool:
        """Whether it would share less than half of its pixels with every tile that was taken."""
        near = [TILE - abs(t.corner - corner) for t in self.taken if t.row == row]
        return all(n.clip(0).prod() < TILE**2 / 2 for n in near)

    def around(self, cls: int, count: int, luck: np.random.Generator) -> None:
        """Take tiles that hold objects of a class; RuntimeError where there are not so many."""
        mine = luck.permutation(np.flatnonzero((self.cls == cls) & np.isin(self.row, self.rows)))
        for one in mine.tolist():
            middle = (self.xyxy[one, :2] + self.xyxy[one, 2:]) / 2
            tile = self.tile(int(self.row[one]), middle + luck.integers(-AWAY, AWAY + 1, 2))
            if tile is not None:
                self.taken.append(tile)
                count -= 1
            if not count:
                return
        raise RuntimeError(f"{count} tiles with {CLASSES[cls]} too few")

    def empty(self, count: int, luck: np.random.Generator) -> None:
        """Take tiles that hold no object and no crowd; RuntimeError where there are not so many."""
        for _ in range(100_000):
            tile = self.tile(int(luck.choice(self.rows)), luck.random(2) * self.size, bare=True)
            if tile is not None:
                self.taken.append(tile)
                count -= 1
            if not count:
                return
        raise RuntimeError(f"{count} empty tiles too few")


def drawn(split: str, share: float, luck: np.random.Generator) -> list[Tile]:
    """Tiles of a split, `share` of the numbers of training."""
    smear = Smears(split)
    for cls in (CLASSES.index("WBC"), CLASSES.index("Platelets"), CLASSES.index("RBC")):  # the rare ones choose first
        smear.around(cls, round(A_CLASS * share), luck)
    smear.empty(round(EMPTY * share), luck)
    return smear.taken


def written(home: Path, seed: int) -> None:
    """images/train, images/test, annotations/instances_train.json, instances_test.json and labels.csv in `home`."""
    from PIL import Image

    luck, lines = np.random.default_rng([11, seed]), ["image,group"]
    (home / "annotations").mkdir(parents=True)
    for split, share in (("train", 1.0), ("test", TEST)):
        (home / "images" / split).mkdir(parents=True)
        images: list[dict[str, Any]] = []
        boxes: list[dict[str, Any]] = []
        tiles = sorted(drawn(split, share, luck), key=lambda t: (t.row, *t.corner))
        for number, tile in enumerate(tiles, 1):
            parent = Path(smears().ids[tile.row]).stem
            name = f"images/{split}/{parent}-{tile.corner[0]}-{tile.corner[1]}.png"
            Image.fromarray(tile.image).save(home / name)
            lines.append(f"{name},{parent}")
            images.append({"id": number, "file_name": name, "width": TILE, "height": TILE})
            for at, cls, whole in zip(tile.xyxy.tolist(), tile.cls.tolist(), tile.whole.tolist(), strict=True):
                box = [at[0], at[1], at[2] - at[0], at[3] - at[1]]
                one = {"id": len(boxes) + 1, "image_id": number, "category_id": cls + 1, "bbox": box}
                boxes.append({**one, "area": box[2] * box[3], "iscrowd": int(not whole)})
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (home / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    (home / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _areas(xyxy: np.ndarray) -> np.ndarray:
    return (xyxy[:, 2:] - xyxy[:, :2]).prod(1)
