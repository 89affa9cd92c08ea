"""`python -m benchmarks.proposals`: how many objects boxes found from pixels alone reach, and what they cost.

Scenes of one to three digits on a texture (the test's first 100), 20 pictures of BCCD at half their size, and the same
20 cut into tiles of 160 px: there an object counts where at least half of it lies in the tile, cut to it.  Recall is
the share of objects that one of an image's first boxes overlaps by 0.5 or 0.7; intervals are over images.  Seconds are
of one core, an image's mean.  What stays below 0.9 at 0.5 sets the ceiling of whatever learns from these boxes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from modicum.core.dataset import Dataset
from modicum.data.read import pixels, read
from modicum.evaluate.boxes import Truth, reach
from modicum.functional.proposals import column, grid, propose

COUNTS, TILE, SHARE = (10, 100, 2000), 160, 0.5
Pictures = tuple[list[np.ndarray], Truth]
WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "merged regions": lambda image: propose(image, most=COUNTS[-1]),
    "of one hierarchy": lambda image: propose(image, scales=(50,), colours=("RGB",), most=COUNTS[-1]),
    "grid": lambda image: grid(image.shape[:2])[: COUNTS[-1]],
}


def truth_of(images: list[np.ndarray], xyxy: np.ndarray, image: np.ndarray) -> Truth:
    """Boxes (M,4) of images (M,), all objects of one class."""
    m, size = len(xyxy), np.array([i.shape[:2] for i in images])
    return Truth(xyxy, np.zeros(m, int), np.ones(m, int), image, np.ones((len(images), 1), bool), size)


def some(data: Dataset, rows: np.ndarray) -> Pictures:
    """Images of these rows and their boxes."""
    drawn = data.of_kind("boxes")
    xyxy = np.stack([drawn[c].to_numpy() for c in ("x0", "y0", "x1", "y1")], 1).astype(float)
    place = np.full(len(data), -1)
    place[rows] = np.arange(len(rows))
    image = place[drawn["row"].to_numpy()]
    images = [pixels(data, int(row)) for row in rows]
    return images, truth_of(images, xyxy[image >= 0], image[image >= 0])


def scenes(count: int) -> Pictures:
    """Test scenes on a texture."""
    data = read("sample:scenes-texture").data
    return some(data, np.flatnonzero(np.array(data.images["split"].to_pylist()) == "test")[:count])


def cells(count: int) -> Pictures:
    """Pictures of blood cells, evenly from all."""
    from benchmarks.__main__ import data_home

    data = read(data_home() / "bccd" / "BCCD").data
    return some(data, np.linspace(0, len(data) - 1, count).round().astype(int))


def halved(pictures: Pictures) -> Pictures:
    """At half the size."""
    images, truth = pictures
    small = [i[: i.shape[0] // 2 * 2].reshape(i.shape[0] // 2, 2, i.shape[1] // 2, 2, -1).mean((1, 3)) for i in images]
    small = [i.round().astype(np.uint8) for i in small]
    return small, truth_of(small, truth.xyxy / 2, truth.image)


def tiles(pictures: Pictures) -> Pictures:
    """Cut into whole tiles; an object goes with each tile that holds SHARE of it."""
    images, truth = pictures
    cut, xyxy, image = [], [], []
    for i, picture in enumerate(images):
        boxes = truth.xyxy[truth.image == i]
        for y, x in np.ndindex(picture.shape[0] // TILE, picture.shape[1] // TILE):
            moved = boxes - np.tile([x * TILE, y * TILE], 2)
            inside = moved.clip(0, TILE)
            areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (inside, moved)]
            held = inside[areas[0] >= SHARE * areas[1]]
            image += [len(cut)] * len(held)
            xyxy += held.tolist()
            cut.append(picture[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE])
    return cut, truth_of(cut, np.array(xyxy), np.array(image))


def main() -> None:
    """Print a line a set and way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--cells", type=int, default=20)
    args = parser.parse_args()
    blood = cells(args.cells)
    sets = {"scenes-texture": scenes(args.scenes), "bccd 320 x 240": halved(blood), "bccd tiles": tiles(blood)}
    counts = ", ".join(map(str, COUNTS))
    print(f"{'':34}{'objects':>8}{'boxes':>7}{'ms':>7}   recall at 0.5 and 0.7, of the first {counts}")
    for name, (images, truth) in sets.items():
        for way, find in WAYS.items():
            start = time.process_time()
            found = column([find(image) for image in images])
            taken = 1000 * (time.process_time() - start) / len(images)
            got = reach(found, truth, COUNTS)
            last = f"[{got.half[-1].low:.2f}, {got.half[-1].high:.2f}]"
            values = "   ".join(" ".join(f"{v.value:.2f}" for v in part) for part in (got.half, got.high))
            print(
                f"{name:17}{way:17}{len(truth.xyxy):8}{got.mean[-1]:7.0f}{taken:7.0f}   {values}   {last}", flush=True
            )


if __name__ == "__main__":
    main()
