"""After training: predictions, measures against the vault, maps, ONNX, the page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.data.vault import Vault
from modicum.engine.arms import Bench
from modicum.engine.loop import logits_of
from modicum.evaluate import baselines, calibration
from modicum.evaluate.evaluate import evaluate
from modicum.models import files
from modicum.report.page import build
from modicum.runs.run import Run

if TYPE_CHECKING:
    from modicum.engine.fit import Job

PARITY = 500  # real images the ONNX file is compared on
MAPS = 12


Unseen = tuple[np.ndarray, np.ndarray]


def finish(job: Job, bench: Bench, vault: Vault, nets: Mapping[str, Net], unseen: Unseen | None) -> None:
    """Everything after training; each stage writes its file, the page comes last.

    unseen: out-of-fold logits (L,C) and classes (L,), where folds were trained.
    """
    run, main = job.run, job.run.config["method"]
    begun = time.perf_counter()
    rows = np.flatnonzero(bench.pixels.good)
    feed = bench.feed({})
    logits = logits_of(nets[main], feed, rows, bench.fabric)
    held = calibration.temperature(*unseen) if unseen else _held_out(bench, vault, rows, logits)
    net_meta = files.save(
        nets[main],
        run.folder,
        classes=bench.data.names,
        temperature=held.value if held.fitted else None,
        shorter=bench.pixels.side,
    )
    _predictions(run, bench, rows, logits)
    _measure(job, bench, vault, nets, rows, logits, held)
    job.stage("measure", begun)
    begun = time.perf_counter()
    try:
        _maps(run, bench, nets[main], rows, logits)
    except ModelError as error:
        job.listen.say(f"No maps: {error.found}")
    job.stage("explain", begun)
    begun = time.perf_counter()
    if job.asked.export:
        _export(job, bench, nets[main], net_meta, rows)
    job.stage("export", begun)
    begun = time.perf_counter()
    build(run.folder, bench.pixels.image)
    job.stage("report", begun)


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N,C) -> probabilities, float64."""
    z = logits.astype(np.float64)
    z = np.exp(z - z.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


def _held_out(bench: Bench, vault: Vault, rows: np.ndarray, logits: np.ndarray) -> calibration.Temperature:
    """A temperature from images held out of training, or the refusal with what it would take."""
    mine = bench.data.field("split")[rows] == "val"
    truth = vault.open("temperature from held-out labels")[rows] if mine.any() else np.full(len(rows), -1)
    return calibration.temperature(logits[mine], truth[mine])


def _predictions(run: Run, bench: Bench, rows: np.ndarray, logits: np.ndarray) -> None:
    probs = softmax(logits)
    table = pa.table(
        {
            "row": pa.array(rows, pa.int32()), "id": pa.array(bench.data.ids[rows], pa.string()),
            "split": pa.array(bench.data.field("split")[rows], pa.string()),
            "cls": pa.array(bench.data.cls[rows], pa.int32()),
            "pred": pa.array(probs.argmax(1), pa.int32()), "confidence": pa.array(probs.max(1), pa.float32()),
            "probs": pa.array(list(probs.astype(np.float32))), "logits": pa.array(list(logits.astype(np.float32))),
        }
    )  # fmt: skip
    making = run / ".predictions.parquet"
    pq.write_table(table, making, compression="zstd")
    making.replace(run / "predictions.parquet")


def _measure(
    job: Job,
    bench: Bench,
    vault: Vault,
    nets: Mapping[str, Net],
    rows: np.ndarray,
    logits: np.ndarray,
    held: calibration.Temperature,
) -> None:
    """evaluation.json, from labels that training never saw."""
    run, main, data = job.run, job.run.config["method"], bench.data
    test = rows[data.field("split")[rows] == "test"]
    truth = vault.open("evaluation on the test split")[test] if len(test) else np.empty(0, np.int64)
    test, truth = test[truth >= 0], truth[truth >= 0]
    place = np.searchsorted(rows, test)
    feed = bench.feed({})
    arms = {
        name: softmax(logits_of(net, feed, test, bench.fabric))
        for name, net in nets.items()
        if name != main and len(test)
    }
    arms = {main: softmax(logits[place]), **arms}
    seen = np.flatnonzero(bench.pool & (data.cls >= 0) & bench.pixels.good)
    simple = _baselines(bench, seen, test) if len(test) and len(seen) else {}
    found = evaluate(
        arms if len(test) else {main: np.empty((0, len(data.names)))}, truth, data.names, main=main, calibrated=held,
        baselines=simple, rows=test, labels_from="the test split; training never saw these labels",
    )  # fmt: skip
    run.write("evaluation.json", {**found, "vault": vault.openings})


def _baselines(bench: Bench, seen: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    classes, cls = len(bench.data.names), bench.data.cls[seen]

    def features(some: np.ndarray) -> np.ndarray:
        parts = [p["plain"].permute(0, 2, 3, 1).cpu().numpy() for p in bench.feed({}).sweep(some, 512)]
        return baselines.reduced((255 * np.concatenate(parts)).astype(np.uint8))

    return {
        "majority": baselines.majority(cls, classes, len(test)),
        "nearest-centroid": baselines.nearest_centroid(features(seen), cls, features(test), classes),
    }


def _maps(run: Run, bench: Bench, net: Net, rows: np.ndarray, logits: np.ndarray) -> None:
    """maps.npz: where the network looks on a few images, half of them its least certain ones."""
    from modicum.nn.capture import explain

    test = bench.data.field("split")[rows] == "test"
    some = np.flatnonzero(test) if test.any() else np.arange(len(rows))
    sure = softmax(logits[some]).max(1)
    order = some[np.argsort(sure, kind="stable")]
    picked = np.unique(
        np.r_[order[: MAPS // 2], order[:: max(1, len(order) // (MAPS - MAPS // 2))][-(MAPS - MAPS // 2) :]]
    )
    part = next(bench.feed({}).sweep(rows[picked], len(picked)))
    found = explain(net, part["plain"])
    name = next(iter(found.maps))
    np.savez(
        run / "maps.npz",
        rows=rows[picked],
        targets=found.targets[:, 0].cpu().numpy(),
        maps=found.maps[name][:, 0].float().cpu().numpy(),
    )


def _export(job: Job, bench: Bench, net: Net, meta: Mapping[str, Any], rows: np.ndarray) -> None:
    """model.onnx, if it agrees with the network on real images; else the reason stands in export.json."""
    from modicum.data.images import square
    from modicum.deploy.export import export

    some = rows[:: max(1, len(rows) // PARITY)][:PARITY]
    images = np.stack([square(bench.pixels.image(int(r)), bench.side, bench.channels) for r in some])
    try:
        job.run.write("export.json", export(net.cpu(), meta, images, job.run / "model.onnx"))
    except ModelError as error:
        job.run.write("export.json", {"refused": error.found, "fix": error.fix})
        job.listen.say(f"No ONNX file: {error.found}")
    finally:
        net.to(bench.fabric.device)
