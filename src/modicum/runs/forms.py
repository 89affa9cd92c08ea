"""The JSON files of a run: what must stand in each, checked when it is written and again when it is read."""

from __future__ import annotations

from typing import Any

from modicum.core.form import NAME, SIZES

FORMAT = 1
"""Of config.json: a larger one is of a newer Modicum, whose run this one does not touch."""

_VALUE, _INTERVAL = [float, float, float], [(float, None)] * 3
_SIDE = range(SIZES["side"][-1] + 1)

FORMS: dict[str, Any] = {
    "config.json": {
        "format": int, "modicum": str, "request": {"data": str, ...: object}, "want": str, "method": str,
        "before": [str],
        "settings": {str: object}, "recipe": {"steps": int, ...: object}, "wraps": [str], "seed": int, "why": [str],
        "choices": {
            "net": str, "side": SIZES["side"], "channels": SIZES["channels"], "cache": _SIDE, "pixels": NAME,
            "device": str, "precision": str, "threads": range(1, 2**16), "augment": str, "layout": str,
            "judge": str, "unjudged": str, "folds": range(21), "share": float, ...: object,
        },
        "data": {"root": str, "version": str, "classes": [str], "images": range(2**40), "counts": [int]},
        "arms": [{"name": NAME, "method": str, "view": str, "steps": range(10**12 + 1)}],
    },
    "evaluation.json": {
        "format": int, "main": str, "lead": str, "classes": [str],
        "test": {"images": int, ...: object},
        "metrics": {str: {"title": str, "higher": bool, "doc": str}},
        "arms": {str: {"role": str, ...: _INTERVAL}},
        "gain": (None, {"over": str, "accuracy": _VALUE, "all": {str: _VALUE}, "harshest": str, ...: object}),
        "verdict": {"word": str, "sentence": str}, ...: object,
    },
    "keep.json": {
        "kept": str, "method": str, "word": str, "sentence": str, "labels": int, "from": str, "arms": {str: _INTERVAL},
        "over": (None, str), "gain": (None, _VALUE), "needed": (None, int), "guesses": (None, {str: object}),
        "unlabelled": (None, {str: object}),
    },
    "maps.json": {
        "method": str, "layer": str, "sentences": [str],
        "sanity": (None, {"correlation": float, "passed": bool, "said": str}),
    },
    "seconds.json": {str: float},
}  # fmt: skip
FORMATS = {"config.json": FORMAT, "evaluation.json": 1}
