"""Where a run's network looks on many images: pictures, sheets of small ones, and a table of numbers and sentences."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from modicum.core.disk import whole
from modicum.core.errors import DataError
from modicum.core.space import writing
from modicum.data.names import guard, safe
from modicum.engine.explain import Asked, Look, looks
from modicum.engine.inputs import Input, Inputs
from modicum.engine.table import Finished
from modicum.evaluate.marks import NOT_FINITE, NOTHING
from modicum.evaluate.sanity import Sanity
from modicum.report import panels
from modicum.report.panels import Panel, Sheet

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modicum.nn.capture import Maps

BATCH = 32
TABLE = "maps.csv"
COLUMNS = (
    "picture", "image", "class", "probability", "score", "method", "layer", "peak_x", "peak_y", "half_area", "area",
    "energy", "border", "place", "place_share", "rival", "rival_probability", "overlap", "rank_correlation", "fault",
    "sentence",
)  # fmt: skip
"""Of maps.csv: peak in pixels of the image, shares 0 to 1 (see evaluate/marks.py); '' where a number is not known."""
_DOUBTS = re.compile(r": \d+ of \d+ maps are ")  # a batch's count of bad maps; `draw` counts over all

Told = Callable[[int, int, str, Sequence[Look]], None]


@dataclass
class Drawn:
    """count: of pictures.  warnings: sentences.  faults: (where, reason) of what was not drawn.  stopped: by Ctrl-C."""

    count: int = 0
    warnings: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    stopped: bool = False


def draw(
    run: str | Path, images: Sequence[str | Path], out: str | Path, asked: Asked | None = None, *,
    contour: bool = True, batch: int = BATCH, told: Told | None = None,
) -> Drawn:  # fmt: skip
    """Draw where a run's network looks: one PNG an image, sheets of small ones (grid-000.png ...) and maps.csv.

    images: files, folders, and sets that `fit` reads.  told(read, of, picture, looks) after each one.  Memory is that
    of a batch.  Ctrl-C leaves the pictures that are made, with a table of them.  What cannot be read is in `faults`.
    Maps that do not change when the top layers are drawn anew are in `warnings`.  DataError where nothing can be read.
    """
    work = _Work(Finished.open(run), asked or Asked(), contour)
    inputs = Inputs.of(images)
    work.drawn.faults += inputs.faults
    stream = work.explained(inputs, batch)
    first = next(stream, None)
    if first is None:
        faults = work.drawn.faults
        what = f"none of {len(inputs)} images can be read; the first: {faults[0][0]}: {faults[0][1]}"
        raise DataError(what, where="explain", fix="Give other image files, or folders of them.")
    folder = Path(out)
    with writing(folder, "the pictures"):
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / TABLE) as making, making.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            try:
                for one, seen in itertools.chain([first], stream):
                    name = work.write(folder, one, seen)
                    table.writerows([guard(str(c)) for c in _row(name, one, s, work.names)] for s in seen)
                    work.drawn.count += 1
                    if told:
                        told(work.read, len(inputs), str(folder / name), seen)
            except KeyboardInterrupt:
                work.drawn.stopped = True
                for picture in folder.glob(f"{work.drawn.count:04d}-*.png"):  # its row is not in the table
                    picture.unlink()
            work.sheet(folder)
    work.drawn.warnings += [] if work.drawn.stopped else work.warnings()
    return work.drawn


class One(NamedTuple):
    """An image as it is drawn.  picture: of `panels.plain`.  size: width and height as stored.  label: its class as
    people named it, or ''."""

    name: str
    picture: np.ndarray
    size: tuple[int, int]
    label: str


class _Work:
    """What lives as long as one `draw`: the network, the sheet, a few images for the sanity check, counts of faults."""

    def __init__(self, done: Finished, asked: Asked, contour: bool) -> None:
        self.done, self.asked, self.contour = done, asked, contour
        self.names = [str(n) for n in done.meta["classes"]]
        asked.classes(self.names)
        self.drawn, self.pairs, self.sheets, self.bad = Drawn(), Sheet(), 0, Counter[tuple[str, str, str]]()
        self.kept: list[tuple[Tensor, Maps]] = []
        self.read = 0

    def explained(self, inputs: Inputs, batch: int) -> Iterator[tuple[One, list[Look]]]:
        """Each image that can be read, with its maps."""
        held: list[tuple[One, np.ndarray]] = []
        for given in inputs:
            self.read += 1
            if given.pixels is None:
                self.drawn.faults.append((given.name, given.fault))
                continue
            held.append((_one(given), self.done.fitted(given.pixels)))
            if len(held) == batch:
                yield from self._batch(held)
                held = []
        if held:
            yield from self._batch(held)

    def _batch(self, held: list[tuple[One, np.ndarray]]) -> Iterator[tuple[One, list[Look]]]:
        from modicum.engine.sanity import IMAGES

        x = self.done.tensor([pixels for _, pixels in held])
        found, maps = looks(self.done.net, x, self.asked, self.names, self.done.meta)
        if sum(len(x) for x, _ in self.kept) < IMAGES:
            self.kept.append((x, maps))
        self.drawn.warnings += [w for w in maps.warnings if not _DOUBTS.search(w) and w not in self.drawn.warnings]
        for (one, _), seen in zip(held, found, strict=True):
            self.bad.update((s.method, s.layer, s.marks.fault) for s in seen)
            yield one, seen

    def write(self, folder: Path, one: One, seen: Sequence[Look]) -> str:
        """One picture, and the image's place on a sheet; -> the file's name."""
        name = f"{self.drawn.count:04d}-{safe(Path(one.name).stem)[:60]}.png"  # 255 bytes are allowed
        whole_png(folder / name, page(one, seen, self.names, self.contour))
        line = f"{_said(seen[0], self.names)} · {one.name.rpartition('/')[2]}"
        self.pairs.add(one.picture, seen[0].heat, (panels.writable(line, _said(seen[0], self.names)),), self.contour)
        if self.pairs.full:
            self.sheet(folder)
        return name

    def sheet(self, folder: Path) -> None:
        """Write the sheet, if anything is on it."""
        if self.pairs.pairs:
            whole_png(folder / f"grid-{self.sheets:03d}.png", panels.png(self.pairs.take()))
            self.sheets += 1

    def warnings(self) -> list[str]:
        """Maps that mark no place, and kinds of maps that fail the sanity check."""
        from modicum.engine.sanity import warned

        words = {NOT_FINITE: "have values that are not numbers", NOTHING: "hold nothing in favour of their class"}
        total = Counter[tuple[str, str]]()
        for (method, layer, _), n in self.bad.items():
            total[method, layer] += n
        said = [
            f"{method} at {layer}: {n:,} of {total[method, layer]:,} maps {words.get(fault, 'are the same everywhere')}"
            for (method, layer, fault), n in self.bad.items() if fault
        ]  # fmt: skip
        return [*said, *warned(together(self.done.net, self.kept, self.asked.methods))]


def together(
    net: nn.Module, kept: Sequence[tuple[Tensor, Maps]], methods: Sequence[str]
) -> dict[tuple[str, str], Sanity]:
    """The sanity check over maps of several batches."""
    import torch

    from modicum.engine.sanity import checked

    first = kept[0][1]
    found = first._replace(
        maps={k: torch.cat([m.maps[k] for _, m in kept]) for k in first.maps},
        targets=torch.cat([m.targets for _, m in kept]),
    )
    return checked(net, torch.cat([x for x, _ in kept]), found, None, list(methods) or None)


def page(one: One, seen: Sequence[Look], names: Sequence[str], contour: bool = True) -> bytes:
    """A PNG: the image, then its maps; a row a class where there are several methods or layers, else one row."""
    size = f"{one.size[0]} x {one.size[1]}"
    stem = panels.writable(Path(one.name).name, "image")
    label = panels.writable(f"labelled {one.label}", size) if one.label else size
    several = len({s.layer for s in seen}) > 1
    maps = [
        Panel(panels.over(one.picture, s.heat, contour), (_said(s, names), f"{s.method} {s.layer if several else ''}"))
        for s in seen
    ]
    wide = len({(s.method, s.layer) for s in seen})
    rows = [maps[i : i + wide] for i in range(0, len(maps), wide)] if wide > 1 else [maps]
    blank = Panel(np.full_like(one.picture, 255))
    return panels.png(panels.joined([[Panel(one.picture, (stem, label)), *rows[0]], *([blank, *r] for r in rows[1:])]))


def whole_png(path: Path, content: bytes) -> None:
    """A picture under its name, whole or not at all.  It is not waited for: the disk may have it later."""
    making = path.with_name(f".{path.name}.tmp")
    making.write_bytes(content)
    making.replace(path)


def _said(look: Look, names: Sequence[str]) -> str:
    return f"{panels.writable(names[look.cls], f'class {look.cls}')} {look.probability:.2f}"


def _one(given: Input) -> One:
    assert given.pixels is not None
    height, width = given.pixels.shape[:2]
    return One(given.name, panels.plain(given.pixels), (width, height), _label(given))


def _label(given: Input) -> str:
    """An image's class, or its tags, as people named them; '' where nobody did."""
    data, row = given.data, given.row
    if data is None:
        return ""
    if data.cls[row] >= 0:
        return data.names[int(data.cls[row])]
    return ", ".join(n for n, there in zip(data.names, data.tags[row]) if there == 1) if data.tags is not None else ""


def _row(picture: str, one: One, s: Look, names: Sequence[str]) -> tuple[object, ...]:
    """Of maps.csv."""
    m, (width, height) = s.marks, one.size
    numbers = (
        *(m.x * width, m.y * height), m.half, m.area, m.energy, m.border, m.place, m.held,
        names[s.rival] if s.rival >= 0 else "", s.rival_probability, s.overlap, s.rank,
    )  # fmt: skip
    cells = (picture, one.name, names[s.cls], s.probability, s.score, s.method, s.layer, *numbers, m.fault, s.sentence)
    return tuple(("" if np.isnan(c) else f"{c:.5g}") if isinstance(c, float) else c for c in cells)
