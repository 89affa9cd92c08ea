"""What is in a set: counts, sizes, labels, duplicates, faults, and the traits by which methods are chosen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from modicum.core.dataset import Dataset
from modicum.data.cache import Pixels
from modicum.data.formats import Fault
from modicum.data.split import draw
from modicum.data.stream import Progress, stream

LABELS = ("class", "probs", "votes", "tags")
_SHOWN = 100


@dataclass(frozen=True)
class Scan:
    """The facts found.

    data: the set with hash, height, width, channels and bits filled for the images looked at.  looked: how many.
    counts: labels of each class.  kinds: images that something of the kind is known of.  unlabelled: images nothing is
    known of.  sizes: height_min, width_median, ... in pixels.  traits: trait -> the numbers behind it.
    duplicates: rows of equal pixels; contradicting: of these, of unlike classes; crossing: of these, in several splits.
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
    duplicates: list[list[int]]
    contradicting: list[list[int]]
    crossing: list[list[int]]
    faults: list[Fault] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; of long lists the first hundred, beside their length."""
        out: dict[str, Any] = {
            "images": len(self.data), "looked": self.looked, "classes": list(self.data.names), "counts": self.counts,
            "kinds": self.kinds, "splits": self.splits, "unlabelled": self.unlabelled, "sizes": self.sizes,
            "channels": {str(k): n for k, n in self.channels.items()},
            "bits": {str(k): n for k, n in self.bits.items()}, "traits": self.traits,
        }  # fmt: skip
        for name in ("duplicates", "contradicting", "crossing"):
            groups = getattr(self, name)
            shown = [[str(self.data.ids[r]) for r in g] for g in groups[:_SHOWN]]
            out[name] = {"groups": len(groups), "images": sum(map(len, groups)), "first": shown}
        first = [{"where": f.where, "reason": f.reason} for f in self.faults[:_SHOWN]]
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
        out += [f"{trait}: {numbers}" for trait, numbers in self.traits.items()]
        for groups, what in (
            (self.duplicates, "groups of identical images"), (self.contradicting, "of them carry different classes"),
            (self.crossing, "of them lie in more than one split"),
        ):  # fmt: skip
            if groups:
                out.append(f"{len(groups):,} {what}")
        if self.faults:
            out.append(f"{len(self.faults):,} files or rows could not be used and are skipped")
        return out


def traits_of(data: Dataset, pixels: Pixels, rows: np.ndarray) -> dict[str, str]:
    """The traits of some rows, by what is known of them in `data` and the sizes in the cache."""
    return traits(data.take(rows), _cached(data, pixels)[0][rows], [], [])


def scan(
    data: Dataset, pixels: Pixels | None = None, sample: int = 0, *, faults: Iterable[Fault] = (), threads: int = 2,
    progress: Progress | None = None,
) -> Scan:  # fmt: skip
    """Look at the images (all, or `sample` of them drawn by id) and say what is there.

    pixels: the cache of this set, whose index already holds size and hash of each image, so nothing is decoded.
    faults: those that reading found, which come first.
    """
    facts, found = _cached(data, pixels) if pixels is not None else _decoded(data, sample, threads, progress)
    data, good = _filled(data, facts), facts["height"] > 0
    groups = _equal(facts["hash"])
    split = data.field("split")
    contradicting = [g for g in groups if len(set(data.cls[g]) - {-1}) > 1]
    crossing = [g for g in groups if len(set(split[g]) - {""}) > 1]
    known = {k: data.known(k) for k in LABELS}
    labelled = np.logical_or.reduce(list(known.values()))
    return Scan(
        data, int(good.sum()), dict(zip(data.names, data.counts().tolist())),
        {k: int(v.sum()) for k, v in known.items() if v.any()}, _tally(split[split != ""]), int((~labelled).sum()),
        _sizes(facts[good]), _tally(facts["channels"][good]), _tally(facts["bits"][good]),
        traits(data, facts[good], groups, contradicting), groups, contradicting, crossing, [*faults, *found],
    )  # fmt: skip


_FACTS = np.dtype([("height", "<i4"), ("width", "<i4"), ("channels", "i1"), ("bits", "i1"), ("hash", "S32")])


def _cached(data: Dataset, pixels: Pixels) -> tuple[np.ndarray, list[Fault]]:
    facts = np.zeros(len(data), _FACTS)
    whole = {"height": "whole_height", "width": "whole_width"}
    for name in _FACTS.names or ():
        facts[name] = pixels.index[whole.get(name, name)]
    return facts, pixels.faults


def _decoded(data: Dataset, sample: int, threads: int, progress: Progress | None) -> tuple[np.ndarray, list[Fault]]:
    facts, faults = np.zeros(len(data), _FACTS), []
    rows = np.arange(len(data))
    if 0 < sample < len(rows):
        rows = np.sort(np.argsort(draw(data.ids, 0), kind="stable")[:sample])
    for seen in stream(data, rows, None, threads, progress):
        if seen.fault:
            faults.append(Fault(str(data.ids[seen.row]), seen.fault))
        else:
            facts[seen.row] = seen.height, seen.width, seen.channels, seen.bits, seen.hash.encode()
    return facts, faults


def _filled(data: Dataset, facts: np.ndarray) -> Dataset:
    """The set with what was found; images that were not looked at, or not readable, stay null."""
    unseen = facts["height"] == 0
    columns = {n: pa.array(facts[n], mask=unseen) for n in ("height", "width", "channels", "bits")}
    return data.with_images(hash=facts["hash"].astype("U32").astype(object), **columns)


def _equal(hashes: np.ndarray) -> list[list[int]]:
    """Groups of two or more rows with the same hash; b'' is not one."""
    order = np.argsort(hashes, kind="stable")
    cuts = np.flatnonzero(hashes[order][1:] != hashes[order][:-1]) + 1
    groups = [g.tolist() for g in np.split(order, cuts) if len(g) > 1 and hashes[g[0]]]
    return sorted(groups)


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

    Counted over images outside val and test.  noisy: ten per cent and at least three of the groups of equal images with
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
        out["noisy"] = f"{len(contradicting)} of {told} groups of equal images have labels that contradict each other"
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
