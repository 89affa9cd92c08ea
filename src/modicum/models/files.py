"""net.json and net.safetensors: a network on disk, built again without the code that made it.

Both are hostile when read: form, sizes, hash, names, shapes and types are checked before memory is taken for a value,
and every fault is a ModelError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import torch

from modicum.core import form
from modicum.core.disk import whole
from modicum.core.errors import ModelError, did_you_mean
from modicum.core.form import SIZES
from modicum.core.net import Net
from modicum.core.space import writing
from modicum.models import doors
from modicum.models.weights import digest, not_finite, read_weights
from modicum.nn.adjusting import ADJUSTER, adjusting
from modicum.nn.cosine import cosine_head
from modicum.nn.detect import detecting
from modicum.nn.peaks import peaked
from modicum.nn.probe import neighbours_head, probe_head
from modicum.nn.regions import ARGS, regional
from modicum.nn.segment import segmenting
from modicum.nn.stages import patched, placed
from modicum.nn.sum import Sum

FORMAT = 1
MOST = 4 * 2**20
EDITS: dict[str, Callable[[Net, dict[str, Any]], Net]] = {
    "cosine-head": lambda net, given: cosine_head(net, float(given["scale"])),
    "probe-head": lambda net, given: probe_head(net, str(given["norm"])),
    "neighbours-head": lambda net, given: neighbours_head(
        net, int(given["rows"]), int(given["k"]), str(given["metric"]), str(given["weights"]),
        float(given["temperature"]),
    ),
    "patches": lambda net, given: patched(net, given["grids"]),
    "places": lambda net, given: placed(net),
    "peaks": lambda net, given: peaked(net),
    "decoder": lambda net, given: segmenting(net, int(given["most"])),
    "detector": lambda net, given: detecting(net, int(given["width"]), int(given["depth"])),
    "torchvision": lambda net, given: _visioned(net, given),
    "regions": lambda net, given: regional(net, **{k: given[k] for k in ARGS}, fast=given.get("fast", False)),
    "adjuster": lambda net, given: adjusting(net, **{k: given[k] for k in ADJUSTER}),
}
"""Structural edits by name: (net, arguments) -> net, run on the meta device.  `spec["edits"]` lists {"edit", ...}."""

TELLS = re.compile("class|tags|masks|boxes")
"""What logits are about: one class (softmax), or any number of classes (a sigmoid each); in all, in a pixel, a box."""

_PART: dict[Any, Any] = {
    "door": str, "name": str, "args": {**SIZES, ...: (int, float)}, "edits": [{"edit": str, ...: object}],
}  # fmt: skip
_FORM: dict[Any, Any] = {
    **_PART, "args": {**SIZES, ...: (int, float, [float])}, "parts": [_PART], "format": int, "classes": [form.LABEL],
    "side": int, "channels": int, "shorter": range(SIZES["side"][-1] + 1), "temperature": (float, None),
    "tells": TELLS, "notes": [str], "sha256": str,
}  # fmt: skip


class Meta(TypedDict):
    """Content of net.json.  classes: names, in the order of the logits.  temperature: None where not calibrated.

    shorter: the shorter side to which images were brought before being made `side` x `side`; 0: left as they were.
    parts: the specs of a sum of networks; none for a single one.  tells: see TELLS.
    """

    format: int
    door: str
    name: str
    args: dict[str, Any]
    edits: list[dict[str, Any]]
    parts: list[dict[str, Any]]
    classes: list[str]
    side: int
    channels: int
    shorter: int
    temperature: float | None
    tells: str
    notes: list[str]
    sha256: str


def save(
    net: Net, folder: Path, *, classes: Sequence[str] = (), temperature: float | None = None, shorter: int = 0,
    tells: str = "class",
) -> Meta:  # fmt: skip
    """Write net.json and net.safetensors into a folder; each appears whole or not at all.  -> what net.json says.

    ModelError where the network could not be read back (`saveable`), or holds values that are not finite; RunError
    where it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    spec = saveable(net, classes)
    # A copy each: safetensors wants plain layout and no memory shared between names.
    state = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in net.state_dict().items()}
    if bad := not_finite(state):
        fix = "Train again with a lower learning rate (--recipe optim.lr=0.01)."
        raise ModelError(f"{bad} holds values that are not finite", where=folder, fix=fix)
    with writing(folder, "the network", also=(SafetensorError,)), whole(folder / "net.json") as page:
        with whole(folder / "net.safetensors") as weights:
            save_file(state, weights)
            sha256 = digest(weights)
        meta: Meta = {
            "format": FORMAT, "door": spec["door"], "name": spec["name"], "args": spec["args"], "edits": spec["edits"],
            "parts": spec.get("parts", []), "classes": list(classes), "side": spec["args"]["side"],
            "channels": spec["args"]["channels"], "shorter": shorter, "temperature": temperature, "tells": tells,
            "notes": list(net.notes), "sha256": sha256,
        }  # fmt: skip
        page.write_text(json.dumps(meta, indent=1, ensure_ascii=False), encoding="utf-8")
    return meta


def saveable(net: Net, classes: Sequence[str] = ()) -> dict[str, Any]:
    """The spec of a network that can be saved with these class names; ModelError for one that no spec tells.

    Cheap: to be asked before a training, not only after it.
    """
    if not net.spec:
        raise ModelError(
            f"a {type(net).__name__} cannot be saved: nothing says how it is built", where="network",
            fix="Deliver a network of make(...), one changed by a known edit, or a Sum of such (nn/sum.py).",
        )  # fmt: skip
    twice = "a class stands twice" if len(set(classes)) < len(classes) else ""
    if wrong := twice or form.misfit(list(classes), [form.LABEL], "class"):
        raise ModelError(wrong, where="class names", fix="Rename it in the data.")
    return net.spec


