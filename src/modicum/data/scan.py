"""What is in a set: counts, sizes, labels, duplicates, faults, and the traits by which methods are chosen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modicum.core.dataset import Dataset
from modicum.data.cache import Pixels
from modicum.data.duplicates import grouped, members
from modicum.data.formats import Fault, Progress
from modicum.data.looks import Looks, look
from modicum.data.near import near as found_near
from modicum.data.split import draw
from modicum.data.stream import FACTS
from modicum.data.tally import lines_of, tally

LABELS = ("class", "probs", "votes", "tags")
_SHOWN, _LISTED = 100, 5
_GROUPS = {
    "duplicates": "{} of identical images",
    "near": "{} of near-duplicates: the same picture saved again, resized, cropped or mirrored",
    "crossing": "{} of one picture in several splits: what is tested was seen in training",
    "contradicting": "{} of one picture with different classes: at least one label of each is wrong",
}


@dataclass(frozen=True, eq=False)
class Scan:
    """The facts found.

    data: the set with hash, height, width, channels and bits filled for the images looked at.  looked: how many.
    counts: labels of each class.  kinds: images that something of the kind is known of.  unlabelled: images nothing is
    known of.  sizes: height_min, width_median, ... in pixels.  traits: trait -> the numbers behind it.
    together: int64 (N,), images of one number are the same picture, -1 for the others.
    duplicates: rows of equal pixels; near: rows of the same picture with unlike pixels; of both, contradicting: of
    unlike classes, crossing: on several sides of test, val and the rest; chains: rows that are alike one by one and too
    many to be one picture.
    least: the likeness from which on two images were near-duplicates (data/duplicates.py).
    """

    data: Dataset
    looked: int
    counts: dict[str, int]
    kinds: dict[str, int]
    splits: dict[str, int]
    unlabelled: int
    sizes: dict[str, int]
    channels: dict[int, int]
    bits: dict[int, int]
    traits: dict[str, str]
    together: np.ndarray
    duplicates: list[list[int]]
    near: list[list[int]]
    contradicting: list[list[int]]
    crossing: list[list[int]]
    chains: list[list[int]]
    least: float
    facts: np.ndarray = field(repr=False)
    faults: list[Fault] = field(default_factory=list)

    def again(self, data: Dataset) -> Scan:
        """The same images with other splits or labels: nothing is decoded, hashed or searched."""
        return _summed(data, self.facts, self.together, self.chains, self.least, self.faults)

    def drawn(self, before: Scan) -> list[str]:
        """What was carved out of the training images since `before`, in sentences."""
        new = [name for name in ("test", "val") if name in self.splits and name not in before.splits]
        out = [f"Drew {self.splits[name]:,} of {len(self.data):,} images for {name}" for name in new]
        leaks = {group[0] for group in self.crossing}
        held = [group for group in members(self.together) if group[0] not in leaks]
        if out and held:
            images = sum(map(len, held))
            out.append(f"The {images:,} images of {len(held):,} groups of one picture each were kept on one side")
        return out

    def to_dict(self, most: int = _SHOWN) -> dict[str, Any]:
        """Plain JSON values; of long lists the first `most`, beside their length."""
        out: dict[str, Any] = {
            "images": len(self.data), "looked": self.looked, "classes": list(self.data.names), "counts": self.counts,
            "kinds": self.kinds, "splits": self.splits, "unlabelled": self.unlabelled, "sizes": self.sizes,
            "channels": {str(k): n for k, n in self.channels.items()},
            "bits": {str(k): n for k, n in self.bits.items()}, "traits": self.traits, "likeness": round(self.least, 3),
            "drawn": tally(self.data),
        }  # fmt: skip
        split = self.data.field("split")
        for name in (*_GROUPS, "chains"):
            groups = getattr(self, name)
            out[name] = {
                "groups": len(groups), "images": sum(map(len, groups)),
                "first": [[str(self.data.ids[r]) for r in g] for g in groups[:most]],
                "splits": [[str(split[r]) for r in g] for g in groups[:most]],
            }  # fmt: skip
        first = [{"where": f.where, "reason": f.reason} for f in self.faults[:most]]
        return out | {"faults": first, "fault_count": len(self.faults)}

    def lines(self) -> list[str]:
        """What was found, as sentences."""
        size = f", {self.sizes['width_median']} x {self.sizes['height_median']} px" if self.sizes else ""
        without = f"{self.unlabelled:,} images without any label"
        out = [f"{len(self.data):,} images{size}; {len(self.data.names)} classes; {without}"]
        if "class" in self.kinds:
            shown = [f"{name} {n:,}" for name, n in self.counts.items()]
            out.append("Labels: " + ", ".join(shown[:20]) + (", ..." if len(shown) > 20 else ""))
        out += [f"{kind.capitalize()}: {n:,} images" for kind, n in self.kinds.items() if kind != "class"]
        out += lines_of(tally(self.data))
        out += [f"{trait}: {numbers}" for trait, numbers in self.traits.items()]
        for name in _GROUPS:
            out += self._listed(name)
        if self.chains:
            out.append(
                f"{sum(map(len, self.chains)):,} images look alike one by one (frames of a film?) and are not held "
                f"together; give them a column group if they belong together: {self.data.ids[self.chains[0][0]]}, ..."
            )
        if self.faults:
            out.append(f"{len(self.faults):,} files or rows could not be used and are skipped")
        return out

    def _listed(self, name: str) -> list[str]:
        """How many groups of a kind, and the first few of those that must be looked at."""
        groups = getattr(self, name)
        if not groups:
            return []
        out = [_GROUPS[name].format(f"{len(groups):,} group{'s' if len(groups) > 1 else ''}")]
        of = {"crossing": self.data.field("split"), "contradicting": self._said()}.get(name)
        for group in groups[: _LISTED if of is not None else 0]:
            said = [f"{self.data.ids[r]} ({of[r] or '-'})" for r in group[:4]]  # type: ignore[index]
            out.append("  " + " = ".join(said) + (f" and {len(group) - 4} more" if len(group) > 4 else ""))
        if len(out) > 1 and len(groups) > _LISTED:
            out.append(f"  ... and {len(groups) - _LISTED} more: --json lists them")
        return out

    def _said(self) -> np.ndarray:
        """The name of each image's class, '' where it is not known."""
        return np.array([*self.data.names, ""], object)[self.data.cls]


