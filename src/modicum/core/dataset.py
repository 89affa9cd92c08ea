"""A Dataset: small Arrow tables that say what is known of which image, by whom.  Nothing is ever overwritten.

Pseudo-labels, votes, corrections and generated images are deltas: `data + delta -> data`; `resolve` says who wins.
Letters: N images, C classes, M annotations, V votes.  This file knows no disk layout but its own (`save`, `load`).
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modicum.core import form, where
from modicum.core.errors import DataError, did_you_mean
from modicum.core.kinds import Fact
from modicum.core.tables import (
    ANNOTATIONS,
    CLASSES,
    IMAGES,
    LOOKED,
    SCHEMAS,
    SOURCES,
    bounded,
    content,
    misfit,
    table,
)  # fmt: skip
from modicum.core.tags import tags

HUMAN, ANNOTATOR, MODEL = "human", "annotator", "model"
_FORM = {"format": int, "reader": str, "root": str, "columns": [form.NAME]}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Tables of one set of images.

    images: one row an image; `id` is its path relative to `root` (or a name where there is no file).
    annotations: one row a statement; a delta's `row` counts in the combined set.  looked: what was looked for: an image
    without boxes is empty (1), partly (0) or not labelled (no row).  sources: who said it.  columns: arrays (N,...).
    reader: the name of the data format that can read the pixels; root: where they are.
    """

    images: pa.Table
    annotations: pa.Table
    looked: pa.Table
    sources: pa.Table
    classes: pa.Table
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    reader: str = ""
    root: str = ""

    @staticmethod
    def build(
        ids: Sequence[str] | pa.Array, classes: Iterable[str] = (), *, reader: str = "", root: str = "",
        cls: np.ndarray | None = None, columns: Mapping[str, np.ndarray] | None = None, **images: Any,
    ) -> Dataset:  # fmt: skip
        """The usual case: images by id, class names, and a class a row (int (N,), -1 unknown) given by people."""
        data = Dataset(
            table(IMAGES, id=pa.array(ids, pa.string()), **images), ANNOTATIONS.empty_table(), LOOKED.empty_table(),
            SOURCES.empty_table(), table(CLASSES, name=list(classes), parent=-1), columns or {}, reader, root,
        )  # fmt: skip
        return data if cls is None else data + data.delta_class(cls, source="human", who=HUMAN)

    def __len__(self) -> int:
        return self.images.num_rows

    # -- reading -----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Class names, in order."""
        return tuple(self.classes["name"].to_pylist())

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """Image ids, object (N,)."""
        return self.images["id"].to_numpy(zero_copy_only=False)

    def field(self, name: str) -> np.ndarray:
        """A column of `images` as an object or number array (N,)."""
        column = self.images[name]
        if not isinstance(column.type, pa.DictionaryType):
            return column.to_numpy(zero_copy_only=False)
        one = column.unify_dictionaries().combine_chunks()  # each word once, however many rows say it
        words = np.array([*one.dictionary.to_pylist(), None], object)
        return words[one.indices.fill_null(-1).to_numpy(zero_copy_only=False)]

    def of_split(self, split: str) -> np.ndarray:
        """Which images are in a split, bool (N,)."""
        said = pc.equal(self.images["split"].cast(pa.string()), split).fill_null(False)
        return np.asarray(said.to_numpy(zero_copy_only=False))

    def of_kind(self, kind: str) -> pa.Table:
        """Annotations of one kind."""
        return self.annotations.filter(pc.equal(self.annotations["kind"].cast(pa.string()), kind))

    @functools.cached_property
    def cls(self) -> np.ndarray:
        """Class of each image, int64 (N,), -1 unknown.  The last statement wins; `resolve` orders them first."""
        out = np.full(len(self), -1, np.int64)
        given = self.of_kind("class")
        out[given["row"].to_numpy()] = given["class"].to_numpy()
        return out

    @functools.cached_property
    def probs(self) -> np.ndarray | None:
        """Given probabilities, float32 (N,C), rows of NaN unknown; None where the set has none."""
        return self.columns.get("probs")

    @functools.cached_property
    def tags(self) -> np.ndarray | None:
        """Tags, given or from drawn objects (core/tags.py), int8 (N,C): 1 present, 0 absent, -1 unknown; None: none."""
        return tags(self)

    @functools.cached_property
    def votes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """row, annotator (an index into `sources`), class: int64 (V,) each."""
        given = self.of_kind("votes")
        return tuple(given[c].to_numpy().astype(np.int64) for c in ("row", "source", "class"))  # type: ignore[return-value]

    def known(self, kind: str) -> np.ndarray:
        """Which images something of this kind is known of, bool (N,); also that there is none of it."""
        if kind == "image":
            return np.ones(len(self), bool)
        if kind == "names":
            return np.full(len(self), bool(self.names))
        if kind in self.columns:
            values = np.asarray(self.columns[kind])
            return (
                ~np.isnan(values.reshape(len(self), -1)[:, 0]) if values.dtype.kind == "f" else np.ones(len(self), bool)
            )
        if kind == "tags":
            return np.zeros(len(self), bool) if self.tags is None else np.asarray((self.tags >= 0).any(1))
        out = np.zeros(len(self), bool)
        out[self.of_kind(kind)["row"].to_numpy()] = True
        seen = self.looked.filter(pc.equal(self.looked["kind"].cast(pa.string()), kind))
        out[seen["row"].to_numpy()[seen["complete"].fill_null(0).to_numpy() == 1]] = True  # it may show nothing
        if kind == "masks":
            out |= self.known("instances")
        return np.asarray(out)

    def facts(self) -> tuple[Fact, ...]:
        """What this set has, in the planner's words.  Labels made by a model carry `~`."""
        guesses = self.who() == MODEL
        out = [Fact("image")] if len(self) else []
        if self.names:
            out.append(Fact("names"))
        kinds = self.annotations["kind"].cast(pa.string()).to_numpy(zero_copy_only=False)
        looked = set(self.looked["kind"].cast(pa.string()).to_pylist())
        for kind in sorted({*kinds, *looked} | (set(self.columns) & {"probs", "proposals", "features", "maps"})):
            mine = kinds == kind
            guess = bool(mine.any() and guesses[mine].all())
            out.append(Fact(kind, some=not self.known(kind).all(), guess=guess))
        return tuple(out)

    def who(self) -> np.ndarray:
        """Who made each annotation: human, annotator or model, object (M,)."""
        who = self.sources["who"].to_numpy(zero_copy_only=False)
        return who[self.annotations["source"].to_numpy()] if len(who) else np.empty(0, object)

    def rows(self, expression: str = "all") -> np.ndarray:
        """Rows that an expression chooses (core/where.py), int64."""
        return np.flatnonzero(where.mask(self, expression))

    def counts(self) -> np.ndarray:
        """Images of each class, int64 (C,)."""
        known = self.cls[self.cls >= 0]
        return np.bincount(known, minlength=len(self.names))

    @functools.cached_property
    def version(self) -> str:
        """A hash of all tables and columns: the same content, the same version."""
        digest = hashlib.blake2b(digest_size=12)
        for name in SCHEMAS:
            for column in getattr(self, name).itercolumns():
                for part in content(column):
                    digest.update(part.data)
        for name in sorted(self.columns):
            digest.update(name.encode() + np.ascontiguousarray(self.columns[name]).tobytes())
        return digest.hexdigest()

    # -- deltas ------------------------------------------------------------------------------------------------------

    def delta(self, *, source: str, who: str, run: str = "", seconds: float = 0.0, **annotations: Any) -> Dataset:
        """Statements about our images by one source, as a delta: `annotations` are columns of that table."""
        return replace(
            self.empty(), annotations=table(ANNOTATIONS, **{"source": 0, **annotations}),
            sources=table(SOURCES, name=[source], who=who, run=run, seconds=seconds), classes=self.classes,
        )  # fmt: skip

    def delta_class(
        self, cls: np.ndarray, *, source: str, who: str, run: str = "", confidence: np.ndarray | None = None
    ) -> Dataset:
        """Classes (N,), -1 unknown, as a delta."""
        rows = np.flatnonzero(np.asarray(cls) >= 0)
        sure = None if confidence is None else np.asarray(confidence, np.float32)[rows]
        given: dict[str, Any] = {"row": rows, "kind": "class", "confidence": sure, "class": np.asarray(cls)[rows]}
        return self.delta(source=source, who=who, run=run, **given)

    def empty(self) -> Dataset:
        """The same place without images, statements or columns."""
        tables: dict[str, Any] = {name: schema.empty_table() for name, schema in SCHEMAS.items()}
        return replace(self, **tables, columns={})

    def __add__(self, delta: Dataset) -> Dataset:
        """This set and what the delta says: its statements come last, its new images are appended."""
        names = self.names + tuple(n for n in delta.names if n not in self.names)
        position = {n: i for i, n in enumerate(names)}
        remap = np.array([position[n] for n in delta.names] + [-1], np.int32)
        offset = self.sources.num_rows

        def renumber(t: pa.Table) -> pa.Table:
            cls = t["class"].fill_null(-1).to_numpy()
            t = t.set_column(t.schema.get_field_index("class"), "class", pa.array(remap[cls], pa.int32()))
            source = pc.add(t["source"], pa.scalar(offset, pa.int32()))
            return t.set_column(t.schema.get_field_index("source"), "source", source)

        def join(a: pa.Table, b: pa.Table) -> pa.Table:
            return pa.concat_tables([a, b]).unify_dictionaries().combine_chunks() if b.num_rows else a

        columns = {**self.columns, **delta.columns}
        total = len(self) + len(delta)
        short = [n for n, v in columns.items() if len(v) != total]
        if short:
            found = f"column {short[0]!r} has {len(columns[short[0]])} rows, the images {total}"
            raise DataError(found, where="data + delta", fix="Give a value for every image.")
        parents = self.classes["parent"].to_pylist() + [-1] * (len(names) - len(self.names))
        return replace(
            self, images=join(self.images, delta.images), sources=join(self.sources, delta.sources),
            annotations=join(self.annotations, renumber(delta.annotations)),
            looked=join(self.looked, renumber(delta.looked)),
            classes=table(CLASSES, name=list(names), parent=parents), columns=columns,
        )  # fmt: skip

    def resolve(self, prefer: Sequence[str] = (HUMAN, ANNOTATOR, MODEL)) -> Dataset:
        """One class an image: the statement of the preferred source (its name or who it is), the latest among equals.

        Other kinds are left as they are.  A source that `prefer` does not name comes last.
        """
        who, names = self.sources["who"].to_pylist(), self.sources["name"].to_pylist()
        rank = {w: len(prefer) - i for i, w in enumerate(prefer)}
        weight = np.array([max(rank.get(w, 0), rank.get(n, 0)) for w, n in zip(who, names)] or [0])
        kind = self.annotations["kind"].cast(pa.string()).to_numpy(zero_copy_only=False)
        row, source = self.annotations["row"].to_numpy(), self.annotations["source"].to_numpy()
        mine = np.flatnonzero(kind == "class")
        order = mine[np.lexsort((mine, weight[source[mine]], row[mine]))]
        last = np.r_[row[order][1:] != row[order][:-1], True][: len(order)]
        keep = np.union1d(np.flatnonzero(kind != "class"), order[last])
        return replace(self, annotations=self.annotations.take(keep))

    def without(self, kind: str, rows: np.ndarray) -> Dataset:
        """This set with no statement of a kind about these rows, nor that it was looked for: how labels are hidden."""
        gone = np.zeros(len(self), bool)
        gone[rows] = True
        of_kind = self.annotations["kind"].cast(pa.string()).to_numpy(zero_copy_only=False) == kind
        keep = ~(of_kind & gone[self.annotations["row"].to_numpy()])
        columns = dict(self.columns)
        if kind in columns:
            columns[kind] = np.where(gone.reshape(-1, *[1] * (columns[kind].ndim - 1)), np.nan, columns[kind]).astype(
                columns[kind].dtype
            )
        seen = self.looked["kind"].cast(pa.string()).to_numpy(zero_copy_only=False) == kind
        looked = self.looked.filter(pa.array(~(seen & gone[self.looked["row"].to_numpy()])))
        return replace(self, annotations=self.annotations.filter(pa.array(keep)), looked=looked, columns=columns)

    def take(self, rows: np.ndarray) -> Dataset:
        """The images of these rows, in this order, with what is known of them."""
        where_to = np.full(len(self), -1, np.int64)
        where_to[rows] = np.arange(len(rows))

        def keep(t: pa.Table) -> pa.Table:
            new = where_to[t["row"].to_numpy()]
            t = t.set_column(0, "row", pa.array(new, pa.int32()))
            return t.filter(pa.array(new >= 0))

        return replace(
            self, images=self.images.take(rows), annotations=keep(self.annotations), looked=keep(self.looked),
            columns={k: v[rows] for k, v in self.columns.items()},
        )  # fmt: skip

    def with_images(self, **columns: Any) -> Dataset:
        """This set with columns of `images` replaced, e.g. split=array of words (N,)."""
        images = self.images
        for name, values in columns.items():
            fresh = table(IMAGES, **{name: values, "id": images["id"]})[name]
            images = images.set_column(images.schema.get_field_index(name), IMAGES.field(name), fresh)
        return replace(self, images=images)

    def with_column(self, name: str, values: np.ndarray) -> Dataset:
        """This set with a column (N,...) added or replaced."""
        if len(values) != len(self):
            fix = "Give a value for every image."
            raise DataError(f"{len(values)} values for {len(self)} images", where=f"column {name!r}", fix=fix)
        return replace(self, columns={**self.columns, name: values})

    # -- on disk -----------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write Parquet tables, .npy columns and dataset.json into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in SCHEMAS:
            pq.write_table(getattr(self, name), folder / f"{name}.parquet", compression="zstd")
        for name, values in self.columns.items():
            np.save(folder / f"column-{name}.npy", values, allow_pickle=False)
        meta = {"format": 1, "reader": self.reader, "root": self.root, "columns": sorted(self.columns)}
        (folder / "dataset.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Dataset:
        """Read what `save` wrote; DataError if something is missing or damaged."""
        again = "Restore the folder, or make it again."
        meta = form.load(folder / "dataset.json", _FORM, DataError, again, format=1)
        try:
            for name, schema in SCHEMAS.items():
                if bounded(folder / f"{name}.parquet").schema.to_arrow_schema().names != schema.names:
                    raise ValueError(f"{name}.parquet has other columns")
            tables = {
                name: pq.read_table(folder / f"{name}.parquet", schema=schema) for name, schema in SCHEMAS.items()
            }
            columns = {
                c: np.load(folder / f"column-{c}.npy", allow_pickle=False, mmap_mode="r") for c in meta["columns"]
            }
            if wrong := misfit(tables, columns):
                raise ValueError(wrong)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            why = " ".join(str(error).split())[:200]
            raise DataError(f"not a readable dataset: {why}", where=folder, fix=again) from None
        return Dataset(**tables, columns=columns, reader=meta["reader"], root=meta["root"])


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a Dataset with columns filled: what label, score and select methods read.

    data: the whole set.  rows: int64 (R,) into it.  columns: float arrays (R,...) such as logits (R,C), features (R,D).
    pixels: a row of `data` -> its image, uint8 or uint16 (h,w,c), perhaps smaller than the stored one; None where the
    images are not at hand.
    """

    data: Dataset
    rows: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    pixels: Callable[[int], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> np.ndarray:
        if column in self.columns:
            return self.columns[column]
        if column in self.data.columns:
            return np.asarray(self.data.columns[column])[self.rows]
        raise DataError(
            f"no column {column!r}", where="table", fix=did_you_mean(column, {*self.columns, *self.data.columns})
        )

    @property
    def cls(self) -> np.ndarray:
        """Known classes of the rows, int64 (R,), -1 unknown."""
        return self.data.cls[self.rows]

    @property
    def probs(self) -> np.ndarray:
        """softmax of the column `logits`, float64 (R,C)."""
        z = self["logits"].astype(np.float64)
        z = np.exp(z - z.max(1, keepdims=True))
        return z / z.sum(1, keepdims=True)
