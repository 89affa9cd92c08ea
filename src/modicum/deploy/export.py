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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modicum import __version__
from modicum.core import disk
from modicum.core.errors import ModelError
from modicum.core.space import writing
from modicum.deploy.seal import BLANK, seal
from modicum.deploy.suppress import LEAST, MOST, TAU, TOP, Located, found

if TYPE_CHECKING:
    import onnx

    from modicum.core.net import Net

FORMAT = 1
OPSET = 20
TOLERANCE = 1e-4  # of a logit or a score
SHIFT = 0.01  # pixels that a box may be away, if its score is above LEAST


def export(
    net: Net, meta: Mapping[str, Any], images: np.ndarray, path: Path, *, opset: int = OPSET, runs: int = 200
) -> dict[str, Any]:
    """Write `path` (.onnx) and say what it is; ModelError, and nothing on disk, where it differs from the net.

    meta: classes (names), side, channels, temperature (None: 1), shorter (0), sha256 (''), as in net.json.
    images: real ones, uint8 or uint16 (N,side,side,channels), as `data.images.square` makes them; some 500 are good.
    The file: `images` (batch,side,side,channels) of that dtype -> `logits` (the net's own) and `probs` =
    softmax(logits / temperature), or a sigmoid each where the net tells tags, float32 (batch,C); of a segmenter also
    `masks`, logits float32 (batch,C+1,side,side); of a detector, for each of its P positions, `xyxy`, float32
    (batch,P,4), pixels of side x side, and `score`, float32 (batch,P,C), of which deploy/suppress.py makes boxes.
    Logits and scores must agree to 1e-4, boxes of a score above LEAST to 0.01 pixels, and the class for every image; a
    segmenter's need not where two classes of a pixel are nearer than that, nor a detector's boxes in one image of a
    hundred, where two are so near to each other that rounding decides which stays.
    -> images, largest_difference, bytes, parameters, opset, threads, latency_ms {median, low, high (quartiles), runs};
    of a detector also largest_shift, pixels, and other_boxes, images in which other boxes stay.
    """
    whole = _whole(net, meta, images)
    content, opset = _convert(whole, images[:2], meta, opset)
    session = open_session(content, path)
    gaps = _compared(whole, session, images)
    if wrong := gaps.wrong(len(images)):
        fix = "Another --opset may convert better; otherwise this network cannot be exported."
        raise ModelError(f"the exported net differs: {wrong}; nothing was written", where=path, fix=fix)
    with writing(path, "the network", needed=len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk.whole(path) as making:
            making.write_bytes(content)
    places = {"largest_shift": gaps.shift, "other_boxes": gaps.boxes} if "xyxy" in whole.names else {}
    return {
        "images": len(images), "largest_difference": gaps.logits, "bytes": len(content), "opset": opset,
        "parameters": sum(p.numel() for p in net.parameters()), "threads": 1,
        "latency_ms": latency(session, images[:1], runs), **places,
    }  # fmt: skip


def _whole(net: Net, meta: Mapping[str, Any], images: np.ndarray) -> Any:
    """Pixels -> what the file answers, in the order of `names`, by a float32 copy of the net in eval mode."""
    import torch
    from torch import nn

    from modicum.nn.detect import Detecting

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
        names: tuple[str, ...]

        def __init__(self) -> None:
            super().__init__()
            self.net: Any = copy.deepcopy(net).float().cpu().to(memory_format=torch.contiguous_format)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            x = images.to(torch.float32).permute(0, 3, 1, 2) / largest
            if isinstance(self.net, Detecting):
                out, said = self.net.both(x)
                more = [said.xyxy, said.score]
            else:
                out = self.net(x)
                more = [] if out.masks is None else [out.masks]
            soft = out.logits / temperature
            return (out.logits, soft.softmax(1) if one else soft.sigmoid(), *more)

    whole = Whole().eval().requires_grad_(False)
    whole.names = _names(whole.net, images)
    return whole


def _names(net: Net, images: np.ndarray) -> tuple[str, ...]:
    """What the file's answers are called.  ModelError for a network whose boxes come in another way than ours."""
    import torch

    from modicum.nn.detect import Detecting

    if isinstance(net, Detecting):
        return "logits", "probs", "xyxy", "score"
    with torch.no_grad():
        out = net(torch.from_numpy(images[:1].astype(np.float32)).permute(0, 3, 1, 2))
    if out.boxes is not None:
        fix = "Use it from Python; or train one of ours (`modicum fit --want boxes`) on the boxes it finds."
        raise ModelError("a network whose boxes do not come from a dense head", where="export", fix=fix)
    return ("logits", "probs") if out.masks is None else ("logits", "probs", "masks")


def _convert(whole: Any, images: np.ndarray, meta: Mapping[str, Any], opset: int) -> tuple[bytes, int]:
    """The file's bytes, and its opset: what was asked for, or the nearest that the converter reached.

    By torch.export: the older tracing exporter took 0.1 s where this takes 1 to 4, but it is deprecated, and its file
    keeps what this one's optimiser folds away.
    """
    import onnx
    import torch

    example = torch.from_numpy(np.repeat(images[:1], 2, axis=0))  # a batch of one would be taken for a constant
    try:
        with _quiet():
            program = torch.onnx.export(
                whole, (example,), dynamo=True, input_names=["images"], output_names=list(whole.names),
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
    how = (
        f"of the {TOP} largest scores those above {LEAST}; boxes cut to side x side; of a class, by falling score, "
        f"none whose IoU with one that stays is above {TAU}; {MOST} at most"
    )
    return {
        "modicum": __version__, "format": str(FORMAT), "classes": json.dumps(list(meta["classes"]), ensure_ascii=False),
        "side": str(meta["side"]), "channels": str(meta["channels"]), "dtype": dtype,
        "tells": meta.get("tells", "class"), "temperature": json.dumps(meta.get("temperature")),
        "shorter": str(meta.get("shorter") or 0),
        "net": meta.get("sha256") or "", "sha256": BLANK,
        "resize": "Pillow: shorter side to `shorter` (bicubic; 0: left), then all of it to side x side (bilinear)",
        **({"boxes": how} if meta.get("tells") == "boxes" else {}),
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


class Gaps(NamedTuple):
    """How far a file is from its net.  logits: the largest difference of any logit or score.  changed: images with
    another class on top.  shift: pixels that a box is away, at most, of those that count.  boxes: images in which other
    boxes stay."""

    logits: float = 0.0
    changed: int = 0
    shift: float = 0.0
    boxes: int = 0

    def wrong(self, images: int) -> str:
        """What is more than is allowed, in words; '' where nothing is."""
        said = []
        if not self.logits <= TOLERANCE:
            said.append(f"logits by up to {self.logits:.2g} (allowed {TOLERANCE:.0e})")
        if self.changed:
            said.append(f"the class of {self.changed} of {images} images")
        if not self.shift <= SHIFT:
            said.append(f"boxes by up to {self.shift:.2g} pixels (allowed {SHIFT:g})")
        if self.boxes > -(-images // 100):
            said.append(f"which boxes stay in {self.boxes} of {images} images")
        return ", ".join(said)


def _compared(whole: Any, session: Any, images: np.ndarray) -> Gaps:
    import torch

    parts = []
    for start in range(0, len(images), 64):
        some = images[start : start + 64]
        with torch.no_grad():
            ours = dict(zip(whole.names, (part.numpy() for part in whole(torch.from_numpy(some))), strict=True))
        theirs = dict(zip(whole.names, session.run(list(whole.names), {"images": some}), strict=True))
        gaps = [float(np.abs(ours[k] - theirs[k]).max()) for k in whole.names if k not in ("probs", "xyxy")]
        now = Gaps(max(gaps) if np.isfinite(gaps).all() else float("nan"))
        if len(whole.names) == 2:
            now = now._replace(changed=int((ours["logits"].argmax(1) != theirs["logits"].argmax(1)).sum()))
        elif "xyxy" in whole.names:
            now = now._replace(shift=_shift(ours, theirs), boxes=_others(ours, theirs, images.shape[1]))
        parts.append(now)
    logits, changed, shift, boxes = zip(*parts)
    return Gaps(float(np.max(logits)), sum(changed), float(np.max(shift)), sum(boxes))  # np.max keeps what is NaN


def _shift(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> float:
    """Pixels that a box of a score above LEAST is away, at most."""
    sure = ours["score"].max(2) > LEAST
    return float(np.abs(ours["xyxy"] - theirs["xyxy"])[sure].max(initial=0))


def _others(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], side: int) -> int:
    """In how many images other boxes stay: not as many, of another class, or away by more than is allowed."""
    count = 0
    for i in range(len(ours["score"])):
        one, other = (found(said["xyxy"][i], said["score"][i], (side, side)) for said in (ours, theirs))
        same = len(one.cls) == len(other.cls) and all(_in(other, box, cls) for box, cls in zip(one.xyxy, one.cls))
        count += not same
    return count


def _in(boxes: Located, xyxy: np.ndarray, cls: int) -> bool:
    """Whether a box is among others, in any order: two of one score may change places."""
    return bool(((np.abs(boxes.xyxy - xyxy).max(1, initial=0) <= SHIFT) & (boxes.cls == cls)).any())


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
