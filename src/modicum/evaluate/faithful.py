"""Whether a network relies on what a map marks: pixels are taken away or brought back in the map's order.

Letters: B images of c colours, H W pixels, C classes, S steps.  images: float (B,c,H,W).  maps: float (B,H,W), finite,
one an image; targets: int64 (B,).  The network enters as `predict(images (n,c,H,W) float32) -> probabilities (n,C)`,
so a trained net and its exported file are graded alike; steps of all images go through it `batch` at a time.

Where a map has ties, a random order that is the same for every image decides, and a step takes exactly as many pixels
as it says: a map of few non-zero pixels must not lose or win by how it was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from modicum.core.errors import DataError
from modicum.evaluate.localise import scaled

Predict = Callable[[np.ndarray], np.ndarray]
SHARES = tuple(np.arange(1, 10) / 10)


class Curve(NamedTuple):
    """shares: (S,), of pixels moved.  probs: float64 (B,S), of the target.  area: (B,), under the curve (trapezoid)."""

    shares: np.ndarray
    probs: np.ndarray
    area: np.ndarray


class Road(NamedTuple):
    """shares: (S,).  most, least: float64 (B,S), the target's probability without the highest, or the lowest, pixels.
    score: (B,), mean over shares of (least - most) / 2: higher is better, 0 for a random map."""

    shares: np.ndarray
    most: np.ndarray
    least: np.ndarray
    score: np.ndarray


def places(maps: np.ndarray, seed: int = 0) -> np.ndarray:
    """Each pixel's place from the highest, 0, to the lowest, H W - 1: int64 (B,H,W).  Ties: see the module."""
    flat = np.asarray(maps, np.float64).reshape(len(maps), -1)
    luck = np.random.default_rng(seed).permutation(flat.shape[1])
    order = luck[np.argsort(-flat[:, luck], axis=1, kind="stable")]
    out = np.empty_like(order)
    np.put_along_axis(out, order, np.arange(flat.shape[1])[None], 1)
    return out.reshape(np.shape(maps))


def deletion(
    predict: Predict, images: np.ndarray, maps: np.ndarray, targets: np.ndarray, steps: int = 100, *, fill: float = 0.0,
    batch: int = 256,
) -> Curve:  # fmt: skip
    """RISE's deletion (Petsiuk et al., 2018): the highest pixels become `fill`, in equal steps from none to all.

    A low area is good: the network needed these pixels.
    """
    return _curve(predict, images, np.full_like(images, fill), maps, targets, steps, batch)


def insertion(
    predict: Predict, images: np.ndarray, maps: np.ndarray, targets: np.ndarray, steps: int = 100, *, batch: int = 256
) -> Curve:
    """RISE's insertion: the highest pixels of a blurred image become sharp, from none to all.  A high area is good."""
    return _curve(predict, blurred(images), images, maps, targets, steps, batch)


def blurred(images: np.ndarray, sigma: float = 5, radius: int = 5) -> np.ndarray:
    """Images after a Gaussian of 2 radius + 1 pixels a side; the rim is repeated outside.  float32."""
    from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]

    wide = np.asarray(images, np.float32)
    return np.asarray(gaussian_filter(wide, sigma, axes=(2, 3), radius=radius, mode="nearest"))


def road(
    predict: Predict, images: np.ndarray, maps: np.ndarray, targets: np.ndarray, shares: Sequence[float] = SHARES, *,
    noise: float = 0.01, seed: int = 0, batch: int = 256,
) -> Road:  # fmt: skip
    """Remove and debias (Rong et al., 2022): pixels that go are filled from what is left around them, plus noise, so
    that the hole itself tells the network nothing.

    noise: standard deviation, the same draws for every image.  images: in [0, 1].
    """
    images = _check(images, maps, targets)
    place, size = places(maps, seed), maps[0].size
    counts = np.rint(np.asarray(shares) * size).astype(np.int64)
    rough = np.random.default_rng(seed).normal(0, noise, images.shape[1:]).astype(np.float32)

    def made(i: np.ndarray, s: np.ndarray) -> np.ndarray:
        lowest, step = np.divmod(s, len(counts))
        mine = np.where(lowest[:, None, None] == 1, size - 1 - place[i], place[i])
        known = mine >= counts[step][:, None, None]
        return np.where(known[:, None], images[i], imputed(images[i], known) + rough)

    probs = _asked(predict, made, targets, 2 * len(counts), batch)
    most, least = probs[:, : len(counts)], probs[:, len(counts) :]
    return Road(np.asarray(shares, np.float64), most, least, (least - most).mean(1) / 2)


