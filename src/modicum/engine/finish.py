"""After training: predictions, measures against the vault, maps, ONNX, the page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

from modicum.core import form
from modicum.core.dataset import Dataset
from modicum.core.disk import whole
from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.core.space import writing
from modicum.data.vault import Vault
from modicum.engine.arms import Bench
from modicum.engine.folds import Unseen
from modicum.engine.keep import decide
from modicum.engine.loop import logits_of
from modicum.evaluate import baselines, calibration
from modicum.evaluate.calibration import softmax
from modicum.evaluate.evaluate import evaluate
from modicum.models import files
from modicum.report.page import build
from modicum.runs.run import Run

if TYPE_CHECKING:
    from modicum.engine.fit import Job

PARITY = 500  # real images the ONNX file is compared on
MAPS = 12
GROUP = 8192  # rows of a row group of predictions.parquet
SIMPLE = 5000  # labelled images at most that the nearest mean is taken of
PREDICTIONS = pa.schema(
    [
        ("row", pa.int32()), ("id", pa.string()), ("split", pa.string()), ("cls", pa.int32()), ("pred", pa.int32()),
        ("confidence", pa.float32()), ("probs", pa.list_(pa.float32())), ("logits", pa.list_(pa.float32())),
    ]
)  # fmt: skip


class Said(NamedTuple):
    """What the net says of all images that can be read.  rows: int64 (R,).  sure: confidence, float32 (R,).

    held: rows outside training, int64 (H,), and their logits, float32 (H,C): the others' are on disk alone.
    """

    rows: np.ndarray
    sure: np.ndarray
    held: np.ndarray
    logits: np.ndarray

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Logits (N,C) of rows among `held`."""
        return self.logits[np.searchsorted(self.held, rows)]


def finish(job: Job, bench: Bench, vault: Vault, nets: Mapping[str, Net], unseen: Unseen | None) -> None:
    """Everything after training; each stage writes its file, the page comes last.

    The arm that is kept is the one that predicts, is explained and exported.
    """
    run, begun = job.run, time.perf_counter()
    found = decide(run, bench, vault, nets, unseen)
    run.write("keep.json", found)
    job.listen.say(found["sentence"])
    main = found["kept"]
    said = _predictions(run, bench, nets[main], main)
    whole = unseen is not None and unseen.whole and main in unseen.logits
    held = calibration.temperature(
        *((unseen.logits[main], unseen.cls) if unseen and whole else _held_out(bench, vault, said))
    )
    with writing(run.folder, "the network", also=(SafetensorError,)):
        net_meta = files.save(
            nets[main], run.folder, classes=bench.data.names, temperature=held.value if held.fitted else None,
            shorter=bench.pixels.side,
        )  # fmt: skip
    _measure(job, bench, vault, nets, main, said, held)
    job.stage("measure", begun)
    begun = time.perf_counter()
    try:
        _maps(run, bench, nets[main], said)
    except ModelError as error:
        job.listen.say(f"No maps: {error.found}")
    job.stage("explain", begun)
    begun = time.perf_counter()
    if job.asked.export:
        _export(job, bench, nets[main], net_meta, said.rows)
    job.stage("export", begun)
    begun = time.perf_counter()
    with writing(run.folder, "the page"):
        build(run.folder, bench.pixels.image)
    job.stage("report", begun)


def _predictions(run: Run, bench: Bench, net: Net, arm: str) -> Said:
    """predictions.parquet, row group by row group; memory is that of one.  It notes which weights said this."""
    about = PREDICTIONS.with_metadata({"net": form.read(run / "arms" / arm / "net.json")["sha256"]})
    rows = np.flatnonzero(bench.pixels.good)
    held = rows[~bench.pool[rows]]
    sure, logits = np.empty(len(rows), np.float32), np.empty((len(held), len(bench.data.names)), np.float32)
    feed = bench.feed({})
    with writing(run / "predictions.parquet"), whole(run / "predictions.parquet") as making:  # noqa: SIM117
        with pq.ParquetWriter(making, about, compression="zstd") as out:
            for start in range(0, len(rows), GROUP):
                some = rows[start : start + GROUP]
                found = logits_of(net, feed, some, bench.fabric)
                probs = softmax(found)
                out.write_table(_group(bench.data, some, probs, found))
                sure[start : start + GROUP] = probs.max(1)
                mine = ~bench.pool[some]
                logits[np.searchsorted(held, some[mine])] = found[mine]
    return Said(rows, sure, held, logits)


