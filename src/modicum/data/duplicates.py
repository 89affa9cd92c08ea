"""Near-duplicates: the same picture saved again, resized, brightened, cropped by a few per cent, or mirrored.

A hash proposes pairs, the pixels of their sketches confirm.  The measure is the *likeness* of two images: the
correlation of the details of two grey sketches (what is finer than a quarter of the picture) after one was shifted and
stretched onto the other.  Of unlike photographs it is below 0.5, of one photograph cropped by a tenth above 0.85.

A pair is a near-duplicate from a likeness of LEAST on, and more where unlike images of the set are alike anyway:
clothes on white, digits, parts in one holder.  `threshold` measures that.  Where it comes out above STRICT only
near-identical pixels count, and crops and mirrors are not looked for.  Details that fill few places (one thing on an
even ground) agree by chance sooner: then the
ground must be of nearly the same colour too.  The numbers were chosen on CIFAR-10 (whose pairs
are known from Barz & Denzler 2020, "Do we train on test data?"), MNIST, and changed copies of COCO pictures and
micrographs; Flowers-17 and Fashion-MNIST, on which they are measured, were left out.
Letters: N images, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.data.hashes import BYTES, COLOUR, SIDE, Index, Part, colour, hashed, luma, mirrored

LEAST, MOST = 0.8, 0.99  # likeness of a near-duplicate
STRICT = 0.9
SHARE = 0.2  # of the images: a larger group is no picture with its copies but a chain of look-alikes
FEWEST = 10  # images that a group may always have
_ALIKE = 12  # times the Fisher z of the likeness that one in ten unlike pairs exceeds
_CUT: tuple[Part, ...] = (
    (0.025, 0.975, 0.025, 0.975), (0, 0.95, 0, 0.95), (0, 0.95, 0.05, 1), (0.05, 1, 0, 0.95), (0.05, 1, 0.05, 1),
)  # fmt: skip
_FAR, _NEAR = 9, 3  # bits in which hashes may differ, and where only near-identical pixels count
_TINT = 25.0  # root mean square of colour differences, of 255, above which two images have other colours
_SURE = 12.0  # Fisher z of a likeness times the root of the places that details fill, below which colour must decide
_CLOSE = 5.0  # median of colour differences, of 255: where it must, that of the ground
_FLAT = 0.5  # root mean square of details, of 255, below which there is nothing to compare
_ENOUGH, _SAMPLE, _AT_ONCE = 50, 1024, 1024


@dataclass(frozen=True, eq=False)
class Near:
    """Near-duplicates of a set.

    group: int64 (N,), the number of each image's group, -1 for an image without near-duplicates.  pairs: int64 (P,2),
    rows that hold the groups together (not all pairs of a group).  likeness: float32 (P,), -1 to 1.
    threshold: the least likeness that counted.  chains: rows of groups too large to be one picture, which are none.
    """

    group: np.ndarray
    pairs: np.ndarray
    likeness: np.ndarray
    threshold: float
    chains: list[np.ndarray]


def find(sketches: np.ndarray) -> Near:
    """uint8 (N,BYTES) -> the near-duplicates among them; the same groups in whatever order the images come.

    An image without details (an empty field, an unreadable file) is a near-duplicate of none.  The sketches may lie in
    a mapped file: they are read a thousand at a time.
    """
    _, first, place = np.unique(_keys(sketches), return_index=True, return_inverse=True)
    plain, every = _plain(sketches, first), np.arange(len(sketches))
    rows = first[~plain]
    shared, least = threshold(sketches[rows[:_SAMPLE]])
    pairs, strength = _linked(sketches, rows, shared, least)
    label = connected(len(sketches), pairs)
    long = np.bincount(label, minlength=len(sketches)) > max(FEWEST, SHARE * len(rows))
    kept = ~long[label[pairs[:, 0]]]
    copies = np.flatnonzero((first[place] != every) & ~plain[place])
    pairs = np.concatenate([pairs[kept], np.stack([first[place[copies]], copies], 1)])
    strength = np.r_[strength[kept], np.ones(len(copies), np.float32)]
    chains = [np.flatnonzero(label[first[place]] == k) for k in np.flatnonzero(long)]
    return Near(grouped(len(sketches), pairs), pairs, strength, least, chains)


def threshold(sketches: np.ndarray) -> tuple[np.ndarray, float]:
    """What some hundred images have in common, float32 (SIDE,SIDE), and the least likeness of a near-duplicate.

    In common: the mean of their details (a scale bar, a round field of view), times n/(n+20) for n images.  The least
    likeness: LEAST, or the one whose Fisher z is twelve times that which one in ten pairs exceeds, unshifted and the
    nearest neighbour of each image left out; at most MOST.  Of fewer than fifty images that is not measured.
    """
    found = details(luma(sketches))
    shared = found.sum(0) / (len(found) + 20)
    if len(found) < _ENOUGH:
        return shared, LEAST
    one = _unit(found - shared)
    both = one @ one.T
    np.fill_diagonal(both, -2)
    both[np.arange(len(both)), both.argmax(1)] = -2
    usual = np.quantile(both[both > -2], 0.9)
    return shared, float(np.clip(np.tanh(_ALIKE * np.arctanh(min(usual, 0.9999))), LEAST, MOST))


def likeness(one: np.ndarray, other: np.ndarray, shared: np.ndarray | float = 0.0, shifting: bool = True) -> np.ndarray:
    """Grey pictures float32 (P,SIDE,SIDE) each -> correlation of their details, float32 (P,), -1 to 1.

    shared: what the set has in common, which says nothing.  shifting: after the second was moved onto the first, by up
    to a tenth of a side and 18 % in size.
    """
    a, b, inside = details(one) - shared, details(other) - shared, np.ones((len(one), 1, 1), np.float32)
    if shifting:
        down, across, inside = _onto(one, other)
        b = down @ b @ across.transpose(0, 2, 1)
    return np.asarray((_unit(a, inside) * _unit(b, inside)).sum(1), np.float32)


def details(grey: np.ndarray) -> np.ndarray:
    """(N,SIDE,SIDE), blurred by a pixel, less a blur over a quarter of the picture."""
    return np.asarray(_FINE @ grey @ _FINE.T - _COARSE @ grey @ _COARSE.T)


def connected(count: int, pairs: np.ndarray) -> np.ndarray:
    """Rows 0..count-1 joined by pairs int64 (P,2) -> for each the lowest row that it is joined to, int64 (count,)."""
    label = np.arange(count)
    while True:
        low = np.minimum(label[pairs[:, 0]], label[pairs[:, 1]])
        before = label.copy()
        for side in (0, 1):
            np.minimum.at(label, before[pairs[:, side]], low)
            np.minimum.at(label, pairs[:, side], low)
        label = label[label]
        if (label == before).all():
            return label


def grouped(count: int, pairs: np.ndarray) -> np.ndarray:
    """int64 (count,): the number of each row's group, by first row; -1 for a row that no pair joins to another."""
    label = connected(count, pairs)
    alone = np.bincount(label, minlength=count)[label] < 2
    out = np.full(count, -1)
    out[~alone] = np.unique(label[~alone], return_inverse=True)[1]
    return out


