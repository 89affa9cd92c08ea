"""The feed: which images a stream draws at a step, and their views and labels.  Every draw is a function of the seed.

Position p of a stream -> epoch p // n, row perm(seed, epoch)[p % n].  Nothing is remembered or has to be saved.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modicum.core import draws
from modicum.core.batch import Labels, Part, View
from modicum.core.dataset import Dataset
from modicum.core.errors import NeedsError, SettingsError, did_you_mean
from modicum.core.program import Stream
from modicum.core.recipe import PLAIN, Augment
from modicum.data.cache import Pixels
from modicum.data.masks import Painter
from modicum.data.pack import Annotations
from modicum.data.views import make_view, needs

AHEAD, MANY = 2**18, 8  # pixels of a stream's views that are drawn at once, and steps, at most
SHUFFLED = 2**12  # rows of an order that are shuffled at once, an epoch at least


class Gathered(Mapping[str, Tensor]):
    """Columns (N,...) as a batch sees them, (B,...): a column that nobody asks for costs nothing."""

    def __init__(self, columns: Mapping[str, np.ndarray], rows: Tensor, device: torch.device) -> None:
        self._columns, self._rows, self._device = columns, rows, device

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._columns:
            raise SettingsError(f"no column {name!r}", where="batch", fix=did_you_mean(name, self._columns))
        return torch.from_numpy(np.ascontiguousarray(self._columns[name][self._rows.numpy()])).to(self._device)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class Feed:
    """Images of `data` that `pool` allows, bool (N,): a feed never shows a row outside it.

    views: what each view name means.  side: of the views, in pixels.  rank, world: this process's share of a batch.
    """

    def __init__(
        self, data: Dataset, pixels: Pixels, pool: np.ndarray, *, views: Mapping[str, Augment], side: int, seed: int,
        device: torch.device | str = "cpu", how: str = "", rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        self.data, self.pixels, self.pool, self.views = data, pixels, pool & pixels.good, views
        self.side, self.seed, self.device, self.how = side, seed, torch.device(device), how
        self.rank, self.world = rank, world
        self.columns: dict[str, Tensor] = {}
        self.annotations, self.painter = Annotations(data), Painter(data, side)
        self._fill()

    def _fill(self) -> None:
        self.cls = torch.from_numpy(self.data.cls)
        self.probs = None if self.data.probs is None else torch.from_numpy(np.asarray(self.data.probs, np.float32))
        self.tags = None if self.data.tags is None else torch.from_numpy(self.data.tags)
        self.held: dict[str, tuple[Any, Tensor, dict[str, View]]] = {}
        self.rows = functools.lru_cache(maxsize=32)(self._rows)
        self.permutations = functools.lru_cache(maxsize=64)(draws.permutations)

    def put(self, name: str, values: Tensor) -> None:
        """A collected column, (N,...), in place of any of that name: streams may choose by it and batches carry it."""
        self.columns[name] = values
        self.data = self.data.with_column(name, values.float().numpy())
        self._fill()

    def _rows(self, expression: str) -> Tensor:
        chosen = np.zeros(len(self.data), bool)
        chosen[self.data.rows(expression)] = True
        rows = np.flatnonzero(chosen & self.pool)
        if not len(rows):
            fix = "Label some images, or check the split."
            if expression[0] == "~":
                fix = f"Add images without {expression[1:]}, which the method learns from, or take another method."
            raise NeedsError(f"no image for the rows {expression!r}", where="training", fix=fix)
        return torch.from_numpy(rows)

    def draw(self, stream: Stream, name: str, step: int, phase: int = 0, lane: int = 0) -> Part:
        """The stream's batch at a step; of several processes each gets its share.

        Small batches are drawn some steps at a time, which spares most of a small step's tensor operations: what an
        image looks like depends on its position alone.
        """
        many = min(MANY, AHEAD // (stream.size * max(1, len(stream.views)) * self.side**2)) or 1
        at, share = (stream, step // many, phase, lane), torch.arange(stream.size).tensor_split(self.world)[self.rank]
        if name not in self.held or self.held[name][0] != at:
            steps = torch.arange(many) + step // many * many
            positions = (steps[:, None] * stream.size + share).flatten()
            seed = draws.key(self.seed, "order", phase, lane, name)
            rows = self.choose(stream, positions, seed)
            self.held[name] = at, rows, self.seen(rows, stream.views, positions, draws.key(seed, "views"))
        _, rows, views = self.held[name]
        mine = slice(step % many * len(share), (step % many + 1) * len(share))
        cut = {n: View(v.pixels[mine], v.affine[mine], v.size[mine]) for n, v in views.items()}
        return self._part(rows[mine], cut)

    def choose(self, stream: Stream, positions: Tensor, seed: int) -> Tensor:
        """Positions (P,) -> rows (P,)."""
        rows = self.rows(stream.rows)
        if stream.sampler == "shuffle":
            many = max(1, SHUFFLED // len(rows))
            spans, within = positions // (many * len(rows)), positions % (many * len(rows))
            for span in spans.unique().tolist():
                order = self.permutations(seed, span * many, many, len(rows)).flatten()
                within = torch.where(spans == span, order[within], within)
            return rows[within]
        luck = draws.uniform(seed, positions, 0, 2)
        if stream.sampler == "balanced":
            return self._balanced(rows, luck)
        if stream.sampler.startswith("weighted:"):
            weight = self._weights(stream.sampler[9:], rows).cumsum(0)
            return rows[torch.searchsorted(weight, luck[:, 0].double() * weight[-1]).clamp_max(len(rows) - 1)]
        known = ("shuffle", "balanced", "weighted:COLUMN")
        raise SettingsError(f"unknown sampler {stream.sampler!r}", fix=did_you_mean(stream.sampler, known))

    def _weights(self, name: str, rows: Tensor) -> Tensor:
        """A column as weights of rows, float64 (R,): not a number counts as 0."""
        if name not in self.data.columns:
            raise SettingsError(f"no column {name!r}", where="sampler", fix=did_you_mean(name, self.data.columns))
        weight = torch.from_numpy(np.asarray(self.data.columns[name], np.float64))[rows].nan_to_num(0.0)
        if weight.ndim != 1 or (weight < 0).any() or not weight.sum() > 0:
            fix = "It must be one number an image, none below 0, some above."
            raise NeedsError(f"the column {name!r} gives no weights", where="sampler", fix=fix)
        return weight

    def _balanced(self, rows: Tensor, luck: Tensor) -> Tensor:
        """A class with equal chance, then one of its images; images without a class are left out."""
        rows = rows[self.cls[rows] >= 0]
        if not len(rows):
            raise NeedsError("no image has a class", where="sampler 'balanced'", fix="Draw with sampler='shuffle'.")
        cls, order = self.cls[rows].sort(stable=True)
        kinds, counts = cls.unique_consecutive(return_counts=True)
        kind = (luck[:, 0] * len(kinds)).long().clamp_max(len(kinds) - 1)
        start = counts.cumsum(0) - counts
        within = (luck[:, 1] * counts[kind]).long().minimum(counts[kind] - 1)
        return rows[order[start[kind] + within]]

    def part(self, rows: Tensor, views: tuple[str, ...], positions: Tensor, seed: int) -> Part:
        """Views and labels of given rows."""
        return self._part(rows, self.seen(rows, views, positions, seed))

    def _part(self, rows: Tensor, views: Mapping[str, View]) -> Part:
        return Part(rows.to(self.device), views, self.labels(rows), Gathered(self.data.columns, rows, self.device))

    def seen(self, rows: Tensor, views: tuple[str, ...], positions: Tensor, seed: int) -> dict[str, View]:
        """Views of given rows, (P,), by their positions in the stream, (P,)."""
        pixels, sizes = self.pixels.batch(rows.numpy())
        made = {}
        for number, view in enumerate(views):
            augment = self.views.get(view, PLAIN if view == "plain" else None)
            if augment is None:
                raise SettingsError(f"the recipe has no view {view!r}", fix=did_you_mean(view, self.views))
            luck = draws.uniform(seed, positions, number, needs(augment))
            made[view] = make_view(pixels, sizes, augment, luck, self.side, self.device, self.how)
        return {name: self._whole(view, rows, sizes) for name, view in made.items()}

    def _whole(self, view: View, rows: Tensor, sizes: np.ndarray) -> View:
        """A view of the cached pixels as one of the whole image, in whose coordinates labels are."""
        index = self.pixels.index
        if "whole_height" not in (index.dtype.names or ()):
            return view
        whole = np.stack([index["whole_height"], index["whole_width"]], 1)[rows.numpy()].astype(np.int64)
        if (whole == sizes).all():
            return view
        scale = torch.from_numpy((whole / sizes)[:, ::-1].astype(np.float32)).to(self.device)
        return View(view.pixels, view.affine * scale[:, :, None], torch.from_numpy(whole).to(self.device))

    def labels(self, rows: Tensor) -> Labels:
        """What is known of these rows."""

        def pick(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[rows].to(self.device)

        votes, boxes, looked = self.annotations.of(rows, self.device)
        drawn = functools.partial(self._drawn, rows) if self.painter else None
        return Labels(self.cls[rows].to(self.device), pick(self.probs), pick(self.tags), votes, boxes, looked, drawn)

    def _drawn(self, rows: Tensor, sure: float) -> Tensor:
        return self.painter.batch(rows, sure).to(self.device)

    def sweep(self, rows: np.ndarray, size: int, views: tuple[str, ...] = ("plain",), seed: int = 0) -> Iterator[Part]:
        """Every given row once, in order, in batches of at most `size`."""
        for start in range(0, len(rows), size):
            some = torch.from_numpy(rows[start : start + size])
            yield self.part(some, views, some, draws.key(self.seed, "sweep", seed))
