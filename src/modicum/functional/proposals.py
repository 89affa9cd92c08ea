"""Boxes that may hold an object, found from pixels alone: regions of even colour, merged step by step.

A graph of pixels falls into regions (Felzenszwalb and Huttenlocher, 2004); the two neighbours that are most alike
become one, again and again, and the frame of every region there ever was is a box (selective search, Uijlings et al.,
2013): by our own program, or by OpenCV's where it is installed.  Or a grid of boxes, which needs no picture.

Images are uint8 or uint16 (H,W,c), c 1 or 3.  Boxes are float32 xyxy, pixel edges, half open.  S regions, R boxes.
"""

from __future__ import annotations

import heapq
import importlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from modicum.core.errors import MachineError, SettingsError

BINS = 25


def grid(
    size: tuple[int, int], sides: Sequence[float] = (0.125, 0.25, 0.5, 1), ratios: Sequence[float] = (0.5, 1, 2),
    step: float = 0.5,
) -> np.ndarray:  # fmt: skip
    """Boxes (R,4) of each shape at even steps over an image of (height, width), all of them inside, largest first.

    sides: root of a box's area, in shares of the image's shorter side.  ratios: width by height.  step: from one box to
    the next, in shares of its own sides, at most.
    """
    if not min(*size, step, *sides, *ratios) > 0:
        found = f"size {size}, sides {tuple(sides)}, ratios {tuple(ratios)}, step {step}"
        raise SettingsError(found, where="proposals", fix="All of them are above 0.")
    height, width = size
    out = []
    for side in sorted(sides, reverse=True):
        for ratio in ratios:
            w, h = (min(side * min(size) * ratio**p, full) for p, full in ((0.5, width), (-0.5, height)))
            x, y = (np.linspace(0, f - s, 1 + int(np.ceil((f - s) / (step * s)))) for f, s in ((width, w), (height, h)))
            corner = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
            out.append(np.concatenate([corner, corner + np.array([w, h])], 1))
    return _distinct(np.concatenate(out).astype(np.float32))


def propose(
    image: np.ndarray, *, scales: Sequence[float] = (50, 150), colours: Sequence[str] = ("RGB", "HSV"),
    least: int = 20, narrow: float = 6, most: int = 1000,
) -> np.ndarray:  # fmt: skip
    """Boxes (R,4) of an image's regions and of what they merge into, R at most `most`; first those that were least like
    the neighbour they joined, which objects tend to be.

    scales: of `segments`, one hierarchy each and for each of `colours`, modes of Pillow; a grey image has one.  least:
    pixels of the smallest region.  narrow: the shortest side of a box, in pixels.
    """
    from PIL import Image

    eight = _eight(image)
    grey = eight.shape[2] == 1 or (eight == eight[..., :1]).all()
    looks = [eight[..., :1]] if grey else [np.asarray(Image.fromarray(eight).convert(c)) for c in colours]
    parts = [merged(segments(pixels, scale, least=least), pixels) for pixels in looks for scale in scales]
    boxes, alike = (np.concatenate(part) for part in zip(*parts, strict=True))
    boxes = boxes[np.argsort(alike, kind="stable")]
    return _distinct(boxes[(boxes[:, 2:] - boxes[:, :2]).min(1) >= narrow])[:most]


def selective(
    image: np.ndarray, most: int = 1000, *, scales: Sequence[float] = (50, 150), least: int = 20, narrow: float = 6
) -> np.ndarray:
    """Boxes (R,4) of OpenCV's selective search, R at most `most`: where it finds more, some of all sizes, spread
    evenly.  Largest first: OpenCV's own order is another in each call, the boxes are the same.

    The paper's fast mode: the looks HSV and Lab, two scales of `segments`, and neighbours alike by texture, size and
    gaps, with and without colour.  Regions are finer than OpenCV's, which are of 100 pixels at least and meant for
    photographs.  scales, least, narrow: see `propose`.  MachineError where the package is not installed.
    """
    cv2, eight = _opencv(), _eight(image)
    rgb, own = np.ascontiguousarray(np.broadcast_to(eight, (*eight.shape[:2], 3))), cv2.ximgproc.segmentation
    finder = own.createSelectiveSearchSegmentation()
    finder.setBaseImage(rgb)
    for space in (cv2.COLOR_RGB2HSV, cv2.COLOR_RGB2Lab):
        finder.addImage(cv2.cvtColor(rgb, space))
    for scale in scales:
        finder.addGraphSegmentation(own.createGraphSegmentation(0.8, scale, least))
    for terms in (("Color", "Fill", "Texture", "Size"), ("Fill", "Texture", "Size")):
        parts = [getattr(own, f"createSelectiveSearchSegmentationStrategy{term}")() for term in terms]
        finder.addStrategy(own.createSelectiveSearchSegmentationStrategyMultiple(*parts))
    boxes = np.array(finder.process(), np.float32).reshape(-1, 4)  # x, y, width, height
    boxes = np.unique(boxes[boxes[:, 2:].min(1) >= narrow], axis=0)
    boxes = boxes[np.argsort(-boxes[:, 2:].prod(1), kind="stable")]
    boxes[:, 2:] += boxes[:, :2]
    return boxes[np.linspace(0, len(boxes) - 1, min(most, len(boxes))).round().astype(int)]


