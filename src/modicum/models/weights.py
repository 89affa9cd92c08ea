"""Weights files: safetensors alone, read whole or refused, and compared with the network they are meant for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modicum.core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

CONVERT = (
    "Nothing is unpickled here. Where you trust the file, make a .safetensors of it elsewhere: "
    "load its tensors with PyTorch's weights_only=True and hand them to safetensors.torch.save_file."
)


NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
"""Types as torch and as safetensors call them."""


def digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path, own: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Tensors of a safetensors file.  ModelError for a missing or damaged file, or values that are not finite.

    own: what the file must hold, name for name, shape and type; compared before a value is read, so that no more
    memory is taken than the network needs.  Pickles are refused unread.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.suffix.lower() in (".pth", ".pt", ".ckpt", ".bin", ".pkl", ".tar"):
        raise ModelError("a pickle can run code when it is read, so it is not", where=path, fix=CONVERT)
    if not path.is_file():
        raise ModelError("no such file", where=path, fix="Give a safetensors file, such as net.safetensors of a run.")
    try:
        with safe_open(path, "pt") as file:
            if own is not None:
                _same({k: file.get_slice(k) for k in file.keys()}, own, path)  # noqa: SIM118
            state: dict[str, Tensor] = file.get_tensors()
        bad = not_finite(state)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())[:120]
        raise ModelError(
            f"not a whole safetensors file: {why}", where=path, fix="Copy the file again, or give another."
        ) from None
    if bad:
        raise ModelError(f"{bad[:80]} holds values that are not finite", where=path, fix="Give other weights.")
    return state


def not_finite(state: Mapping[str, Tensor]) -> str:
    """The first tensor with a NaN or an infinity; '' if there is none."""
    import torch

    wide = {k: v.float() if v.itemsize == 1 else v for k, v in state.items() if v.is_floating_point()}
    return next((k for k, v in wide.items() if not bool(torch.isfinite(v).all())), "")


def _same(found: dict[str, Any], own: dict[str, Tensor], path: Path) -> None:
    """ModelError unless the slices of a file have the names, shapes and types of `own`."""
    import torch

    check({k: torch.empty(s.get_shape(), device="meta") for k, s in found.items()}, own, path)
    for key, value in own.items():
        there = found[key].get_dtype() if key in found else "missing"
        if there != NAMES[str(value.dtype).removeprefix("torch.")]:
            raise ModelError(f"{key} is {there}", where=path, fix="Export or save the network again.")


def check(state: dict[str, Tensor], own: dict[str, Tensor], where: object, new: tuple[str, ...] = ()) -> None:
    """ModelError unless the weights are the network's: same names and shapes.  `new`: prefixes that may be absent."""
    missing = [k for k in own if k not in state and not k.startswith(new) and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    other = [k for k in state if k in own and state[k].shape != own[k].shape]
    for words, keys in (("are missing", missing), ("are unknown", extra), ("have another shape", other)):
        if keys:
            shown = ", ".join(k[:80] for k in keys[:3]) + (", ..." if len(keys) > 3 else "")
            raise ModelError(
                f"these weights are of another network: {len(keys)} of its {len(own)} tensors {words} ({shown})",
                where=where, fix="Name the network that the file was made for, or give another file.",
            )  # fmt: skip
