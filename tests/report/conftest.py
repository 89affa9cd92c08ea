"""A run directory as `fit` leaves it, made from scikit-learn's digits and linear models in a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modicum.core.dataset import Dataset
from modicum.evaluate.baselines import majority, nearest_centroid, reduced
from modicum.evaluate.calibration import temperature
from modicum.evaluate.evaluate import evaluate
from modicum.evaluate.keep import guesses, keep, unlabelled

Pixels = Callable[[int], np.ndarray]
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ARMS = ("fixmatch", "twin-weak", "twin-strong")


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    pictures = np.clip(x.reshape(-1, 8, 8) * 15.9, 0, 255).astype(np.uint8)
    return np.repeat(np.repeat(pictures, 4, 1), 4, 2)[..., None], y.astype(np.int64)


def _logits(features: np.ndarray, cls: np.ndarray, train: np.ndarray, strength: float) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=strength, max_iter=300).fit(features[train], cls[train])
    return np.asarray(fitted.decision_function(features))


def _softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))


def _log(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with (folder / "metrics.jsonl").open("w") as file:
        for arm, speed in zip(ARMS, (1.0, 1.4, 0.8)):
            for step in range(10, 601, 10):
                line: dict[str, Any] = {"arm": arm, "phase": "train", "step": step, "steps": 600, "lr": 0.03}
                line["supervised"] = float(2.3 * np.exp(-speed * step / 120) + 0.05 * rng.random())
                if arm == "fixmatch":
                    line["unlabelled"] = float(
                        0.6 * np.exp(-step / 300) * (1 - np.exp(-step / 40)) + 0.02 * rng.random()
                    )
                    line["believed"] = float(0.9 * (1 - np.exp(-step / 100)))
                file.write(json.dumps({**line, "seconds": step * (0.09 if arm == "fixmatch" else 0.03)}) + "\n")


def _config(names: tuple[str, ...], counts: list[int], images: int) -> dict[str, Any]:
    return {
        "modicum": "0.1.0",
        "method": "fixmatch",
        "seed": 0,
        "wraps": ["ema"],
        "settings": {"weight": 1.0, "mu": 4, "trust": "fixed:tau=0.95", "align": "labelled"},
        "recipe": {
            "steps": 600,
            "batch": 32,
            "schedule": "cosine",
            "warmup": 0.0,
            "clip": 0.0,
            "wraps": ["ema"],
            "optim": {"name": "sgd", "lr": 0.03, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005},
        },
        "choices": {
            "steps": 600,
            "side": 32,
            "channels": 1,
            "precision": "bf16",
            "threads": 1,
            "device": "cpu",
            "twins": 2,
        },
        "data": {
            "root": "/somewhere/private/digits",
            "version": "a1b2c3",
            "classes": list(names),
            "counts": counts,
            "images": images,
        },
        "why": [
            "4 labels a class and 28 images without a label for each with one: few labels, many images.",
            "Of the methods that use unlabelled images, this one has the best measured gain at this size.",
        ],
    }


def _maps(pictures: np.ndarray, rows: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    heat = pictures[rows, :, :, 0].reshape(len(rows), 8, 4, 8, 4).mean((2, 4)) - 90
    return {"rows": rows, "targets": targets, "maps": heat.astype(np.float32)}


def fake(folder: Path, names: tuple[str, ...] | None = None, per_class: int = 4) -> tuple[Path, Pixels]:
    """Writes a run directory; gives it and its pixels.  `names` are ten class names."""
    names = names or NAMES
    pictures, cls = _digits()
    n, test = len(cls), np.arange(len(cls)) >= 1297
    seen = np.concatenate([np.flatnonzero((cls == c) & ~test)[:per_class] for c in range(10)])
    more = np.concatenate([np.flatnonzero((cls == c) & ~test)[: 4 * per_class] for c in range(10)])
    features = reduced(pictures) / 255
    logits = {a: _logits(features, cls, t, s) for a, t, s in zip(ARMS, (more, seen, seen), (30.0, 1.0, 0.05))}
    probs = {a: _softmax(z) for a, z in logits.items()}
    visible = np.full(n, -1)
    visible[seen] = cls[seen]
    ids = [f"{'test' if t else 'train'}/{k:05d}.png" for k, t in enumerate(test)]
    data = Dataset.build(
        ids, names, root="/somewhere/private/digits", cls=visible, split=np.where(test, "test", "train")
    )
    data.save(folder / "data")
    references = {"majority": majority(cls[seen], 10, n)}
    references["nearest-centroid"] = nearest_centroid(features[seen], cls[seen], features, 10)
    held = np.setdiff1d(np.flatnonzero(~test), more)[:120]
    found = evaluate(
        {a: p[test] for a, p in probs.items()},
        cls[test],
        names,
        main="fixmatch",
        resamples=300,
        calibrated=temperature(logits["fixmatch"][held], cls[held]),
        scores={"twin-weak": 0.71, "twin-strong": 0.66},
        baselines={k: v[test] for k, v in references.items()},
        rows=np.flatnonzero(test),
        labels_from="the split that came with the set, opened once.",
    )
    main = probs["fixmatch"]
    kept = keep(cls[held], {a: z[held] for a, z in logits.items()}, "fixmatch", "held-out labels")
    kept["guesses"] = guesses(cls[held], main[held], 0.8, names)
    free = np.flatnonzero(~test)
    kept["unlabelled"] = unlabelled(
        {a: p[free].argmax(1) for a, p in probs.items()}, "fixmatch", np.bincount(cls[seen], minlength=10), names
    )
    table = {
        "row": np.arange(n),
        "id": ids,
        "split": np.where(test, "test", "train"),
        "cls": visible,
        "pred": main.argmax(1),
        "confidence": main.max(1),
        "probs": list(main),
        "logits": list(logits["fixmatch"]),
    }
    pq.write_table(pa.table(table), folder / "predictions.parquet")
    rows = np.flatnonzero(test)[:12]
    np.savez(folder / "maps.npz", **_maps(pictures, rows, main.argmax(1)[rows]))
    check = {"correlation": 0.9, "passed": False, "said": "Drawing the top layers anew changes nothing."}
    said = [f"{names[0]} (0.50): map {k}." for k in range(12)]
    about = {"method": "cam", "layer": "spatial", "sentences": said, "sanity": check}
    config = _config(names, np.bincount(cls[seen], minlength=10).tolist(), n)
    for name, content in (
        ("config", config),
        ("keep", kept),
        ("maps", about),
        ("evaluation", found),
        ("export", EXPORT),
        ("scan", SCAN),
        ("environment", MACHINE),
        ("seconds", SECONDS),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    tensor = {"dtype": "F32", "shape": [301, 64], "data_offsets": [0, 301 * 64 * 4]}
    header = json.dumps({"w": tensor, "__metadata__": {}}).encode()
    (folder / "net.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(301 * 64 * 4))
    _log(folder)
    return folder, lambda row: pictures[row]


EXPORT = {
    "images": 500, "largest_difference": 3.1e-6, "bytes": 371_245, "opset": 20, "parameters": 19_000, "threads": 1,
    "latency_ms": {"median": 0.42, "low": 0.41, "high": 0.45, "runs": 200},
}  # fmt: skip
MACHINE = {"processor": "x86_64", "cores": 2, "threads": 1, "system": "Linux", "packages": {}}
SCAN = {
    "faults": [{"where": "train/broken.png", "reason": "cut short after 312 bytes"}],
    "duplicates": {"groups": 3, "images": 6, "first": [["train/00001.png", "train/00002.png"]]},
    "crossing": {"groups": 0, "images": 0, "first": []},
    "traits": {"few": "4 labels a class", "tiny": "32 x 32 px"},
}
SECONDS = {"read": 0.8, "train fixmatch": 54.2, "train twin-weak": 18.1, "train twin-strong": 18.3, "measure": 1.1}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pixels]:
    """One complete run directory, shared; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("runs") / "digits-fixmatch"
    folder.mkdir()
    return fake(folder)