def _opencv() -> Any:
    """The module cv2, with what selective search needs.  Loading it changes search paths of this process, which are put
    back."""
    name, before = "opencv-contrib-python-headless", dict(os.environ)
    try:
        cv2: Any = importlib.import_module("cv2")
    except ImportError:
        raise MachineError(f"{name} is not installed", where="proposals", fix=f"pip install {name}") from None
    finally:
        os.environ.clear()
        os.environ.update(before)
    if not hasattr(cv2, "ximgproc"):
        fix = f"Each is the module cv2: pip uninstall opencv-python opencv-python-headless, then pip install {name}"
        raise MachineError(f"OpenCV is installed without its extra modules, {name}", where="proposals", fix=fix)
    return cv2


def _eight(image: np.ndarray) -> np.ndarray:
    """The image in eight bits; SettingsError for what is none."""
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype not in (np.uint8, np.uint16) or not image.size:
        found = f"an image of shape {image.shape}, {image.dtype}"
        raise SettingsError(found, where="proposals", fix="Give uint8 or uint16 (H,W,1) or (H,W,3).")
    return (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image


def column(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Boxes of N images, (R_i,4) each, as one column, float32 (N,R,4), padded with NaN."""
    out = np.full((len(boxes), max((len(b) for b in boxes), default=0), 4), np.nan, np.float32)
    for row, some in zip(out, boxes, strict=True):
        row[: len(some)] = some
    return out


def _distinct(boxes: np.ndarray) -> np.ndarray:
    """Each box once, where it first stood."""
    return boxes[np.sort(np.unique(boxes, axis=0, return_index=True)[1])]


def segments(pixels: np.ndarray, scale: float = 100, sigma: float = 0.8, least: int = 20) -> np.ndarray:
    """Regions of even colour, int64 (H,W), numbered from 0.

    Edges join pixels that share a side, lightest first; weight: distance of their colours, float (H,W,c) in 0 to 255,
    blurred by sigma pixels.  An edge makes two regions one unless it outweighs, in either of them, its heaviest edge
    inside + scale / its pixels.  Then regions of fewer than `least` pixels join the neighbour with the lightest edge.
    """
    from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]

    height, width = pixels.shape[:2]
    soft = gaussian_filter(np.asarray(pixels, np.float32), (sigma, sigma, 0))
    at = np.arange(height * width).reshape(height, width)
    weight = np.concatenate([np.linalg.norm(np.diff(soft, axis=k), axis=2).ravel() for k in (0, 1)])
    start, end = (np.concatenate([a.ravel(), b.ravel()]) for a, b in ((at[:-1], at[:, :-1]), (at[1:], at[:, 1:])))
    order = np.argsort(weight, kind="stable")
    start, end, weight = start[order], end[order], weight[order]
    parent, size = _joined(start, end, weight, height * width, scale)
    roots = _roots(parent)
    apart = np.flatnonzero(roots[start] != roots[end])
    _small(roots[start[apart]].tolist(), roots[end[apart]].tolist(), parent, size, least)
    return np.unique(_roots(parent), return_inverse=True)[1].reshape(height, width)


def _joined(
    start: np.ndarray, end: np.ndarray, weight: np.ndarray, count: int, scale: float
) -> tuple[list[int], list[int]]:
    """Trees of `count` pixels, by the parent of each, and the pixels below each root.  Edges by rising weight."""
    parent, size, room = list(range(count)), [1] * count, [scale] * count
    for a, b, w in zip(start.tolist(), end.tolist(), weight.tolist(), strict=True):
        while parent[a] != a:
            parent[a] = a = parent[parent[a]]
        while parent[b] != b:
            parent[b] = b = parent[parent[b]]
        if a != b and w <= room[a] and w <= room[b]:
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
            room[a] = w + scale / size[a]
    return parent, size


def _small(start: list[int], end: list[int], parent: list[int], size: list[int], least: int) -> None:
    """Regions of fewer than `least` pixels join others, in place."""
    for a, b in zip(start, end, strict=True):
        while parent[a] != a:
            parent[a] = a = parent[parent[a]]
        while parent[b] != b:
            parent[b] = b = parent[parent[b]]
        if a != b and (size[a] < least or size[b] < least):
            parent[b] = a
            size[a] += size[b]


def _roots(parent: list[int]) -> np.ndarray:
    roots = np.array(parent)
    while (roots != (further := roots[roots])).any():
        roots = further
    return roots


def merged(labels: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Regions, and all that arise when the two most alike neighbours become one until one is left.

    labels: int (H,W), 0 to S - 1, each in one piece.  pixels: float (H,W,c), 0 to 255.  -> boxes, float32
    (2 S - 1,4), the first S the given regions', the last the image's; how alike each was to the neighbour it joined,
    (2 S - 1,), -1 for the last.

        alike = sum min(hist, hist') - frame / image,   frame: of both together

    The paper's terms for size, 1 - (size + size') / image, and for gaps, 1 - (frame - size - size') / image, add up to
    this and a constant.
    """
    grown = _Regions(labels, pixels)
    heap: list[tuple[float, int, int]] = []
    for a, near in enumerate(grown.near):
        grown.compare(heap, a, [b for b in near if b < a])
    while heap:
        unlike, b, a = heapq.heappop(heap)
        if grown.near[a] and grown.near[b]:
            new = grown.merge(a, b, -unlike)
            grown.compare(heap, new, list(grown.near[new]))
    return grown.boxes[: grown.count].astype(np.float32), grown.alike[: grown.count]


class _Regions:
    """What is known of each region; a merged one has no neighbours any more.

    hist: share of pixels in each of BINS values a channel, over c, (2 S - 1, c BINS).  size: pixels.  near: neighbours.
    """

    def __init__(self, labels: np.ndarray, pixels: np.ndarray) -> None:
        from scipy.ndimage import find_objects  # type: ignore[import-untyped]

        self.count, self.area = int(labels.max()) + 1, labels.size
        s, c = self.count, pixels.shape[2]
        size = np.bincount(labels.ravel(), minlength=s)
        level = np.minimum(pixels.reshape(-1, c) * (BINS / 256), BINS - 1).astype(np.int64)
        bins = (labels.reshape(-1, 1) * c + np.arange(c)) * BINS + level
        hist = np.bincount(bins.ravel(), minlength=s * c * BINS).reshape(s, -1) / (size * c)[:, None]
        frames = [(x.start, y.start, x.stop, y.stop) for y, x in find_objects(labels + 1)]
        self.hist, self.boxes = (np.concatenate([v, np.zeros((s - 1, v.shape[1]))]) for v in (hist, np.array(frames)))
        self.size, self.alike = np.concatenate([size, np.zeros(s - 1)]), np.full(2 * s - 1, -1.0)
        self.near: list[set[int]] = [set() for _ in range(2 * s - 1)]
        for one, other in ((labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])):
            for a, b in np.unique(np.stack([one[one != other], other[one != other]], 1), axis=0).tolist():
                self.near[a].add(b)
                self.near[b].add(a)

    def compare(self, heap: list[tuple[float, int, int]], a: int, others: list[int]) -> None:
        """Put on the heap how unlike a region is to others."""
        if others:
            low = np.minimum(self.boxes[a, :2], self.boxes[others, :2])
            frame = (np.maximum(self.boxes[a, 2:], self.boxes[others, 2:]) - low).prod(1)
            colour = np.minimum(self.hist[a], self.hist[others]).sum(1)
            alike = colour - frame / self.area
            for b, value in zip(others, alike.tolist(), strict=True):
                heapq.heappush(heap, (-value, b, a))

    def merge(self, a: int, b: int, alike: float) -> int:
        """Make one of two neighbours; its number."""
        new = self.count
        self.count += 1
        self.size[new] = self.size[a] + self.size[b]
        self.hist[new] = (self.hist[a] * self.size[a] + self.hist[b] * self.size[b]) / self.size[new]
        self.boxes[new, :2] = np.minimum(self.boxes[a, :2], self.boxes[b, :2])
        self.boxes[new, 2:] = np.maximum(self.boxes[a, 2:], self.boxes[b, 2:])
        self.alike[[a, b]] = alike
        self.near[new] = (self.near[a] | self.near[b]) - {a, b}
        for other in self.near[new]:
            self.near[other] -= {a, b}
            self.near[other].add(new)
        self.near[a], self.near[b] = set(), set()
        return new
