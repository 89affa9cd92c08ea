"""The verbs after `fit`, each a function of a run: label, score, select, evaluate, export, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from modicum.core import registry
from modicum.core.dataset import Dataset, Table
from modicum.core.errors import NeedsError
from modicum.core.kinds import Fact
from modicum.core.space import writing
from modicum.data.read import read
from modicum.engine.table import Finished


def filled(done: Finished, method: str, expression: str) -> Table:
    """The table of a run with what a method's card needs; NeedsError where that is another network."""
    needs = [(n,) if isinstance(n, Fact) else n for n in registry.card(method).needed]
    tells = done.meta["tells"]
    for need in needs:
        if all(f.net and f.kind != tells for f in need):
            found = f"{method} needs a network that tells {need[0].kind}; that of this run tells {tells}"
            raise NeedsError(found, where=done.run.folder, fix=f"Train one: `modicum fit DATA --want {need[0].kind}`.")
    table = done.table(expression)
    wants = {f for need in needs for f in need}
    if tells == "boxes" and any(f.net and f.kind == "boxes" for f in wants):
        table = done.with_found(table)
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
    done = Finished.open(run)
    tells = done.meta["tells"]
    table = filled(done, method, f"~{tells} & ~split:test & ~split:val")
    if not len(table):
        fix = "Bring more images."
        raise NeedsError(f"{tells} of every image that is not for testing are known", where=run, fix=fix)
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
    from modicum.engine.measure import measured

    done = Finished.open(run)
    return done.run.read("evaluation.json") if data is None else measured(done, data)


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
