"""The verbs after `fit`, each a function of a run: explain, label, score, select, evaluate, export, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modicum.core import registry
from modicum.core.dataset import Dataset, Table
from modicum.core.errors import DataError, NeedsError, did_you_mean
from modicum.core.kinds import Fact
from modicum.core.space import writing
from modicum.data.images import decode
from modicum.data.names import safe
from modicum.data.read import read
from modicum.engine.table import Finished

if TYPE_CHECKING:
    from modicum.nn.capture import Maps

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")


class Explained(NamedTuple):
    """files: one picture an image.  classes: explained, by name.  warnings: sentences.  faults: (file, reason)."""

    files: list[Path]
    classes: list[str]
    warnings: list[str]
    faults: list[tuple[str, str]]


def images_in(places: list[str | Path]) -> list[Path]:
    """Image files among files and folders, in order; DataError for a place that is not there or holds none."""
    out: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise DataError("there is no such file or folder", where=place, fix="Give image files, or folders of them.")
        out += sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES) if place.is_dir() else [place]
    if not out:
        raise DataError(
            "no image found",
            where=", ".join(map(str, places)),
            fix=f"Files with these endings are read: {' '.join(SUFFIXES)}.",
        )
    return out


def explain(
    model: Any, images: Any, targets: Any = None, methods: Any = None, layers: Any = None, **given: Any
) -> Maps:
    """Where a network looks, as tensors: `maps[method, layer]` (B,T,h,w), `scores`, `warnings`.

    model: any torch module, with images (B,c,H,W) as it wants them; or the folder of a run, with image files or folders
    of them (or such a tensor, in [0,1]).  targets, methods, layers and what else may be given: see
    `modicum.nn.capture.explain`.  An image that cannot be read is an error here.
    """
    from modicum.nn.capture import explain as capture

    if isinstance(model, str | Path):
        done = Finished.open(model)
        model = done.net
        if isinstance(images, str | Path | list | tuple):
            places = [images] if isinstance(images, str | Path) else list(images)
            images = done.batch([decode(path) for path in images_in(places)])
    return capture(model, images, targets, methods, layers, **given)


def draw(
    run: str | Path, images: list[str | Path], out: str | Path, method: str = "", target: str = "", layer: str = ""
) -> Explained:
    """Draw where a run's network looks: one PNG an image, the picture beside its map.

    method: an explain method; '' = the usual one.  target: a class by name; '' = the most probable.  layer: by its
    dotted name; '' = the usual one.
    """
    from modicum.nn.capture import explain as capture
    from modicum.report.pictures import beside

    done = Finished.open(run)
    classes = list(done.meta["classes"])
    if target and target not in classes:
        raise DataError(f"no class {target!r}", where="explain", fix=did_you_mean(target, classes))
    found, arrays, faults = [], [], []
    for path in images_in(images):
        try:
            arrays.append(decode(path))
            found.append(path)
        except DataError as error:
            faults.append((str(path), error.found))
    if not arrays:
        what = f"none of {len(faults)} images can be read; the first: {faults[0][0]}: {faults[0][1]}"
        raise DataError(what, where="explain", fix="Give other image files, or folders of them.")
    wanted = classes.index(target) if target else None
    maps = capture(done.net, done.batch(arrays), wanted, method or None, layer or None)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    drawn = next(iter(maps.maps.values()))[:, 0].numpy()
    for path, array, heat in zip(found, arrays, drawn, strict=True):
        name = folder / f"{len(written):04d}-{safe(path.stem)[:60]}.png"  # 255 bytes are allowed
        name.write_bytes(beside(array, heat))
        written.append(name)
    return Explained(written, [classes[int(t)] for t in maps.targets[:, 0]], maps.warnings, faults)


def filled(done: Finished, method: str, expression: str) -> Table:
    """The table of a run with what a method's card needs."""
    table = done.table(expression)
    wants = {f for need in registry.card(method).needed for f in ((need,) if isinstance(need, Fact) else need)}
    if any(f.kind == "maps" for f in wants):
        table = done.with_maps(table)
    return done.with_features(table) if any(f.kind == "features" or f.part == "features" for f in wants) else table


def label(source: str | Path, method: str, settings: dict[str, Any] | None = None) -> Dataset:
    """Labels made by a label method, as a delta: from a run (its network's guesses) or data (annotators' votes)."""
    made = registry.make(method, settings)
    _role(method, "label")
    if (Path(source) / "net.json").is_file():
        return made.label(filled(Finished.open(source), method, "all"))
    if any(isinstance(need, Fact) and need.net for need in registry.card(method).needed):
        fix = "Give the folder of a run that `modicum fit` finished."
        raise NeedsError(f"{method} needs a trained network, and this is no run", where=source, fix=fix)
    data = read(source).data
    return made.label(Table(data, np.arange(len(data))))