def load(folder: Path) -> tuple[Net, Meta]:
    """The network of a folder, in eval mode on the CPU, and its net.json.  The global generator is not touched."""
    meta = read_page(folder)
    path = folder / "net.safetensors"
    if path.is_file() and digest(path) != meta["sha256"]:
        raise ModelError(
            "not the weights that net.json names: the file is damaged, or the two are of different runs", where=path,
            fix="Copy both files again from the same run.",
        )  # fmt: skip
    spec = cast(dict[str, Any], {k: meta[k] for k in ("door", "name", "args", "edits")})  # type: ignore[literal-required]
    if meta["parts"]:
        spec["parts"] = meta["parts"]
    try:
        with torch.device("meta"):
            net = _construct(spec)
    except Exception as error:  # arguments from outside reach constructors of many kinds
        why = error.found if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
        raise _bad_page(folder, f"{form.short(meta['name'])} cannot be built: {why}") from None
    state = read_weights(path, net.state_dict())
    net.load_state_dict(state, strict=True, assign=True)
    if _left_behind(net):
        # Tensors outside the state (tables of positions) are computed on building: build it for real.
        with torch.random.fork_rng(devices=[]):
            net = _construct(spec)
        net.load_state_dict(state, strict=True)
    net.notes = tuple(meta["notes"])
    return net.eval(), meta


def _construct(spec: dict[str, Any]) -> Net:
    parts = [_construct(part) for part in spec.get("parts", [])]
    net: Net = Sum(parts, spec["args"]["weights"]) if parts else doors.build(spec)
    for edit in spec["edits"]:
        net = EDITS[edit["edit"]](net, edit)
        if net.spec.get("edits", [])[-1:] != [edit]:
            raise ModelError(f"{form.short(edit)} is not what it makes", where="network", fix=_AGAIN)
    net.spec = spec
    return net


def _visioned(net: Net, given: dict[str, Any]) -> Net:
    from modicum.nn.torchvision_detect import visioned  # torchvision takes a second to load

    return visioned(net, str(given["kind"]), int(given["width"]), int(given["cells"]))


def _left_behind(net: Net) -> bool:
    held = (value for m in net.modules() for value in (*m._buffers.values(), *vars(m).values()))
    return any(isinstance(t, torch.Tensor) and t.is_meta for t in held)


def read_page(folder: Path) -> Meta:
    """net.json: its form, and the parts that reach a constructor: names that exist, numbers within bounds."""
    meta = form.load(folder / "net.json", _FORM, ModelError, _AGAIN, format=FORMAT, most=MOST)
    if meta["temperature"] is not None and not 1e-3 <= meta["temperature"] <= 1e3:
        raise _bad_page(folder, f"temperature {meta['temperature']} is not allowed")
    if len(set(meta["classes"])) < len(meta["classes"]):
        raise _bad_page(folder, "a class stands twice")
    size = {k: meta["args"][k] for k in SIZES}
    if meta["classes"] and len(meta["classes"]) != size["classes"]:
        raise _bad_page(folder, f"{len(meta['classes'])} class names for {size['classes']} logits")
    parts = meta["parts"] or [{k: meta[k] for k in _PART}]
    if len(parts) > 64:
        raise _bad_page(folder, f"a sum of {len(parts)} networks, at most 64 are allowed")
    ends = {**size, "side": meta["side"], "channels": meta["channels"]}
    if any(s != size for s in (ends, *({k: p["args"][k] for k in SIZES} for p in parts))):
        raise _bad_page(folder, "its sizes contradict each other")
    for part in parts:
        _check_part(part, folder)
    if meta["parts"]:
        wrong = form.misfit(meta["args"], {**SIZES, "weights": [float]}, "args")
        told = (meta["door"], meta["name"], len(meta["args"].get("weights", ())))
        if wrong or told != ("sum", "sum", len(parts)):
            raise _bad_page(folder, wrong or f"{form.short(meta['name'])} of {len(parts)} networks")
    return cast(Meta, meta)


def _check_part(part: dict[str, Any], folder: Path) -> None:
    """One network's spec: parsed again from its name and arguments, it must be the same."""
    if wrong := form.misfit(part, _PART):
        raise _bad_page(folder, wrong)
    args = part["args"]
    rest = ",".join(f"{k}={v}" for k, v in args.items() if k not in SIZES)
    try:
        again = doors.parse(f"{part['name']}:{rest}" if rest else part["name"], **{k: args[k] for k in SIZES})
    except ModelError as error:
        found = f"net.json names a network that cannot be built: {error.found}"
        raise ModelError(found, where=folder, fix=error.fix) from None
    if any(again[k] != part[k] for k in ("door", "name", "args")):
        raise _bad_page(folder, f"{form.short(part['name'])} is built from other arguments")
    for edit in part["edits"]:
        if edit["edit"] not in EDITS:
            fix = did_you_mean(edit["edit"], EDITS) or form.NEWER
            raise ModelError(f"net.json names an unknown edit {form.short(edit['edit'])}", where=folder, fix=fix)


_AGAIN = "Name the folder of a finished run, or copy net.json again from it."


def _bad_page(folder: Path, why: str) -> ModelError:
    return ModelError(f"net.json is damaged: {' '.join(why.split())[:160]}", where=folder, fix=_AGAIN)
