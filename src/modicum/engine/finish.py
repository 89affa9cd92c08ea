"""After training: predictions, measures against the vault, maps, ONNX, the page."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

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
from modicum.data.masks import Painter, squeezed
from modicum.data.vault import Vault
from modicum.engine.arms import Bench
from modicum.engine.explain import kept
from modicum.engine.folds import Unseen
from modicum.engine.keep import decide
from modicum.engine.loop import logits_of
from modicum.engine.tasks import TASKS, Said, drawn_boxes, located, predicted, together
from modicum.models import files
from modicum.report.page import build
from modicum.runs.run import Run

if TYPE_CHECKING:
    from modicum.engine.fit import Job

PARITY = 500  # real images the ONNX file is compared on
MAPS = 12
DRAWN = 192  # largest side of the class maps that the page shows
GROUP = 8192  # rows of a row group of predictions.parquet
BOXES = pa.schema(
    [
        ("row", pa.int32()), ("id", pa.string()), ("class", pa.int32()), ("score", pa.float32()), ("x0", pa.float32()),
        ("y0", pa.float32()), ("x1", pa.float32()), ("y1", pa.float32()),
    ]
)  # fmt: skip
PREDICTIONS = pa.schema(
    [
        ("row", pa.int32()), ("id", pa.string()), ("split", pa.string()), ("cls", pa.int32()), ("pred", pa.int32()),
        ("confidence", pa.float32()), ("probs", pa.list_(pa.float32())), ("logits", pa.list_(pa.float32())),
    ]
)  # fmt: skip


def finish(job: Job, bench: Bench, vault: Vault, nets: Mapping[str, Net], unseen: Unseen | None) -> None:
    """Everything after training; each stage writes its file, the page comes last.

    The arm that is kept is the one that predicts, is explained and exported.
    """
    run, begun = job.run, time.perf_counter()
    task = TASKS[run.config["want"]]
    found = decide(run, bench, vault, nets, unseen)
    run.write("keep.json", found)
    job.listen.say(found["sentence"])
    main = found["kept"]
    said = _predictions(run, bench, nets[main], main, task.probs)
    held = task.calibrate(bench, vault, said, main, unseen)
    with writing(run.folder, "the network", also=(SafetensorError,)):
        net_meta = files.save(
            nets[main], run.folder, classes=bench.data.names, temperature=held.value if held.fitted else None,
            shorter=bench.pixels.side, tells=task.kind,
        )  # fmt: skip
    measured = task.measure(bench, vault, nets, main, run.config["method"], said, held)
    run.write("evaluation.json", {**measured, "vault": vault.openings})
    job.stage("measure", begun)
    begun = time.perf_counter()
    some = _picked(bench, said)
    if task.kind == "masks":
        _masks(run, bench, nets[main], vault, some)
    if task.kind == "boxes":
        _boxes(run, bench, nets[main], vault, said.rows, some)
    try:
        _maps(run, bench, nets[main], some, net_meta)
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


def _predictions(
    run: Run, bench: Bench, net: Net, arm: str, likely: Callable[[np.ndarray], np.ndarray]
) -> Said:
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
                probs = likely(found)
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


def _picked(bench: Bench, said: Said) -> np.ndarray:
    """A few rows for pictures, of the test split if there is one, half of them the least certain ones."""
    test = bench.data.of_split("test")[said.rows]
    some = np.flatnonzero(test) if test.any() else np.arange(len(said.rows))
    order = some[np.argsort(said.sure[some], kind="stable")]
    even = order[:: max(1, len(order) // (MAPS - MAPS // 2))][-(MAPS - MAPS // 2) :]
    return said.rows[np.unique(np.r_[order[: MAPS // 2], even])]


def _masks(run: Run, bench: Bench, net: Net, vault: Vault, rows: np.ndarray) -> None:
    """masks.npz: what the network says of the pixels of a few images, and what people drew, squeezed to one size."""
    painter, some = Painter(vault.reveal(bench.data, "pictures of masks for the page")), rows.tolist()
    both = {"said": list(predicted(bench, net, some)), "true": [painter.whole(r) for r in some]}
    side = min(DRAWN, max(max(m.shape) for m in both["said"]))
    said, true = (np.stack([squeezed(m, side) for m in both[name]]) for name in ("said", "true"))
    with writing(run / "masks.npz"), whole(run / "masks.npz") as making, making.open("wb") as file:
        np.savez_compressed(file, rows=rows, said=said, true=true)


def _boxes(run: Run, bench: Bench, net: Net, vault: Vault, rows: np.ndarray, some: np.ndarray) -> None:
    """boxes.parquet: what the network finds in every image; boxes.npz: what people drew in those of the page."""
    with writing(run / "boxes.parquet"), whole(run / "boxes.parquet") as making:  # noqa: SIM117
        with pq.ParquetWriter(making, BOXES, compression="zstd") as out:
            for start in range(0, len(rows), GROUP):
                mine = rows[start : start + GROUP]
                found = together([*located(bench, net, mine.tolist())])
                at, corners = mine[found.image], found.xyxy.reshape(-1, 4).T
                columns = [at, bench.data.ids[at], found.cls, found.score, *corners]
                out.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, BOXES)], schema=BOXES))
    drawn = drawn_boxes(vault.reveal(bench.data, "pictures of boxes for the page"), some)
    with writing(run / "boxes.npz"), whole(run / "boxes.npz") as making, making.open("wb") as file:
        np.savez(file, rows=some, image=drawn.image, xyxy=drawn.xyxy, cls=drawn.cls, state=drawn.state)


def _maps(run: Run, bench: Bench, net: Net, rows: np.ndarray, meta: Mapping[str, Any]) -> None:
    """maps.npz and maps.json: where the network looks on a few images, in pictures and in words."""
    part = next(bench.feed({}).sweep(rows, len(rows)))
    targets, maps, page = kept(net, part["plain"], bench.data.names, meta)
    with writing(run / "maps.npz"), whole(run / "maps.npz") as making, making.open("wb") as file:
        np.savez(file, rows=rows, targets=targets, maps=maps)
    run.write("maps.json", page)


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
