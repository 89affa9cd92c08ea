"""The form of evaluation.json that all tasks share, and its parts that are the same for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from modicum.evaluate.intervals import LEVEL

WORDS = ("better", "worse", "not distinguishable", "not compared", "no test labels: nothing can be said")
NOTHING = "There are no test labels, so nothing can be said about how good this model is."


class About(NamedTuple):
    """A metric: its title, whether higher is better, and one sentence."""

    title: str
    higher: bool
    doc: str


def sheet(
    main: str, classes: Sequence[str], lead: str, metrics: Mapping[str, Any], counts: Sequence[int], **test: Any
) -> dict[str, Any]:
    """An evaluation of which nothing is known yet.  lead: the metric that the page begins with.  counts: test images of
    each class.  test: what else is known of the test."""
    about = {name: {"title": m.title, "higher": m.higher, "doc": m.doc} for name, m in metrics.items()}
    return {
        "format": 1, "main": main, "lead": lead, "classes": list(classes),
        "test": {"images": 0, "unlabelled": 0, "counts": list(counts), "labels_from": "", "resamples": 0,
                 "stratified": False, "level": LEVEL, "seed": 0, **test},
        "metrics": about, "arms": {}, "twin": None, "gain": None, "per_class": [], "confusion": [], "mistakes": None,
        "copies": None, "calibration": {"temperature": None, "curve": [], "after": None},
        "verdict": {"word": WORDS[-1], "sentence": NOTHING},
    }  # fmt: skip