def imputed(images: np.ndarray, known: np.ndarray, rounds: int = 8) -> np.ndarray:
    """Each unknown pixel as the mean of its 8 neighbours, 1/6 beside and 1/12 across a corner, all solved at once.

    images: float (n,c,H,W), known: bool (n,H,W).  -> float32; 0 where nothing is known.  At the rim the weights of the
    neighbours that are there are scaled up.  Solved by conjugate gradients, `rounds` of them, from the solution of the
    same task at half the size, which has twice as many, and so on (cascadic multigrid, Bornemann and Deuflhard, 1996).
    More rounds end in the exact solution.
    """
    x = np.where(known[:, None], images, 0).astype(np.float32)
    free = ~known[:, None]
    if not free.any():
        return x
    if min(x.shape[2:]) > 2:
        count = _halved(known[:, None].astype(np.float32))
        mean = _halved(x) / np.maximum(count, 1)
        half = imputed(mean, count[:, 0] > 0, 2 * rounds)
        x = np.where(free, _doubled(half)[..., : x.shape[2], : x.shape[3]], x)
    total = _around(np.ones((1, 1, *x.shape[2:]), np.float32))
    rest = np.where(free, _around(x) - total * x, 0)
    move, power = rest, _dot(rest, rest)
    for _ in range(min(rounds, x[0, 0].size)):
        bent = np.where(free, total * move - _around(move), 0)
        step = _ratio(power, _dot(move, bent))
        x, rest = x + step * move, rest - step * bent
        last, power = power, _dot(rest, rest)
        move = rest + _ratio(power, last) * move
    return x


def _around(x: np.ndarray) -> np.ndarray:
    """The weighted sum of the 8 neighbours, 0 outside: [1 2 1] across times [1 2 1] down, less the middle."""
    wide = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    across = wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]
    return (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :] - 4 * x) / np.float32(12)


def _halved(x: np.ndarray) -> np.ndarray:
    """Sums of 2 x 2 pixels."""
    even = np.pad(x, [(0, 0), (0, 0), (0, x.shape[2] % 2), (0, x.shape[3] % 2)])
    return even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]


def _doubled(x: np.ndarray) -> np.ndarray:
    """Twice the size, bilinear."""
    for axis in (2, 3):
        ends = [(0, 0)] * axis + [(1, 1)] + [(0, 0)] * (3 - axis)
        before, here, after = (np.take(np.pad(x, ends, "edge"), range(k, k + x.shape[axis]), axis) for k in range(3))
        both = np.stack([before + 3 * here, 3 * here + after], axis + 1) / np.float32(4)
        x = both.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])
    return x


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a * b).sum((2, 3), keepdims=True))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


# -- the map as a mask -----------------------------------------------------------------------------------------------


