"""Weights files: safetensors alone, read whole or refused, and compared with the network they are meant for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from modicum.core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

CONVERT = (
    "Nothing is unpickled here. Where you trust the file: "
    "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'net.safetensors')"
)


def digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.  ModelError for a missing or damaged file; pickles are refused unread."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if path.suffix.lower() in (".pth", ".pt", ".ckpt", ".bin", ".pkl", ".tar"):
        raise ModelError("a pickle can run code when it is read, so it is not", where=path, fix=CONVERT)
    if not path.is_file():
        raise ModelError("no such file", where=path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())[:120]
        raise ModelError(
            f"not a whole safetensors file: {why}", where=path, fix="Copy the file again, or give another."
        ) from None


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
