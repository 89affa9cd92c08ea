"""The sections about how good the model is: all numbers come from evaluation.json, none is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modicum.report import charts
from modicum.report.read import Run, part
from modicum.report.sections import MOST_CLASSES, label, missing
from modicum.report.text import between, decimal, known, percent, plain, signed

UNBOUND = ("nll", "brier")  # metrics that are no shares
MOST_CELLS = 20
COLUMNS = {"f1": "F1", "iou": "IoU", "ap50": "AP at 0.5"}
DOCS = {
    "precision": "Precision: how often the name is right when it is given.",
    "recall": "Recall: how many of the class are found.",
    "average_precision": "Average precision: the mean precision over all thresholds, weighed by the recall gained.",
    "ap50": "AP at 0.5: average precision, a box being right where it overlaps by half.",
    "iou": "IoU: pixels that people and the model agree on, of all that either gives to the class.",
}


def styles(order: Sequence[str], roles: Mapping[str, str]) -> list[int]:
    """Colours of arms: the method, its twins, references; the same as in the training charts."""
    twins = [a for a in order if roles[a] == "twin"]
    return [
        0 if roles[a] == "main" else 1 + twins.index(a) % 2 if a in twins else 4 if roles[a] == "baseline" else 3
        for a in order
    ]


def quality(run: Run) -> dict[str, Any]:
    """All metrics of all arms, the comparison with both twins, and where the labels came from."""
    if not run.evaluation:
        return missing(run, "This run has not been measured (evaluation.json is not there).", "evaluate")
    arms, about = part(run.evaluation, "arms"), part(run.evaluation, "metrics")
    if not arms:
        return missing(run, "There are no test labels. Label some test images, then measure.", "evaluate")
    order = sorted(arms, key=lambda a: ("main", "twin", "other", "baseline").index(arms[a].get("role", "other")))
    table = [
        {"name": label(a), "main": a == run.main, "cells": [_cell(m, arms[a].get(m) or [None] * 3) for m in about]}
        for a in order
    ]
    test = part(run.evaluation, "test")
    gain, twin = part(run.evaluation, "gain"), part(run.evaluation, "twin")
    colours = styles(order, {a: arms[a].get("role", "other") for a in order})
    return {
        "lead": (title := part(about, run.lead).get("title", "Accuracy")),
        "chart": charts.whiskers([(label(a), arms[a][run.lead], s) for a, s in zip(order, colours)], title),
        "metrics": [
            {"title": m["title"], "arrow": "↑" if m["higher"] else "↓", "doc": m["doc"]} for m in about.values()
        ],
        "table": table,
        "verdict": part(run.evaluation, "verdict"),
        "twin": twin,
        "lone": run.main.startswith("twin-"),
        "gain": gain,
        "test": {**test, "labels_from": str(test.get("labels_from") or "").rstrip(".")},
        "copies": str(part(run.evaluation, "copies").get("sentence") or ""),
        "openings": [str(o.get("reason", "")) for o in run.evaluation.get("vault") or ()],
        "against": [
            {
                "name": label(t),
                "value": signed(i[0]),
                "range": between(i, signed),
                "notes": _notes(t, twin, gain),
            }
            for t, i in part(gain, "all").items()
        ],
    }


def kept(run: Run) -> dict[str, Any]:
    """Why this arm is shipped, how right the method's own labels are, and what unlabelled images say of them."""
    if not run.keep:
        return missing(run, "Which arm to keep was not asked (keep.json is not there).", "fit")
    guesses, free = part(run.keep, "guesses"), part(run.keep, "unlabelled")
    method = str(run.keep["method"])
    order = sorted(part(run.keep, "arms"), key=lambda a: a != run.keep["kept"])
    return {
        "sentence": run.keep["sentence"],
        "arms": [(label(a), percent(i[0]), between(i)) for a, i in ((a, run.keep["arms"][a]) for a in order)],
        "looked": plain(run.keep["labels"]),
        "method": method,
        "guesses": guesses and {
            "share": percent(guesses["share"], 0), "bound": guesses["bound"], "looked": plain(guesses["looked"]),
            "rows": [
                (r["class"], f"{r['right']} of {r['believed']}", percent(r["precision"][0], 0),
                 between(r["precision"], lambda v: percent(v, 0)))
                for r in ({"class": "all", **guesses}, *guesses["classes"][:MOST_CLASSES])
            ],
        },
        "agree": [(label(a), percent(v)) for a, v in part(free, "agree").items()],
        "images": plain(free["images"]) if free else "",
        "notes": [str(n) for n in free.get("notes") or ()],
    }  # fmt: skip


