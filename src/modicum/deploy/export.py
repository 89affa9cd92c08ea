"""A net as one ONNX file, written only if it gives the net's own answers on real images.

Decoding and resizing stay outside (Pillow's antialiasing is not ONNX's Resize; deploy/predict.py calls the same Pillow
code as evaluation); scaling, centring, temperature and softmax are inside, so that nothing is left to remember.
"""

from __future__ import annotations

import contextlib
import copy
import json
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modicum import __version__
from modicum.core import disk
from modicum.core.errors import ModelError
from modicum.core.space import writing
from modicum.deploy.seal import BLANK, seal

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from modicum.core.net import Net

FORMAT = 1
OPSET = 20
TOLERANCE = 1e-4


def export(
    net: Net, meta: Mapping[str, Any], images: np.ndarray, path: Path, *, opset: int = OPSET, runs: int = 200
) -> dict[str, Any]:
    """Write `path` (.onnx) and say what it is; ModelError, and nothing on disk, where it differs from the net.

    meta: classes (names), side, channels, temperature (None: 1), shorter (0), sha256 (''), as in net.json.
    images: real ones, uint8 or uint16 (N,side,side,channels), as `data.images.square` makes them; some 500 are good.
    The file: `images` (batch,side,side,channels) of that dtype -> `logits` (the net's own) and `probs` =
    softmax(logits / temperature), or a sigmoid each where the net tells tags, float32 (batch,C); of a segmenter also
    `masks`, logits float32 (batch,C+1,side,side).  Logits must agree to 1e-4, the class for every image (a segmenter's
    for every pixel where two classes are not nearer than that).
    -> images, largest_difference, bytes, parameters, opset, threads, latency_ms {median, low, high (quartiles), runs}.
    """
    whole = _whole(net, meta, images)
    content, opset = _convert(whole, images[:2], meta, opset)
    session = open_session(content, path)
    difference, changed = _compared(whole, session, images)
    if not difference <= TOLERANCE or changed:
        raise ModelError(
            f"the exported net differs: logits by up to {difference:.2g} (allowed {TOLERANCE:.0e}), "
            f"the class of {changed} of {len(images)} images; nothing was written", where=path,
            fix="Another --opset may convert better; otherwise this network cannot be exported.",
        )  # fmt: skip
    with writing(path, "the network", needed=len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk.whole(path) as making:
            making.write_bytes(content)
    return {
        "images": len(images), "largest_difference": difference, "bytes": len(content), "opset": opset,
        "parameters": sum(p.numel() for p in net.parameters()), "threads": 1,
        "latency_ms": latency(session, images[:1], runs),
    }  # fmt: skip


def _whole(net: Net, meta: Mapping[str, Any], images: np.ndarray) -> nn.Module:
    """Pixels -> (logits, probs), or (logits, probs, masks), on a float32 copy of the net in eval mode."""
    import torch
    from torch import nn

    side, channels = meta["side"], meta["channels"]
    if images.ndim != 4 or images.shape[1:] != (side, side, channels) or not len(images):
        found = f"images of shape {images.shape}, not (N, {side}, {side}, {channels}) with N > 0"
        raise ModelError(found, where="export", fix="Bring them to the side and channels of the network.")
    if images.dtype not in (np.uint8, np.uint16):
        found = f"images of type {images.dtype}, not uint8 or uint16"
        raise ModelError(found, where="export", fix="Give pixels as they are stored.")
    largest, temperature = float(np.iinfo(images.dtype).max), meta.get("temperature") or 1.0
    one = meta.get("tells", "class") == "class"

    class Whole(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            out = self.net(images.to(torch.float32).permute(0, 3, 1, 2) / largest)
            soft = out.logits / temperature
            probs = soft.softmax(1) if one else soft.sigmoid()
            return (out.logits, probs) if out.masks is None else (out.logits, probs, out.masks)

    ours = copy.deepcopy(net).float().cpu().to(memory_format=torch.contiguous_format)
    return Whole(ours).eval().requires_grad_(False)


def _convert(whole: nn.Module, images: np.ndarray, meta: Mapping[str, Any], opset: int) -> tuple[bytes, int]:
    """The file's bytes, and its opset: what was asked for, or the nearest that the converter reached.

    By torch.export: the older tracing exporter took 0.1 s where this takes 1 to 4, but it is deprecated, and its file
    keeps what this one's optimiser folds away.
    """
    import onnx
    import torch

    example = torch.from_numpy(np.repeat(images[:1], 2, axis=0))  # a batch of one would be taken for a constant
    with torch.no_grad():
        names = ["logits", "probs", "masks"][: len(whole(example))]
    try:
        with _quiet():
            program = torch.onnx.export(
                whole, (example,), dynamo=True, input_names=["images"], output_names=names,
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}, opset_version=opset, verbose=False,
            )  # fmt: skip
            assert program is not None
            model = program.model_proto
        _strip(model)
        onnx.helper.set_model_props(model, _props(meta, str(images.dtype)))
        onnx.checker.check_model(model)
        reached = next(o.version for o in model.opset_import if o.domain == "")
        return seal(model.SerializeToString()), reached
    except Exception as error:  # the exporter fails in as many ways as there are operators
        lines = [line for line in str(error).splitlines() if line.strip()]
        why = lines[0][:200] if lines else type(error).__name__
        raise ModelError(f"this net cannot be exported: {why}", where="export", fix="Try another --opset.") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's warnings and log lines are about torch's own code."""
    import logging

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes of source files: it names folders of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph, model):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    del graph.value_info[:]


def _props(meta: Mapping[str, Any], dtype: str) -> dict[str, str]:
    return {
        "modicum": __version__, "format": str(FORMAT), "classes": json.dumps(list(meta["classes"]), ensure_ascii=False),
        "side": str(meta["side"]), "channels": str(meta["channels"]), "dtype": dtype,
        "temperature": json.dumps(meta.get("temperature")), "shorter": str(meta.get("shorter") or 0),
        "net": meta.get("sha256") or "", "sha256": BLANK,
        "resize": "Pillow: shorter side to `shorter` (bicubic; 0: left), then all of it to side x side (bilinear)",
    }  # fmt: skip


def open_session(model: bytes, where: object, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU; ModelError if it is not a whole ONNX file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime's errors share no base class
        why = " ".join(str(error).split())[:160]
        raise ModelError(f"not a whole ONNX file: {why}", where=where, fix="Copy or export it again.") from None


def _compared(whole: nn.Module, session: Any, images: np.ndarray) -> tuple[float, int]:
    """The largest difference of any logit, and for how many images another class is the largest (a segmenter: 0)."""
    import torch

    names, difference, changed = [o.name for o in session.get_outputs()], 0.0, 0
    for start in range(0, len(images), 64):
        some = images[start : start + 64]
        with torch.no_grad():
            ours = dict(zip(names, (part.numpy() for part in whole(torch.from_numpy(some))), strict=True))
        theirs = dict(zip(names, session.run(names, {"images": some}), strict=True))
        gaps = [float(np.abs(ours[name] - theirs[name]).max()) for name in names if name != "probs"]
        difference = max(difference, *gaps) if np.isfinite(gaps).all() else float("nan")
        if "masks" not in names:
            changed += int((ours["logits"].argmax(1) != theirs["logits"].argmax(1)).sum())
    return difference, changed


def latency(session: Any, image: np.ndarray, runs: int = 200) -> dict[str, float]:
    """Milliseconds for one image (1,side,side,c): median and quartiles over `runs`, or what fits into two seconds."""
    times: list[float] = []
    end = time.perf_counter() + 2
    for _ in range(runs + 5):
        start = time.perf_counter()
        session.run(None, {"images": image})
        times.append(time.perf_counter() - start)
        if start > end:
            break
    low, median, high = np.quantile(times[5:] or times, [0.25, 0.5, 0.75]) * 1e3
    return {"median": float(median), "low": float(low), "high": float(high), "runs": len(times[5:] or times)}
