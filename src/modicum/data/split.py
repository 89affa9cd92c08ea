"""Splits and label budgets: which images train, which test, and whose labels are kept.

Order comes from a hash of (seed, id), so the same images give the same answer in any order, and a smaller budget is
part of a larger one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError, SettingsError
from modicum.data.duplicates import grouped

SHARES = {"train": 0.8, "test": 0.2}


def split(
    data: Dataset, shares: Mapping[str, float] = SHARES, seed: int = 0, by: str = "",
    together: np.ndarray | None = None,
) -> Dataset:  # fmt: skip
    """The set with every image in a split; images that already have one keep it.

    shares: split -> share, in (0,1], summing to 1.  Stratified by class (an unknown class is a stratum of its own):
    each is divided by largest remainders, and a class of two or more images is on every side as far as they suffice.
    by: 'group', 'session' or 'domain', whose members stay on one side (images with '' are on their own); '' = 'group'
    where any is filled.  together: int (N,), images of one number are one picture (Scan.together) and stay on one side
    too, -1 = on its own.  With groups the shares hold as nearly as the groups allow.
    """
    _check(shares, by)
    now = data.field("split").astype(object)
    free = np.flatnonzero(now == "")
    if not len(free):
        return data
    group = _joined(data.field(by or "group"), together)
    order = free[np.argsort(draw(data.ids[free], seed), kind="stable")]
    stratum = data.cls + 1
    count = np.bincount(stratum[order], minlength=len(data.names) + 1)
    lack = np.stack([quotas(int(n), list(shares.values())) for n in count], 1).astype(np.float64)  # (sides, strata)
    held = group[order] >= 0
    _place_groups(now, order[held], stratum, group, list(shares), lack)
    _place_singles(now, order[~held], stratum, list(shares), lack)
    return data.with_images(split=now)


def carve(
    data: Dataset, name: str, share: float, rows: np.ndarray, seed: int = 0, together: np.ndarray | None = None
) -> Dataset:
    """The set with a share of some rows, bool (N,), in a new split; the rest of them are in 'train'.

    As `split`, but an image whose group or picture also lies outside these rows stays in 'train', and those others
    where they are: a split that someone made is not changed, even if it leaks.
    """
    group = _joined(data.field("group"), together)
    elsewhere = group[~rows & (group >= 0)]
    free = np.flatnonzero(rows & ~np.isin(group, elsewhere))
    now = data.field("split").astype(object)
    now[rows] = "train"
    part = data.take(free).with_images(split=[""] * len(free))
    mine = split(part, {"train": 1 - share, name: share}, seed, together=None if together is None else together[free])
    now[free] = mine.field("split")
    return data.with_images(split=now)


def few(data: Dataset, per_class: int = 0, total: int = 0, seed: int = 0, rows: str = "split:train") -> np.ndarray:
    """Rows whose class is kept under a balanced label budget, int64, sorted.

    per_class: labels of each class (fewer where there are fewer).  total: labels in all, as even over the classes as
    they allow.  Give one of the two.  Only images that `rows` chooses and whose class is known are taken.
    """
    if (per_class > 0) == (total > 0):
        raise SettingsError("no budget is given", where="label budget", fix="Give per_class or total, at least 1.")
    known = data.rows(rows)
    known = known[data.cls[known] >= 0]
    have = np.bincount(data.cls[known], minlength=len(data.names))
    if not len(known) or total > len(known):
        found = f"{len(known)} labels in rows {rows!r}, {total or per_class} asked for"
        raise DataError(found, where="label budget", fix="Ask for fewer, or choose the rows otherwise.")
    want = np.minimum(have, per_class) if per_class else _even(have, total, draw(np.array(data.names, object), seed))
    order = known[np.argsort(draw(data.ids[known], seed), kind="stable")]
    kept = [order[data.cls[order] == c][: want[c]] for c in range(len(have))]
    return np.sort(np.concatenate(kept)).astype(np.int64)


def draw(ids: np.ndarray, seed: int) -> np.ndarray:
    """A uint64 for each id: a hash of (seed, id), the same on every machine."""
    start = hashlib.blake2b(f"{seed}\x1f".encode(), digest_size=8)
    out = np.empty(len(ids), np.uint64)
    for i, name in enumerate(ids):
        digest = start.copy()
        digest.update(str(name).encode("utf-8", "surrogatepass"))
        out[i] = int.from_bytes(digest.digest(), "little")
    return out


def quotas(n: int, shares: list[float]) -> np.ndarray:
    """n divided by shares with largest remainders (ties to the earlier), int64; none empty as far as n suffices."""
    exact = n * np.asarray(shares, np.float64)
    out = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - out), kind="stable")
    out[order[: n - out.sum()]] += 1
    while (out == 0).any() and out.max() > 1:
        out[np.argmax(out)] -= 1
        out[np.argmax(np.where(out == 0, shares, -1))] += 1
    return out


def _check(shares: Mapping[str, float], by: str) -> None:
    if not shares or any(not 0 < s <= 1 for s in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        fix = "Give shares such as train 0.8, test 0.2."
        raise SettingsError(f"shares {dict(shares)} are not positive numbers that sum to 1", where="split", fix=fix)
    if by not in ("", "group", "session", "domain"):
        raise SettingsError(f"{by!r} cannot hold images together", where="split", fix="Known: group, session, domain.")


def _even(have: np.ndarray, total: int, luck: np.ndarray) -> np.ndarray:
    """Counts of classes that sum to `total`, as even as what each class has allows; luck decides who gets the rest."""
    out = np.zeros_like(have)
    while (left := total - int(out.sum())) > 0:
        open_ = np.flatnonzero(out < have)
        step = left // len(open_)
        if step:
            out[open_] = np.minimum(have[open_], out[open_] + step)
        else:
            out[open_[np.argsort(luck[open_], kind="stable")[:left]]] += 1
    return out


def _joined(words: np.ndarray, together: np.ndarray | None) -> np.ndarray:
    """One number for rows that share a word or a number, directly or by others, int64 (N,); -1 for those alone."""
    pairs = [np.zeros((0, 2), np.int64)]
    for labels, none in ((words.astype(str), ""), (together, -1)):
        if labels is not None:
            rows = np.flatnonzero(labels != none)
            _, first, which = np.unique(labels[rows], return_index=True, return_inverse=True)
            pairs.append(np.stack([rows[first[which]], rows], 1))
    return grouped(len(words), np.concatenate(pairs))


def _place_groups(
    now: np.ndarray, order: np.ndarray, stratum: np.ndarray, group: np.ndarray, sides: list[str], lack: np.ndarray
) -> None:
    """Whole groups, the largest first, each to the side whose wanted counts it misses least (squares, per class).

    A group of which an image has its side already goes there.  `lack` is brought up to date.
    """
    weight = 1 / np.maximum(lack.sum(0), 1)
    placed = {g: now[i] for i, g in enumerate(group.tolist()) if g >= 0 and now[i] != ""}
    rows_of: dict[int, list[int]] = {}
    for row in order.tolist():
        rows_of.setdefault(int(group[row]), []).append(row)
    for name, rows in sorted(rows_of.items(), key=lambda item: -len(item[1])):
        mine = np.bincount(stratum[rows], minlength=lack.shape[1])
        best = sides[int(np.argmin((weight * (mine**2 - 2 * lack * mine)).sum(1)))]
        now[rows] = side = placed.get(name, best)
        if side in sides:
            lack[sides.index(side)] -= mine


def _place_singles(now: np.ndarray, order: np.ndarray, stratum: np.ndarray, sides: list[str], lack: np.ndarray) -> None:
    """What is on its own, to where its class still lacks images."""
    for s in np.unique(stratum[order]):
        members = order[stratum[order] == s]
        open_ = np.flatnonzero(lack[:, s] > 0)
        ends = np.cumsum(quotas(len(members), (lack[open_, s] / lack[open_, s].sum()).tolist()))
        for side, part in zip(open_, np.split(members, ends[:-1])):
            now[part] = sides[side]