def masked(images: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Images times their maps scaled to [0, 1], float32: what `drop`, `increase` and `adcc` ask the network about."""
    return (images * scaled(maps)[:, None]).astype(np.float32)


def drop(whole: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """max(0, y - o) / y, float64 (B,): the share of the target's probability lost; its mean times 100 is the average
    drop (Chattopadhyay et al., 2018).  Lower is better.

    whole: y (B,), on the images.  kept: o (B,), on the masked ones.  0 where y is 0: nothing could be lost.
    """
    y, o = np.asarray(whole, np.float64), np.asarray(kept, np.float64)
    return _ratio(np.maximum(0, y - o), y)


def increase(whole: np.ndarray, kept: np.ndarray) -> float:
    """The share of images whose target becomes more probable when only the map's part is shown.  Higher is better."""
    return float((np.asarray(kept) > np.asarray(whole)).mean())


def coherency(maps: np.ndarray, again: np.ndarray) -> np.ndarray:
    """How alike a map is to that of the masked image, float64 (B,): Pearson's correlation r as (r + 1) / 2.

    A constant map is alike to nothing: 0.5.
    """
    a, b = (scaled(m).reshape(len(m), -1) for m in (maps, again))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return np.asarray(_ratio((a * b).sum(1), np.sqrt((a * a).sum(1) * (b * b).sum(1))) / 2 + 0.5)


def adcc(maps: np.ndarray, again: np.ndarray, whole: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Harmonic mean of coherency, 1 - complexity and 1 - drop, float64 (B,), 0 to 1, higher is better (Poppi et al.,
    2021).  Complexity is the mean of the scaled map.

    again: (B,H,W), the method's maps of the masked images.  0 where one of the three is 0.
    """
    parts = np.stack([coherency(maps, again), 1 - scaled(maps).mean((1, 2)), 1 - drop(whole, kept)])
    return np.where((parts > 0).all(0), 3 / (1 / np.maximum(parts, 1e-300)).sum(0), 0.0)


# -- asking the network ----------------------------------------------------------------------------------------------


def _curve(
    predict: Predict, before: np.ndarray, after: np.ndarray, maps: np.ndarray, targets: np.ndarray, steps: int,
    batch: int,
) -> Curve:  # fmt: skip
    """Pixels go over from `before` to `after`, highest first."""
    before, after = _check(before, maps, targets), _check(after, maps, targets)
    place, size = places(maps), maps[0].size
    counts = np.rint(np.linspace(0, size, steps + 1)).astype(np.int64)

    def made(i: np.ndarray, s: np.ndarray) -> np.ndarray:
        moved = place[i] < counts[s][:, None, None]
        return np.where(moved[:, None], after[i], before[i])

    probs = _asked(predict, made, targets, len(counts), batch)
    return Curve(counts / size, probs, np.asarray(np.trapezoid(probs, counts / size, axis=1)))


def _check(images: np.ndarray, maps: np.ndarray, targets: np.ndarray) -> np.ndarray:
    fits = images.ndim == 4 and maps.ndim == 3 and len(images) == len(maps) == len(targets)
    if not fits or not len(images) or images.shape[2:] != maps.shape[1:]:
        found = f"images of shape {images.shape}, maps of {maps.shape}, {len(targets)} targets"
        raise DataError(found, where="faithful", fix="Give (B,c,H,W), (B,H,W) and (B,), maps at the images' size.")
    bad = np.flatnonzero(~np.isfinite(maps).all((1, 2)))
    if len(bad):
        found = "a map with values that are not finite"
        raise DataError(found, where=f"faithful, image {bad[0]}", fix="Leave the map out.")
    return np.asarray(images, np.float32)


def _asked(
    predict: Predict, made: Callable[[np.ndarray, np.ndarray], np.ndarray], targets: np.ndarray, steps: int, batch: int
) -> np.ndarray:
    """The target's probability for each image and step, float64 (B,steps)."""
    out = np.empty(len(targets) * steps)
    for some in _chunks(len(out), batch):
        i, s = np.divmod(some, steps)
        found = np.asarray(predict(made(i, s)), np.float64)
        if found.ndim != 2 or len(found) != len(some):
            gave = f"predict gave {found.shape} for {len(some)} images"
            raise DataError(gave, where="faithful", fix="Return one row of probabilities an image.")
        out[some] = found[np.arange(len(some)), np.asarray(targets)[i]]
    return out.reshape(-1, steps)


def _chunks(n: int, batch: int) -> Iterator[np.ndarray]:
    for start in range(0, n, batch):
        yield np.arange(start, min(start + batch, n))
