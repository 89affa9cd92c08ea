"""Checkpoints: safetensors and JSON in one folder, written under another name, synced, renamed.  The last two are kept.

What never changes once it is there (collected columns, nets before a change of structure) is a file of its own that the
next checkpoint links to, so that it is written once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from modicum.core.errors import RunError

_TENSORS, _STATE = "tensors.safetensors", "state.json"
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

    kept: tensors, or the file of an earlier checkpoint that holds them; -> their files now.
    """
    making, final = home / f".making-{os.getpid()}", home / f"at-{at[0]:04d}-{at[1]:09d}"
    names = {n: f"{n}.safetensors" for n in kept or {}}
    try:
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        for name, what in (kept or {}).items():
            _link(what, making / names[name]) if isinstance(what, Path) else _write(what, making / names[name])
        _write(tensors, making / _TENSORS)
        (making / _STATE).write_text(json.dumps({**state, "kept": sorted(names)}), encoding="utf-8")
        for path in (*making.iterdir(), making):
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)
        making.rename(final)
        _sync(home)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise RunError(
            f"cannot write a checkpoint: {error.strerror or error}",
            where=home,
            fix="Free some space and run the same command again: it resumes.",
        ) from None
    for old in sorted(home.glob("at-*"))[:-2]:
        shutil.rmtree(old, ignore_errors=True)
    return {n: final / file for n, file in names.items()}


def latest(home: Path) -> Found | None:
    """The newest whole checkpoint; None if there is none.  A damaged one is passed over."""
    for folder in sorted(home.glob("at-*"), reverse=True):
        try:
            state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            kept = {n: folder / f"{n}.safetensors" for n in state["kept"]}
            for path in kept.values():
                load(path)
            return Found(load(folder / _TENSORS), state, kept)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def load(path: Path) -> dict[str, Tensor]:
    """Tensors of one file; ValueError or OSError if it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from None


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path)
    except SafetensorError as error:  # safetensors wraps the system's error
        raise OSError(str(error)) from None


def _link(source: Path, path: Path) -> None:
    """The same file under another name; a copy where the disk knows no links."""
    try:
        path.hardlink_to(source)
    except (OSError, NotImplementedError):
        shutil.copyfile(source, path)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
