"""A run directory as the report sees it: every part may be missing or damaged, and then it is said, not raised."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from modicum.core import form
from modicum.core.dataset import Dataset
from modicum.core.errors import ModicumError
from modicum.core.tables import bounded
from modicum.runs.forms import FORMS

SURE = 0.95


@dataclass(frozen=True, eq=False)
class Run:
    """name: of the folder.  predictions: column -> array (M,).  maps: rows (R,), targets (R,), maps (R,h,w).
    looked: how those maps were made, and a sentence for each.
    masks: rows (R,), class maps said and true, uint8 (R,h,w).  found: row, class, score, x0, y0, x1, y1 (M,).  drawn:
    rows (R,), image (M,) numbers into them, xyxy (M,4), cls, state (M,).
    parameters, bytes: of net.safetensors, 0 where it is not there.  damaged: sentences about files that could not be
    read."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()
    data: Dataset | None = None
    predictions: Mapping[str, np.ndarray] = field(default_factory=dict)
    keep: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    looked: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    found: Mapping[str, np.ndarray] = field(default_factory=dict)
    drawn: Mapping[str, np.ndarray] = field(default_factory=dict)
    export: Mapping[str, Any] = field(default_factory=dict)
    scan: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, Any] = field(default_factory=dict)
    parameters: int = 0
    bytes: int = 0
    damaged: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, from the first part that knows them."""
        for names in (
            self.evaluation.get("classes"),
            part(self.config, "data").get("classes"),
            self.data and self.data.names,
        ):
            if isinstance(names, (list, tuple)) and names:
                return tuple(str(n) for n in names)
        return ()

    @property
    def lead(self) -> str:
        """The metric that the page begins with."""
        return str(self.evaluation.get("lead") or "accuracy")

    @property
    def main(self) -> str:
        """The name of the arm that is shipped."""
        return str(self.evaluation.get("main") or self.config.get("method") or "this model")


def part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping inside a mapping; empty where there is none."""
    value = of.get(name)
    return value if isinstance(value, Mapping) else {}


def _object(path: Path) -> dict[str, Any]:
    found = form.read(path, 64 * 2**20)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _formed(path: Path, name: str) -> dict[str, Any]:
    found = _object(path)
    if wrong := form.misfit(found, FORMS[name]):
        raise ValueError(wrong)
    return found


def _lines(path: Path) -> tuple[dict[str, Any], ...]:
    """JSON lines; a last line that was cut short by a crash is left out."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    out = []
    for k, line in enumerate(lines):
        try:
            out.append(json.loads(line))
        except ValueError:
            if k < len(lines) - 1:
                raise ValueError(f"line {k + 1} is not JSON") from None
    return tuple(x for x in out if isinstance(x, dict))


def _predictions(path: Path) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    numbers = ("row", "cls", "pred", "confidence")
    bounded(path)
    table = pq.read_table(path, columns=["split", *numbers], read_dictionary=["split"])
    split = table["split"].unify_dictionaries().combine_chunks()
    out = {name: table[name].to_numpy() for name in numbers}
    if any(a.dtype.kind not in "iuf" for a in out.values()):
        raise ValueError("row, cls, pred and confidence must be numbers")
    out["split"] = np.array(split.dictionary.to_pylist(), object)[split.indices.to_numpy()]
    return out


def _arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        if sum(part.file_size for part in file.zip.infolist()) > 2**26:
            raise ValueError("it unfolds to more than 64 MiB")
        return {name: file[name] for name in names}


def _maps(path: Path) -> dict[str, np.ndarray]:
    out = _arrays(path, "rows", "targets", "maps")
    if out["maps"].ndim != 3 or not len(out["rows"]) == len(out["targets"]) == len(out["maps"]):
        raise ValueError("rows (R,), targets (R,) and maps (R,h,w) do not fit together")
    return out


def _found(path: Path) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    bounded(path)
    table = pq.read_table(path, columns=["row", "class", "score", "x0", "y0", "x1", "y1"])
    out = {name: table[name].to_numpy() for name in table.column_names}
    if any(a.dtype.kind not in "iuf" for a in out.values()):
        raise ValueError("rows, classes, scores and corners must be numbers")
    return out


def _drawn(path: Path) -> dict[str, np.ndarray]:
    out = _arrays(path, "rows", "image", "xyxy", "cls", "state")
    many = len(out["image"])
    if out["xyxy"].shape != (many, 4) or len(out["cls"]) != many or len(out["state"]) != many:
        raise ValueError("image (M,), xyxy (M,4), cls (M,) and state (M,) do not fit together")
    if any(out[k].dtype.kind not in "iuf" or not np.isfinite(out[k]).all() for k in out):
        raise ValueError("rows, images, corners, classes and states must be finite numbers")
    return out


def _masks(path: Path) -> dict[str, np.ndarray]:
    out = _arrays(path, "rows", "said", "true")
    maps = (out["said"], out["true"])
    if any(m.dtype != np.uint8 or m.ndim != 3 or len(m) != len(out["rows"]) for m in maps):
        raise ValueError("rows (R,), and class maps said and true, uint8 (R,h,w), do not fit together")
    return out


def _parameters(path: Path) -> tuple[int, int]:
    """Numbers in a safetensors file, read from its header, and its bytes."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("the header is longer than the file")
        header = form.parse(file.read(length))
    count = sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    return count, path.stat().st_size