def traits_of(data: Dataset, pixels: Pixels, rows: np.ndarray) -> dict[str, str]:
    """The traits of some rows, by what is known of them in `data` and the sizes in the cache."""
    return traits(data.take(rows), _measured(data, pixels)[rows], [], [])


def scan(
    data: Dataset, pixels: Pixels | None = None, sample: int = 0, *, faults: Iterable[Fault] = (), threads: int = 2,
    progress: Progress | None = None, home: Path | None = None, fresh: bool = False, strict: bool = False,
) -> Scan:  # fmt: skip
    """Look at the images (all, or `sample` of them drawn by id) and say what is there.

    pixels: the cache of this set, whose index already holds size and hash of each image, so nothing is decoded.
    faults: those that reading found, which come first.  home, fresh, strict: as in looks.look.
    """
    rows = np.sort(np.argsort(draw(data.ids, 0), kind="stable")[:sample]) if 0 < sample < len(data) else None
    if pixels is not None:
        seen = Looks(_measured(data, pixels), pixels.sketches, pixels.faults)
    else:
        seen = look(data, rows, home=home, fresh=fresh, strict=strict, threads=threads, progress=progress)
    facts, near = np.asarray(seen.facts), found_near(seen, home)
    linked = [(g[0], r) for g in _equal(facts["hash"]) for r in g[1:]]
    together = grouped(len(data), np.concatenate([near.pairs, np.array(linked, np.int64).reshape(-1, 2)]))
    chains = [c.tolist() for c in near.chains]
    return _summed(data, facts, together, chains, near.threshold, [*faults, *seen.faults])


def _summed(
    data: Dataset, facts: np.ndarray, together: np.ndarray, chains: list[list[int]], least: float, faults: list[Fault]
) -> Scan:
    data, good = _filled(data, facts), facts["height"] > 0
    groups = members(together)
    split, known = data.field("split"), {k: data.known(k) for k in LABELS}
    contradicting = [g for g in groups if len(set(data.cls[g]) - {-1}) > 1]
    labelled = np.logical_or.reduce(list(known.values()))
    return Scan(
        data, int(good.sum()), dict(zip(data.names, data.counts().tolist())),
        {k: int(v.sum()) for k, v in known.items() if v.any()}, _tally(split[split != ""]), int((~labelled).sum()),
        _sizes(facts[good]), _tally(facts["channels"][good]), _tally(facts["bits"][good]),
        traits(data, facts[good], groups, contradicting), together, _equal(facts["hash"]),
        [g for g in groups if len(set(facts["hash"][g])) > 1], contradicting,
        [g for g in groups if len(_sides(split[g])) > 1], chains, least, facts, faults,
    )  # fmt: skip