def _group(data: Dataset, rows: np.ndarray, probs: np.ndarray, logits: np.ndarray) -> pa.Table:
    """A row group: everything about some rows."""
    of = data.images.take(rows)
    ends = pa.array(np.arange(0, logits.size + 1, logits.shape[1]), pa.int32())
    lists = [pa.ListArray.from_arrays(ends, pa.array(v.astype(np.float32).ravel())) for v in (probs, logits)]
    numbers = data.cls[rows], probs.argmax(1), probs.max(1)
    columns = [pa.array(rows), of["id"], of["split"], *map(pa.array, numbers), *lists]
    return pa.table([c.cast(f.type) for c, f in zip(columns, PREDICTIONS, strict=True)], schema=PREDICTIONS)


def _held_out(bench: Bench, vault: Vault, said: Said) -> tuple[np.ndarray, np.ndarray]:
    """Logits and classes of labelled images held out of training, for the temperature; none where there are none."""
    rows = said.held[bench.data.of_split("val")[said.held]]
    truth = vault.open("temperature from held-out labels")[rows] if len(rows) else np.empty(0, np.int64)
    return said.of(rows), truth


def _measure(
    job: Job,
    bench: Bench,
    vault: Vault,
    nets: Mapping[str, Net],
    main: str,
    said: Said,
    held: calibration.Temperature,
) -> None:
    """evaluation.json, from labels that training never saw."""
    run, data, method = job.run, bench.data, job.run.config["method"]
    test = said.held[data.of_split("test")[said.held]]
    truth = vault.open("evaluation on the test split")[test] if len(test) else np.empty(0, np.int64)
    test, truth = test[truth >= 0], truth[truth >= 0]
    feed = bench.feed({})
    arms = {
        name: softmax(logits_of(net, feed, test, bench.fabric))
        for name, net in nets.items()
        if name != main and len(test)
    }
    arms = {main: softmax(said.of(test)), **arms}
    seen, group = np.flatnonzero(bench.pool & (data.cls >= 0) & bench.pixels.good), data.columns["together"]
    simple = _baselines(bench, seen, test) if len(test) and len(seen) else {}
    found = evaluate(
        arms if len(test) else {main: np.empty((0, len(data.names)))}, truth, data.names, main=main, calibrated=held,
        baselines=simple, rows=test, labels_from="the test split; training never saw these labels",
        twins=None if main == method else [method],
        copied=np.isin(group[test], group[bench.pool & (group >= 0)]),
    )  # fmt: skip
    run.write("evaluation.json", {**found, "vault": vault.openings})


def _baselines(bench: Bench, seen: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    classes, cls = len(bench.data.names), bench.data.cls
    few = seen[:: max(1, -(-len(seen) // SIMPLE))]

    def features(some: np.ndarray) -> np.ndarray:
        parts = (p["plain"].permute(0, 2, 3, 1).cpu().numpy() for p in bench.feed({}).sweep(some, 64))
        return np.concatenate([baselines.reduced((255 * part).astype(np.uint8)) for part in parts])

    return {
        "majority": baselines.majority(cls[seen], classes, len(test)),
        "nearest-centroid": baselines.nearest_centroid(features(few), cls[few], features(test), classes),
    }


def _maps(run: Run, bench: Bench, net: Net, said: Said) -> None:
    """maps.npz: where the network looks on a few images, half of them its least certain ones."""
    from modicum.nn.capture import explain

    rows = said.rows
    test = bench.data.of_split("test")[rows]
    some = np.flatnonzero(test) if test.any() else np.arange(len(rows))
    order = some[np.argsort(said.sure[some], kind="stable")]
    picked = np.unique(
        np.r_[order[: MAPS // 2], order[:: max(1, len(order) // (MAPS - MAPS // 2))][-(MAPS - MAPS // 2) :]]
    )
    part = next(bench.feed({}).sweep(rows[picked], len(picked)))
    found = explain(net, part["plain"])
    name = next(iter(found.maps))
    targets, maps = found.targets[:, 0].cpu().numpy(), found.maps[name][:, 0].float().cpu().numpy()
    with writing(run / "maps.npz"), whole(run / "maps.npz") as making, making.open("wb") as file:
        np.savez(file, rows=rows[picked], targets=targets, maps=maps)


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
