"""net.json and net.safetensors: a network on disk, built again without the code that made it.

Both are hostile when read: sizes, hash, names, shapes and types are checked, and every fault is a ModelError.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import torch

from modicum.core.errors import ModelError, did_you_mean
from modicum.core.net import Net
from modicum.models import doors
from modicum.models.weights import check, digest, read_weights

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
MAX_JSON = 16 * 2**20
EDITS: dict[str, Callable[[Net, dict[str, Any]], Net]] = {}
"""Structural edits by name: (net, arguments) -> net, run on the meta device.  `spec["edits"]` lists {"edit", ...}."""

class Meta(TypedDict):
    """Content of net.json.  classes: names, in the order of the logits.  temperature: None where not calibrated.

    shorter: the shorter side to which images were brought before being made `side` x `side`; 0: left as they were.
    """

    format: int
    door: str
    name: str
    args: dict[str, Any]
    edits: list[dict[str, Any]]
    classes: list[str]
    side: int
    channels: int
    shorter: int
    temperature: float | None
    notes: list[str]
    sha256: str


def save(
    net: Net, folder: Path, *, classes: Sequence[str] = (), temperature: float | None = None, shorter: int = 0
) -> Meta:
    """Write net.json and net.safetensors into a folder; each appears whole or not at all.  -> what net.json says."""
    from safetensors.torch import save_file

    spec = net.spec
    folder.mkdir(parents=True, exist_ok=True)
    weights, page = folder / "net.safetensors", folder / "net.json"
    fresh_weights, fresh_page = folder / ".net.safetensors.new", folder / ".net.json.new"
    # A copy each: safetensors wants plain layout and no memory shared between names.
    state = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in net.state_dict().items()}
    save_file(state, fresh_weights)
    meta: Meta = {
        "format": FORMAT, "door": spec["door"], "name": spec["name"], "args": spec["args"], "edits": spec["edits"],
        "classes": list(classes), "side": spec["args"]["side"], "channels": spec["args"]["channels"],
        "shorter": shorter, "temperature": temperature, "notes": list(net.notes), "sha256": digest(fresh_weights),
    }  # fmt: skip
    fresh_page.write_text(json.dumps(meta, indent=1, ensure_ascii=False), encoding="utf-8")
    for fresh in (fresh_weights, fresh_page):
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
    fresh_weights.replace(weights)
    fresh_page.replace(page)
    return meta


def load(folder: Path) -> tuple[Net, Meta]:
    """The network of a folder, in eval mode on the CPU, and its net.json.  The global generator is not touched."""
    meta = _read_page(folder / "net.json")
    path = folder / "net.safetensors"
    if path.is_file() and digest(path) != meta["sha256"]:
        raise ModelError(
            "not the weights that net.json names: the file is damaged, or the two are of different runs", where=path,
            fix="Copy both files again from the same run.",
        )  # fmt: skip
    state = read_weights(path)
    try:
        with torch.device("meta"):
            net = _construct(meta)
    except ModelError:
        raise
    except Exception as error:  # arguments from outside reach constructors of many kinds
        raise _bad_page(folder / "net.json", f"cannot build {meta['name']!r}: {error}") from None
    own = net.state_dict()
    _strict(state, own, path)
    net.load_state_dict(state, strict=True, assign=True)
    if _left_behind(net):
        # Tensors outside the state (tables of positions) are computed on building: build it for real.
        with torch.random.fork_rng(devices=[]):
            net = _construct(meta)
        net.load_state_dict(state, strict=True)
    net.notes = tuple(meta["notes"])
    return net.eval(), meta


def _construct(meta: Meta) -> Net:
    spec = {k: meta[k] for k in ("door", "name", "args", "edits")}  # type: ignore[literal-required]
    net = doors.build(spec)
    for edit in meta["edits"]:
        net = EDITS[edit["edit"]](net, edit)
    net.spec = spec
    return net


def _left_behind(net: Net) -> bool:
    held = (value for m in net.modules() for value in (*m._buffers.values(), *vars(m).values()))
    return any(isinstance(t, torch.Tensor) and t.is_meta for t in held)


def _strict(state: dict[str, Tensor], own: dict[str, Tensor], path: Path) -> None:
    check(state, own, path)
    for key, value in own.items():
        if key not in state or state[key].dtype != value.dtype:
            found = f"{key} is {str(state[key].dtype).removeprefix('torch.')}" if key in state else f"{key} is missing"
            raise ModelError(found, where=path, fix="Export or save the network again.")


def _read_page(path: Path) -> Meta:
    try:
        if path.stat().st_size > MAX_JSON:
            raise _bad_page(path, f"{path.stat().st_size} bytes are too many")
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fix = "Name the folder of a run that has finished."
        raise ModelError("no net.json here", where=path.parent, fix=fix) from None
    except (OSError, ValueError, RecursionError) as error:
        raise _bad_page(path, str(error)) from None
    kinds: dict[str, tuple[type, ...]] = {
        "door": (str,), "name": (str,), "args": (dict,), "edits": (list,), "classes": (list,), "side": (int,),
        "channels": (int,), "shorter": (int,), "temperature": (float, int, type(None)), "notes": (list,),
        "sha256": (str,),
    }  # fmt: skip
    if not isinstance(meta, dict):
        raise _bad_page(path, "it does not hold one object")
    if meta.get("format") != FORMAT:
        raise _bad_page(path, f"its format is {meta.get('format')!r}, this version reads {FORMAT}")
    for key, kind in kinds.items():
        if not isinstance(meta.get(key), kind):
            raise _bad_page(path, f"{key!r} is missing or of the wrong type")
    _check_page(meta, path)
    return cast(Meta, meta)


def _check_page(meta: Any, path: Path) -> None:
    """The parts that reach a constructor: names that exist, numbers within bounds."""
    if not all(isinstance(c, str) for c in (*meta["classes"], *meta["notes"])):
        raise _bad_page(path, "'classes' and 'notes' must be words")
    if meta["temperature"] is not None and not 1e-3 <= meta["temperature"] <= 1e3:
        raise _bad_page(path, f"temperature {meta['temperature']} is not allowed")
    for edit in meta["edits"]:
        name = edit.get("edit") if isinstance(edit, dict) else edit
        if name not in EDITS:
            fix = did_you_mean(str(name), EDITS) or "A newer Modicum may know it."
            raise ModelError(f"unknown edit {name!r}", where=path, fix=fix)
    args = meta["args"]
    if any(not isinstance(v, int) or isinstance(v, bool) for v in args.values()):
        raise _bad_page(path, "'args' must be whole numbers")
    size = {k: args.get(k, 0) for k in doors.LIMITS}
    rest = ",".join(f"{k}={v}" for k, v in args.items() if k not in size)
    again = doors.parse(f"{meta['name']}:{rest}" if rest else meta["name"], **size)
    if (again["door"], again["args"]) != (meta["door"], args) or any(meta[k] != size[k] for k in ("side", "channels")):
        raise _bad_page(path, "its parts contradict each other")
    if meta["classes"] and len(meta["classes"]) != size["classes"]:
        raise _bad_page(path, f"{len(meta['classes'])} class names for {size['classes']} logits")


def _bad_page(path: Path, why: str) -> ModelError:
    why = " ".join(why.split())[:160]
    return ModelError(f"not a readable net.json: {why}", where=path, fix="Copy it again from its run.")