def _notes(arm: str, twin: Mapping[str, Any], gain: Mapping[str, Any]) -> str:
    said = [str(twin["why"])] if arm == twin.get("name") else []
    if arm == gain.get("harshest") and len(gain["all"]) > 1 and "harshest" not in "".join(said):
        said.append("it is best on the test images: the harshest comparison")
    return "; ".join(said)


def _cell(metric: str, interval: Sequence[Any]) -> tuple[str, str]:
    of = decimal if metric in UNBOUND else percent
    return of(interval[0]), between(interval, of)


def classes(run: Run) -> dict[str, Any]:
    """What was measured of each class; the weakest first where there are too many to show."""
    rows = run.evaluation.get("per_class") or []
    if not rows:
        return missing(run, "Nothing was measured for each class.", "evaluate")
    columns = [k for k in rows[0] if k not in ("class", "support")]
    lead = "recall" if "recall" in columns else columns[0]
    if len(rows) > MOST_CLASSES:
        rows = sorted(rows, key=lambda r: r[lead][0] if known(r[lead][0]) else 2)
    shown = [
        {
            "name": r["class"],
            "support": plain(r["support"]),
            "share": r[lead][0] or 0,
            "cells": [(percent(r[p][0], 0), between(r[p], lambda v: percent(v, 0))) for p in columns],
        }
        for r in rows[:MOST_CLASSES]
    ]
    titles = [COLUMNS.get(c, c.replace("_", " ").capitalize()) for c in columns]
    docs = " ".join(DOCS[c] for c in columns if c in DOCS)
    return {"rows": shown, "more": len(rows) - len(shown), "columns": titles, "lead": columns.index(lead), "docs": docs,
            "support": "Test objects" if lead == "ap50" else "Test images"}  # fmt: skip


def confusion(run: Run) -> dict[str, Any]:
    """The matrix where it fits, and the commonest mix-ups."""
    found = np.asarray(run.evaluation.get("confusion") or np.zeros((0, 0)), np.int64)
    names = run.classes
    if not len(found):
        return missing(run, "Nothing was measured, so nothing is known of mix-ups.", "evaluate")
    wrong = found * (1 - np.eye(len(found), dtype=np.int64))
    first = np.argsort(-wrong, axis=None, kind="stable")[:8]
    pairs = [(names[i // len(found)], names[i % len(found)], plain(int(wrong.flat[i]))) for i in first if wrong.flat[i]]
    total = np.maximum(found.sum(1, keepdims=True), 1)
    cells = [
        [(int(v), float(v / t), i == k) for k, v in enumerate(row)]
        for i, (row, t) in enumerate(zip(found, total[:, 0]))
    ]
    small = len(found) <= MOST_CELLS
    return {
        "names": names,
        "cells": cells if small else [],
        "pairs": pairs,
        "wrong": plain(int(wrong.sum())),
        "count": len(found),
    }


def calibration(run: Run) -> dict[str, Any]:
    """The reliability diagram and what the temperature did, or why there is none."""
    found = part(run.evaluation, "calibration")
    if not found.get("curve"):
        return missing(run, "Without test labels nobody can say whether its confidence is honest.", "evaluate")
    temperature, after = part(found, "temperature"), part(found, "after")
    before = part(part(run.evaluation, "arms"), run.main).get("ece", [None] * 3)
    return {
        "chart": charts.reliability(found["curve"], after.get("curve") or None),
        "after": bool(after),
        "least": charts.LEAST,
        "harmed": bool(after) and known(before[0]) and after["ece"][0] > before[0],
        "note": temperature.get("note") or ("" if temperature else "no temperature was fitted"),
        "temperature": decimal(temperature.get("value")),
        "labels": plain(temperature.get("labels_used", 0)),
        "before": percent(before[0]),
        "before_range": between(before),
        "then": percent(after["ece"][0]) if after else "",
        "then_range": between(after["ece"]) if after else "",
    }
