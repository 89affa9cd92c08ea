"""Checkpoints: safetensors and JSON in one folder, written under another name, synced, renamed.  The last two are kept.

What never changes once it is there (collected columns, nets before a change of structure) is a file of its own that the
next checkpoint links to, so that it is written once.  SHA256SUMS, as `sha256sum -c` reads it, tells a flipped bit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from modicum.core import form
from modicum.core.disk import whole_folder
from modicum.core.space import writing

_TENSORS, _STATE, _SUMS = "tensors.safetensors", "state.json", "SHA256SUMS"
Kept = Path | dict[str, Tensor]


class Found(NamedTuple):
    """A whole checkpoint.  kept: files by name; they are read with `load`."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    kept: dict[str, Path]


def save(
    home: Path,
    at: tuple[int, int],
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    kept: Mapping[str, Kept] | None = None,
) -> dict[str, Path]:
    """Write the checkpoint of (phase, step); RunError if the disk is full or read-only (earlier ones stay).

    kept: tensors, or the file of an earlier checkpoint that holds them; -> their files now.  A whole checkpoint of the
    same place is the same and is left alone; what comes after it in order is damaged or of another life, and goes.
    """
    final, names = home / f"at-{at[0]:04d}-{at[1]:09d}", {n: f"{n}.safetensors" for n in kept or {}}
    needed = size_of(tensors) + sum(size_of(k) for k in (kept or {}).values() if not isinstance(k, Path))
    with writing(home, "a checkpoint", needed=needed, also=(SafetensorError,)):
        home.mkdir(exist_ok=True)
        if _whole(final) is None:
            with whole_folder(final) as making:
                for name, what in (kept or {}).items():
                    put = _link if isinstance(what, Path) else _write
                    put(what, making / names[name])  # type: ignore[arg-type]
                _write(tensors, making / _TENSORS)
                (making / _STATE).write_text(json.dumps({**state, "kept": sorted(names)}), encoding="utf-8")
                linked = {names[n]: what.parent for n, what in (kept or {}).items() if isinstance(what, Path)}
                sums = {p.name: _told(linked[p.name])[p.name] if p.name in linked else _sum(p) for p in _files(making)}
                (making / _SUMS).write_text("".join(f"{s}  {n}\n" for n, s in sums.items()), encoding="utf-8")
    there = sorted(home.glob("at-*"))
    for old in {*there[: there.index(final)][:-1], *there[there.index(final) + 1 :]}:
        shutil.rmtree(old, ignore_errors=True)
    return {n: final / file for n, file in names.items()}


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of values."""
    return sum(t.numel() * t.element_size() for t in tensors.values())


def latest(home: Path) -> Found | None:
    """The newest whole checkpoint; None if there is none.  A damaged one is passed over."""
    folders = sorted(home.glob("at-*"), reverse=True)
    return next((found for folder in folders if (found := _whole(folder)) is not None), None)


def _whole(folder: Path) -> Found | None:
    try:
        if _told(folder) != {p.name: _sum(p) for p in _files(folder)}:
            return None
        state = form.read(folder / _STATE)
        if form.misfit(state, {"kept": [form.NAME], ...: object}):
            return None
        kept = {n: folder / f"{n}.safetensors" for n in state["kept"]}
        for path in kept.values():
            load(path)
        return Found(load(folder / _TENSORS), state, kept)
    except (OSError, ValueError):
        return None


def _files(folder: Path) -> list[Path]:
    return sorted((*folder.glob("[!.]*.json"), *folder.glob("[!.]*.safetensors")))


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _told(folder: Path) -> dict[str, str]:
    """File name -> sha256, as the checkpoint itself says."""
    lines = (folder / _SUMS).read_text(encoding="utf-8").splitlines()
    return {name: told for told, _, name in (line.partition("  ") for line in lines)}


def load(path: Path) -> dict[str, Tensor]:
    """Tensors of one file; ValueError or OSError if it is damaged."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from None


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path)


def _link(source: Path, path: Path) -> None:
    """The same file under another name; a copy where the disk knows no links."""
    try:
        path.hardlink_to(source)
    except (OSError, NotImplementedError):
        shutil.copyfile(source, path)