_READERS = {
    "config": ("config.json", _object),
    "environment": ("environment.json", _object),
    "metrics": ("metrics.jsonl", _lines),
    "data": ("data", Dataset.load),
    "predictions": ("predictions.parquet", _predictions),
    "keep": ("keep.json", lambda path: _formed(path, "keep.json")),
    "evaluation": ("evaluation.json", lambda path: _formed(path, "evaluation.json")),
    "maps": ("maps.npz", _maps),
    "looked": ("maps.json", lambda path: _formed(path, "maps.json")),
    "masks": ("masks.npz", _masks),
    "found": ("boxes.parquet", _found),
    "drawn": ("boxes.npz", _drawn),
    "export": ("export.json", _object),
    "scan": ("scan.json", _object),
    "seconds": ("seconds.json", _object),
}


def read(folder: Path) -> Run:
    """Everything the folder holds.  Nothing in it is run or unpickled."""
    found: dict[str, Any] = {}
    damaged = []
    for name, (file, reader) in _READERS.items():
        try:
            if (folder / file).exists():
                found[name] = reader(folder / file)
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            RuntimeError,
            zipfile.BadZipFile,
            ModicumError,
        ) as error:
            damaged.append(
                f"{file} could not be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            )
    weights = folder / "net.safetensors"
    try:
        if weights.exists():
            found["parameters"], found["bytes"] = _parameters(weights)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        damaged.append(f"net.safetensors could not be read: {error}")
    return Run(folder.resolve().name, damaged=tuple(damaged), **found)


def surest(run: Run) -> dict[str, Any] | None:
    """Mistakes, the surest first: {"first": [{"row", "true", "said", "confidence"}], "wrong", "asked", "of", "sure"}.

    From evaluation.json, which saw the hidden labels; else from the labels that the predictions carry; else None.
    sure: how many have a confidence of at least 95 %.  of: what was asked about, in words.
    """
    listed = run.evaluation.get("mistakes")
    if listed:
        first = [{k: m[k] for k in ("row", "true", "said", "confidence")} for m in listed["first"]]
        return {**listed, "first": first, "asked": part(run.evaluation, "test")["images"], "of": "test images"}
    p = run.predictions
    asked = p["cls"] >= 0 if p else np.zeros(0, bool)
    if not asked.any():
        return None
    tested = asked & (p["split"] == "test")
    asked, of = (tested, "test images") if tested.any() else (asked, "images that it was trained on")
    wrong = np.flatnonzero(asked & (p["pred"] != p["cls"]))
    order = wrong[np.argsort(-p["confidence"][wrong], kind="stable")][:100]
    names = {"row": "row", "true": "cls", "said": "pred"}
    first = [{**{k: int(p[c][i]) for k, c in names.items()}, "confidence": float(p["confidence"][i])} for i in order]
    sure = int((p["confidence"][wrong] >= SURE).sum())
    return {"first": first, "wrong": len(wrong), "asked": int(asked.sum()), "of": of, "sure": sure}