def _measured(data: Dataset, pixels: Pixels) -> np.ndarray:
    """Facts of each image, as the cache holds them."""
    facts = np.zeros(len(data), FACTS)
    whole = {"height": "whole_height", "width": "whole_width"}
    for name in FACTS.names or ():
        facts[name] = pixels.index[whole.get(name, name)]
    return facts


def _filled(data: Dataset, facts: np.ndarray) -> Dataset:
    """The set with what was found; images that were not looked at, or not readable, stay null."""
    unseen = facts["height"] == 0
    columns = {n: pa.array(facts[n], mask=unseen) for n in ("height", "width", "channels", "bits")}
    return data.with_images(hash=facts["hash"].astype("U32").astype(object), **columns)


def _equal(hashes: np.ndarray) -> list[list[int]]:
    """Groups of two or more rows with the same hash; b'' is not one."""
    order = np.argsort(hashes, kind="stable")
    starts = np.flatnonzero(np.r_[True, hashes[order][1:] != hashes[order][:-1]][: len(order)])
    ends = np.r_[starts[1:], len(order)]
    several = (ends - starts > 1) & (hashes[order[starts]] != b"")
    groups = [order[a:b].tolist() for a, b in zip(starts[several], ends[several])]
    return sorted(groups)


def _sides(split: np.ndarray) -> set[str]:
    """Where images end that lie in these splits: val, test, or the training pool."""
    return {name if name in ("val", "test") else "train" for name in split}


def _tally(values: np.ndarray) -> dict[Any, int]:
    names, counts = np.unique(values, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist()))


def _sizes(facts: np.ndarray) -> dict[str, int]:
    """Least, middle and largest height and width in pixels; {} where nothing was looked at."""
    if not len(facts):
        return {}
    words = {"min": 0.0, "median": 0.5, "max": 1.0}
    return {f"{side}_{w}": int(np.quantile(facts[side], q)) for side in ("height", "width") for w, q in words.items()}


def traits(data: Dataset, facts: np.ndarray, groups: list[list[int]], contradicting: list[list[int]]) -> dict[str, str]:
    """Measured traits (core.card.TRAITS) and the numbers behind each.

    Counted over images outside val and test.  noisy: ten per cent and at least three of the groups of one picture with
    known classes contradict each other.  ood is not measured here.
    """
    split = data.field("split")
    mine = ~np.isin(split.astype(str), ("val", "test"))
    mine = mine if mine.any() else ~mine
    known = np.logical_or.reduce([data.known(k) for k in LABELS]) & mine
    have, lack = int(known.sum()), int((mine & ~known).sum())
    out: dict[str, str] = {}
    if not have:
        return {"none": f"no label for {lack} images"} | _tiny(facts)
    each = have / max(1, len(data.names))
    if each < 100 and lack >= 5 * have:
        out["few"] = f"{_short(each)} labels a class, {_short(lack / have)} images without a label for each with one"
    if have >= 0.95 * (have + lack):
        out["full"] = f"{have} of {have + lack} images have a label"
    if soft := int((data.known("probs") & mine).sum()):
        out["soft"] = f"probabilities for {soft} images"
    row, annotator, _ = data.votes
    if (people := len(np.unique(annotator))) > 1:
        out["crowd"] = f"{len(row)} votes of {people} annotators on {len(np.unique(row))} images"
    counts = np.bincount(data.cls[mine & (data.cls >= 0)], minlength=len(data.names))
    if (counts > 0).any() and counts.max() > 10 * (rarest := counts[counts > 0].min()):
        out["tail"] = f"{counts.max()} labels of the commonest class, {rarest} of the rarest"
    told = sum((data.cls[g] >= 0).sum() > 1 for g in groups)
    if len(contradicting) >= max(3, 0.1 * told):
        out["noisy"] = f"{len(contradicting)} of {told} groups of one picture have labels that contradict each other"
    return out | _tiny(facts)


def _short(value: float) -> str:
    """Three significant digits, and no exponent."""
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def _tiny(facts: np.ndarray) -> dict[str, str]:
    """Tiny where 95 of 100 images are: one odd large image changes nothing."""
    if not len(facts):
        return {}
    side = int(np.quantile(np.maximum(facts["height"], facts["width"]), 0.95))
    return {"tiny": f"95 % of the images are at most {side} pixels a side"} if side <= 64 else {}