def members(group: np.ndarray) -> list[list[int]]:
    """Numbers of groups (N,), -1 = none -> the rows of each, by number."""
    order = np.flatnonzero(group >= 0)
    order = order[np.argsort(group[order], kind="stable")]
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    return [rows.tolist() for rows in np.split(order, cuts)] if len(order) else []


# -- from proposals to links -------------------------------------------------------------------------------------------


def _keys(sketches: np.ndarray) -> np.ndarray:
    """A number for each sketch, uint64 (N,), equal for equal ones and in no order that a person would see."""
    odd = np.random.default_rng(0).integers(1 << 63, size=BYTES // 8, dtype=np.uint64) * 2 + 1
    out = np.empty(len(sketches), np.uint64)
    for k in range(0, len(sketches), _AT_ONCE):
        words = np.ascontiguousarray(sketches[k : k + _AT_ONCE]).view(np.uint64)
        mixed = (words ^ words >> np.uint64(29)) * odd
        out[k : k + _AT_ONCE] = (mixed ^ mixed >> np.uint64(32)).sum(1, dtype=np.uint64)
    return out


def _plain(sketches: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which of these rows (R,) have no details to compare, bool (R,)."""
    out = np.empty(len(rows), bool)
    for k in range(0, len(rows), _AT_ONCE):
        some = sketches[rows[k : k + _AT_ONCE]]
        out[k : k + _AT_ONCE] = (details(luma(some)) ** 2).mean((1, 2)) < _FLAT**2
    return out


def _linked(sketches: np.ndarray, rows: np.ndarray, shared: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Confirmed pairs among rows, int64 (P,2), and their likeness (P,); what is joined already is left out."""
    strict = least > STRICT
    left = _proposed(sketches, rows, strict)
    found = [np.zeros((0, 2), np.int64)]
    strength = [np.zeros(0, np.float32)]
    while len(left):
        now, left = left[:_AT_ONCE], left[_AT_ONCE:]
        a, b, turn = now.T
        one, other, flip = luma(sketches[a]), luma(sketches[b]), turn == 1
        other[flip] = other[flip, :, ::-1]
        alike = likeness(one, other, shared, not strict)
        same = (alike >= least) & _same_colour(sketches[a], sketches[b], flip, _sure(alike, one, other))
        found.append(now[same, :2])
        strength.append(alike[same])
        label = connected(len(sketches), np.concatenate(found))
        left = left[label[left[:, 0]] != label[left[:, 1]]]
    return np.concatenate(found), np.concatenate(strength)


def _proposed(sketches: np.ndarray, rows: np.ndarray, strict: bool) -> np.ndarray:
    """Pairs of rows whose hashes are close: int64 (P,3) row < row, 1 where mirrored; the closest first."""
    whole = hashed(sketches, rows=rows)
    index, far = Index(whole), _NEAR if strict else _FAR
    asked = [(whole, 0)] if strict else [(whole, 0), (mirrored(whole), 1)]
    asked += [] if strict else [(hashed(sketches, part, rows), 0) for part in _CUT]
    out = []
    for hashes, turn in asked:
        place, row, distance = index.near(hashes, far)
        pairs = np.sort([rows[place], rows[row]], 0)
        out.append(np.stack([distance, np.full_like(row, turn), *pairs])[:, place != row])
    found = np.unique(np.concatenate(out, 1), axis=1)[1:]
    once = np.sort(np.unique(found, axis=1, return_index=True)[1])
    return np.asarray(found[:, once][[1, 2, 0]].T)


def _sure(alike: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether a likeness (P,) of grey pictures (P,SIDE,SIDE) says enough by itself, bool (P,): that of details in few
    places, such as one object on an even ground, says less."""
    few = np.minimum(*((d**2).sum((1, 2)) ** 2 / (d**4).sum((1, 2)) for d in (details(one), details(other))))
    return np.asarray(np.arctanh(np.minimum(alike, 0.99999)) * np.sqrt(few) >= _SURE)


def _same_colour(one: np.ndarray, other: np.ndarray, flip: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Whether two sketches (P,BYTES) agree in colour, nearly so where it is not sure (P,) that they are alike; an image
    without colour agrees with all."""
    a, b = colour(one), colour(other)
    b[flip] = b[flip][..., ::-1]
    grey = np.minimum(np.abs(a).max((1, 2, 3)), np.abs(b).max((1, 2, 3))) <= 2
    apart = a - b
    ground = np.median(np.abs(apart).max(1).reshape(len(a), COLOUR**2), 1)
    return np.asarray(grey | ((apart**2).mean((1, 2, 3)) < _TINT**2) & (sure | (ground < _CLOSE)))


# -- one picture onto another ------------------------------------------------------------------------------------------

_PLACE = ((np.arange(SIDE) + 0.5) / SIDE - 0.5).astype(np.float32)


def _blurring(times: int) -> np.ndarray:
    """The blur 1 2 1 of a row, some times over, edges repeated: float32 (SIDE,SIDE)."""
    once = 0.5 * np.eye(SIDE) + 0.25 * np.eye(SIDE, k=1) + 0.25 * np.eye(SIDE, k=-1)
    once[0, 0] = once[-1, -1] = 0.75
    return np.asarray(np.linalg.matrix_power(once, times), np.float32)


_FINE, _COARSE = _blurring(1), _blurring(4)


def _unit(pictures: np.ndarray, inside: np.ndarray | float = 1.0) -> np.ndarray:
    """(P,SIDE,SIDE) -> (P,SIDE*SIDE) of mean 0 and length 1 where `inside` is 1, and 0 elsewhere."""
    share = np.broadcast_to(inside, pictures.shape)
    mean = (pictures * share).sum((1, 2), keepdims=True) / share.sum((1, 2), keepdims=True)
    flat = ((pictures - mean) * share).reshape(len(pictures), -1)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))


def _onto(one: np.ndarray, other: np.ndarray, steps: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How to move the second picture onto the first: rows (P,SIDE,SIDE), columns (P,SIDE,SIDE), what is inside.

    Four numbers a pair, scale and shift down and across, by least squares on grey values: inverse compositional steps
    (Baker & Matthews 2004, "Lucas-Kanade 20 years on").
    """
    a, b = (_unit(_FINE @ x @ _FINE.T).reshape(-1, SIDE, SIDE) for x in (one, other))
    down, across = np.gradient(a, 1 / SIDE, axis=(1, 2))
    slopes = np.stack([down * _PLACE[:, None], down, across * _PLACE, across], 1).reshape(len(a), 4, -1)
    move = np.tile(np.array([1, 0, 1, 0], np.float32), (len(a), 1))
    for _ in range(steps):
        rows, columns, inside = _moved(move)
        error = ((rows @ b @ columns.transpose(0, 2, 1) - a) * inside).reshape(len(a), -1, 1)
        seen = slopes * inside.reshape(len(a), 1, -1)
        normal = seen @ slopes.transpose(0, 2, 1) + 1e-3 * np.eye(4, dtype=np.float32)
        step = np.clip(np.linalg.solve(normal, seen @ error)[..., 0], -0.1, 0.1)
        scale = move[:, ::2] / (1 + step[:, ::2])
        move[:, 1::2] = np.clip(move[:, 1::2] - scale * step[:, 1::2], -0.1, 0.1)
        move[:, ::2] = np.clip(scale, 1 / 1.18, 1.18)
    return _moved(move)


def _moved(move: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear interpolation at scale * place + shift, as two matrices a pair, and 1.0 where both lie in the picture."""
    matrices, inside = [], []
    for k in (0, 2):
        at = (move[:, k, None] * _PLACE + move[:, k + 1, None] + 0.5) * SIDE - 0.5
        inside.append((at >= -0.5) & (at <= SIDE - 0.5))
        at = np.clip(at, 0, SIDE - 1)
        matrices.append(np.maximum(0, 1 - np.abs(at[:, :, None] - np.arange(SIDE, dtype=np.float32))))
    return matrices[0], matrices[1], (inside[0][:, :, None] & inside[1][:, None, :]).astype(np.float32)