def score(
    run: str | Path, method: str, settings: dict[str, Any] | None = None, rows: str = "all"
) -> tuple[Table, np.ndarray]:
    """A score method's values for rows of a run: (table, float64 (R,)); the card says what larger means.

    NaN where a row lacks what the method asks about; NeedsError where every row does, or there is none.
    """
    made = registry.make(method, settings)
    _role(method, "score")
    table = filled(Finished.open(run), method, rows)
    values = made.score(table)
    if not np.isfinite(values).any():
        needs = ", ".join(str(n) for n in registry.card(method).needs)
        fix = f"{method} needs {needs}: choose other --rows." if len(values) else "Choose other --rows, such as all."
        raise NeedsError(f"none of {len(values)} images for the rows {rows!r} has a score", where=run, fix=fix)
    return table, values


def select(
    run: str | Path, budget: int, method: str = "", settings: dict[str, Any] | None = None, seed: int = 0
) -> tuple[Table, np.ndarray]:
    """Which images of a run a person should label next: (table, positions (budget,), best first)."""
    known = registry.cards("select")
    method = method or min(known, key=lambda n: ("few" not in known[n].suits, known[n].cost, n))
    made = registry.make(method, settings)
    _role(method, "select")
    table = filled(Finished.open(run), method, "~class & ~split:test & ~split:val")
    return table, made.select(table, budget, np.random.default_rng(seed))


def _role(method: str, role: str) -> None:
    card = registry.card(method)
    if card.role != role:
        raise NeedsError(
            f"{method} is not a method to {role} with: its role is {card.role}",
            where=role,
            fix=f"See `modicum methods --role {role}`.",
        )


def evaluate(run: str | Path, data: str | Path | None = None) -> dict[str, Any]:
    """The measures of a run: those taken on its test split, or taken now on other labelled data."""
    from modicum.evaluate.evaluate import evaluate as measure

    done = Finished.open(run)
    if data is None:
        return done.run.read("evaluation.json")
    found = read(data).data
    classes = list(done.meta["classes"])
    unknown = sorted(set(found.names) - set(classes))
    if unknown:
        fix = f"{did_you_mean(unknown[0], classes)}  Rename its folder or rows, or leave them out."
        raise DataError(f"the network knows no class {unknown[0]!r}", where=data, fix=fix)
    place = np.array([classes.index(n) for n in found.names] + [-1])
    cls = place[found.cls]
    rows = np.flatnonzero(cls >= 0)
    probs, good = _probabilities(done, found, rows)
    if not len(good):
        fix = "Give images in folders named like the classes, or a table with the columns image and class."
        what = f"none of {len(rows)} labelled images can be read" if len(rows) else "no image has a class"
        raise DataError(what, where=data, fix=fix)
    return measure(
        {done.run.kept: probs},
        cls[rows[good]],
        classes,
        main=done.run.kept,
        labels_from=str(data),
    )


def _probabilities(done: Finished, data: Dataset, rows: np.ndarray, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (G,C) of the rows that can be read, and which those are."""
    import torch

    from modicum.data.read import pixels

    out, good = [], []
    for start in range(0, len(rows), size):
        images = []
        for i in range(start, min(start + size, len(rows))):
            try:
                images.append(pixels(data, int(rows[i])))
                good.append(i)
            except DataError:
                continue
        if images:
            with torch.no_grad():
                out.append(done.net(done.batch(images)).logits.double().softmax(1).numpy())
    return np.concatenate([np.empty((0, len(done.meta["classes"]))), *out]), np.array(good, np.int64)


def export(run: str | Path, path: str | Path | None = None) -> dict[str, Any]:
    """Write a run's ONNX file, compared with its network on up to 500 of its images."""
    from modicum.data.images import square
    from modicum.deploy.export import export as write

    done = Finished.open(run)
    pixels = done.pixels()
    rows = np.flatnonzero(pixels.good)
    rows = rows[:: max(1, len(rows) // 500)][:500]
    images = np.stack([square(pixels.image(int(r)), int(done.meta["side"]), int(done.meta["channels"])) for r in rows])
    found = write(done.net, done.meta, images, Path(path or done.run / "model.onnx"))
    if path is None:
        done.run.write("export.json", found)
    return found


def report(run: str | Path) -> Path:
    """Write a run's report.html again."""
    from modicum.report.page import build

    done = Finished.open(run)
    pixels = done.pixels()
    with writing(done.run.folder, "the page"):
        return build(done.run.folder, lambda row: pixels.image(row))


def ids_of(source: str | Path) -> np.ndarray:
    """Image ids of a run or of data, object (N,)."""
    if (Path(source) / "net.json").is_file():
        return Finished.open(source).data.ids
    return read(source).data.ids
