"""From one format to another: images, labels and all that is known of them, whole or not at all.

What was written is read back and compared, so that what a format cannot hold is found out and said, never declared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modicum.core.dataset import ANNOTATOR, HUMAN, MODEL, Dataset
from modicum.core.errors import DataError, did_you_mean, visible
from modicum.core.tags import DRAWN, given_tags
from modicum.data.formats import FIELDS, Fault, Progress, writable
from modicum.data.lines import write_csv
from modicum.data.outlines import unstamp
from modicum.data.read import read
from modicum.data.store import new_folder
from modicum.data.stream import content

LABELS, VOTES = "labels.csv", "votes.csv"
_COLUMNS = ("class", "confidence", *FIELDS)


@dataclass(frozen=True)
class Converted:
    """What was written.  lost: what the format cannot hold, as sentences.  faults: what could not be read."""

    folder: Path
    data: Dataset
    lost: list[str]
    faults: list[Fault]


def convert(
    data: str | Path, out: str | Path, to: str, *, strict: bool = False, progress: Progress | None = None
) -> Converted:
    """Write the images at `data`, with what is known of them, as another format into the new folder `out`.

    to: folders, table, parquet, idx, coco, voc, yolo or masks.  Files are copied as they are; bare pixels become PNG.
    What the layout itself cannot say stands in tables beside it.  strict: write nothing if anything would be lost.
    progress: called with (images done, images).  DataError if something is at `out`, or `to` has no place for an image.
    """
    known, place = writable(), Path(out)
    if to not in known:
        raise DataError(f"{to!r} is not a format to write", where="--to", fix=did_you_mean(to, known))
    if Path(data).exists() and place.resolve().is_relative_to(Path(data).resolve()):
        raise DataError("it lies in the folder that is read", where=out, fix="Choose a place outside.")
    found = read(data)
    with new_folder(place) as making:
        ids = known[to].write(found.data, making, progress or _quiet)
        back = _with_tables(found.data, making, ids, everything=to == "table")
        lost = differences(found.data, back, ids)
        if strict and lost:
            fix = "Choose another format, or leave out --strict."
            raise DataError(f"{to} cannot hold {len(lost)} things; the first: {lost[0]}", where=out, fix=fix)
    return Converted(place, read(place).data, lost, found.faults)


def _quiet(done: int, total: int) -> None:
    pass


def _with_tables(data: Dataset, folder: Path, ids: Sequence[str], everything: bool) -> Dataset:
    """Write what the images' own layout does not say as tables beside it; -> all as it is read back.

    Twice, since a table changes what folders are taken for: the second time with what was then missing.
    """
    row, source, cls = data.votes
    if len(row):
        who = data.sources["name"].to_pylist()
        votes = ([ids[r], who[s], data.names[c]] for r, s, c in zip(row.tolist(), source.tolist(), cls.tolist()))
        write_csv(folder / VOTES, ["image", "annotator", "class"], votes)
    known = [f for f in _COLUMNS if any(_column(data, f))]
    heads = known if everything else _missing(data, read(folder).data, ids, known)
    listed = given_tags(data) is not None
    for _ in range(2):
        if "confidence" in heads and "class" not in heads:
            heads = ["class", *heads]
        if everything or heads or listed or data.probs is not None:
            write_csv(folder / LABELS, _heads(data, heads, listed), _rows(data, ids, heads, listed, everything))
        back = read(folder).data
        more = _missing(data, back, ids, known)
        taken = everything and bool(_unlike(data, back, ids, "class"))  # folders for classes: a table of all says no
        if {*more} <= {*heads} and (listed or not taken):
            break
        heads, listed = [f for f in known if f in (*heads, *more)], listed or taken
    return back


def _missing(data: Dataset, back: Dataset, ids: Sequence[str], fields: Sequence[str]) -> list[str]:
    return [f for f in fields if _unlike(data, back, ids, f)]


def _heads(data: Dataset, heads: list[str], listed: bool) -> list[str]:
    probs = [f"p:{n}" for n in data.names] if data.probs is not None else []
    tags = [f"tag:{n}" for n in data.names] if listed else []
    found = ["image", *heads, *probs, *tags]
    return found if len(found) > 1 else ["image", "class"]


def _rows(data: Dataset, ids: Sequence[str], heads: list[str], listed: bool, everything: bool) -> Iterator[list[str]]:
    """A row for every image, or for those that a column says something of."""
    probs, tags = data.probs, given_tags(data)
    columns = [_column(data, f) for f in heads]
    state = {1: "1", 0: "0", -1: ""}
    for row, name in enumerate(ids):
        cells = [c[row] for c in columns]
        if probs is not None:
            cells += ["" if np.isnan(probs[row, 0]) else repr(float(v)) for v in probs[row]]
        if listed:
            cells += [state[int(v)] for v in tags[row]] if tags is not None else [""] * len(data.names)
        if everything or any(cells):
            yield [name, *cells]


def _column(data: Dataset, field: str) -> list[str]:
    """What is said of each image, as cells: its class by people, how sure they were, or a field."""
    if field in FIELDS:
        return [str(v) for v in data.field(field)]
    out = [""] * len(data)
    human = data.resolve((HUMAN, ANNOTATOR))
    mine = human.of_kind("class")
    by_people = human.who()[human.annotations["kind"].cast("string").to_numpy(zero_copy_only=False) == "class"]
    said = zip(mine["row"].to_pylist(), mine["class"].to_pylist(), mine["confidence"].to_pylist(), by_people)
    for row, cls, sure, who in said:
        if who != MODEL:
            out[row] = data.names[cls] if field == "class" else "" if sure is None else repr(float(sure))
    return out


# -- what is lost ------------------------------------------------------------------------------------------------------


def differences(data: Dataset, back: Dataset, ids: Sequence[str]) -> list[str]:
    """What `back`, read from what was written, does not say as `data` does; ids: what each image is called there."""
    out = []
    renamed = [(str(a), b) for a, b in zip(data.ids, ids) if str(a) != b]
    if renamed:
        out.append(f"names of {len(renamed):,} images: {renamed[0][0]!r} is now {renamed[0][1]!r}")
    at = _where(back, ids)
    if gone := int((at < 0).sum()):
        out.append(f"{gone:,} images, which cannot be read back")
    if (np.diff(at[at >= 0]) < 0).any():
        out.append("the order of the images")
    for field in _COLUMNS:
        if rows := _unlike(data, back, ids, field):
            had, has = _column(data, field)[rows[0]], _column(back, field)[at[rows[0]]] if at[rows[0]] >= 0 else ""
            out.append(f"{field} of {len(rows):,} images: {had!r} is read as {has!r} ({ids[rows[0]]})")
    if data.names != back.names:
        gone_names = [n for n in data.names if n not in back.names]
        new = [n for n in back.names if n not in data.names]
        what = f"classes without an image: {', '.join(gone_names)}" if gone_names else "the order of the classes"
        out.append(f"new classes: {', '.join(new)}" if new else what)
    out += _other(data, back, at)
    return [visible(line) for line in out]


def _unlike(data: Dataset, back: Dataset, ids: Sequence[str], field: str) -> list[int]:
    """Rows of which `back` says another class, confidence or field."""
    at, had, has = _where(back, ids), _column(data, field), _column(back, field)
    return [r for r, a in enumerate(at.tolist()) if had[r] != (has[a] if a >= 0 else "")]


def _where(back: Dataset, ids: Sequence[str]) -> np.ndarray:
    """The row in `back` of each image, int64 (N,), -1 = it is not there."""
    index = {str(name): i for i, name in enumerate(back.ids)}
    return np.array([index.get(name, -1) for name in ids], np.int64)


def _other(data: Dataset, back: Dataset, at: np.ndarray) -> list[str]:
    """Statements and columns other than classes and fields."""
    out = []
    place = dict(enumerate(at.tolist()))
    for kind, said in _SAID.items():
        had, has = said(data), said(back)
        missing = sum((place[r], *rest) not in has for r, *rest in had)
        if missing:
            out.append(f"{kind}: {missing:,} of {len(had):,}")
    guesses = data.annotations.num_rows and int((data.who() == MODEL).sum())
    if guesses:
        out.append(f"{guesses:,} labels made by a model: only what people said is written")
    kinds = {*data.annotations["kind"].cast("string").to_pylist(), *data.looked["kind"].cast("string").to_pylist()}
    for kind in sorted(kinds & {*DRAWN}):
        drawn, read_back = _drawn(data, kind), _drawn(back, kind)
        there = Counter((place[r], *rest) for r, *rest in drawn.elements())
        if missing := (there - read_back).total():
            out.append(f"{kind}: {missing:,} of {there.total():,}")
        seen = {(place[r], *rest) for r, *rest in _looked(data, kind)}
        if unlike := len({r for r, *_ in seen ^ _looked(back, kind)}):
            out.append(f"what was looked for, of {kind}: {unlike:,} images")
    out += [f"text: {n:,}" for n in [data.of_kind("text").num_rows] if n]
    out += [f"the column {name!r}" for name in sorted({*data.columns} - {"probs"})]
    if any(p >= 0 for p in data.classes["parent"].to_pylist()):
        out.append("which class is part of which")
    if any(data.sources["run"].to_pylist()) or any(data.sources["seconds"].to_pylist()):
        out.append("runs and seconds of those who labelled")
    return out


def _votes(data: Dataset) -> set[tuple[Any, ...]]:
    row, source, cls = data.votes
    who = data.sources["name"].to_pylist()
    return {(r, who[s], data.names[c]) for r, s, c in zip(row.tolist(), source.tolist(), cls.tolist())}


def _drawn(data: Dataset, kind: str) -> Counter[tuple[Any, ...]]:
    """Objects that people drew: row, class, if to be ignored, frame to a thousandth of a pixel, digest of a mask."""
    mine = data.of_kind(kind)
    corners = np.stack([mine[c].to_numpy().astype(np.float64) for c in ("x0", "y0", "x1", "y1")], 1)
    cls, ignored = mine["class"].fill_null(-1).to_pylist(), (mine["value"].fill_null(1).to_numpy() <= 0.5).tolist()
    masks = (content(unstamp(m)) if m else "" for m in mine["data"].to_pylist())
    frames = map(tuple, np.round(np.nan_to_num(corners), 3).tolist())
    people = [w != MODEL for w in np.array(data.sources["who"].to_pylist(), object)[mine["source"].to_numpy()]]
    names = (*data.names, "")
    said = zip(mine["row"].to_pylist(), (names[c] for c in cls), ignored, frames, masks)
    return Counter(one for one, by_people in zip(said, people) if by_people)


def _looked(data: Dataset, kind: str) -> set[tuple[Any, ...]]:
    """What was looked for: row, class ('' = all), 1 or 0."""
    mine, names = data.looked.filter(pc.equal(data.looked["kind"].cast(pa.string()), kind)), (*data.names, "")
    columns = (mine["row"], mine["class"].fill_null(-1), mine["complete"].fill_null(0))
    return {(r, names[c], done) for r, c, done in zip(*(column.to_pylist() for column in columns))}


def _tags(data: Dataset) -> set[tuple[Any, ...]]:
    tags = given_tags(data)
    found = np.argwhere(tags >= 0) if tags is not None else np.empty((0, 2), int)
    return {(r, data.names[c], int(tags[r, c])) for r, c in found.tolist()} if tags is not None else set()


def _probs(data: Dataset) -> set[tuple[Any, ...]]:
    probs = data.probs
    known = np.flatnonzero(~np.isnan(probs[:, 0])).tolist() if probs is not None else []
    return {(r, *sorted(zip(data.names, probs[r].tolist()))) for r in known} if probs is not None else set()


_SAID: dict[str, Callable[[Dataset], set[tuple[Any, ...]]]] = {"votes": _votes, "tags": _tags, "probabilities": _probs}
