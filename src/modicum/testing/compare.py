"""Equal, and how unequal: of numbers, tensors, arrays and deltas; and whether the world outside was left alone."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modicum.core.dataset import Dataset
from modicum.testing.results import demand


def bits(x: Any) -> Any:
    """Something that is equal exactly where x is the same, bit for bit."""
    if isinstance(x, Dataset):
        return x.version, tuple(sorted(x.columns))
    if isinstance(x, Tensor):
        x = x.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    if isinstance(x, np.ndarray):
        return x.shape, str(x.dtype), x.tobytes()
    if isinstance(x, Mapping):
        return tuple((k, bits(v)) for k, v in x.items())
    if isinstance(x, (list, tuple)):
        return tuple(bits(v) for v in x)
    return np.float64(x).tobytes() if isinstance(x, float) else x


def same(a: Any, b: Any, what: str) -> None:
    """Bit for bit, or BrokenError that names the first difference."""
    if isinstance(a, Mapping):
        demand(a.keys() == b.keys(), f"{what}: other names: {sorted(a.keys() ^ b.keys())[:3]}")
        for k in a:
            same(a[k], b[k], f"{what} {k!r}")
    elif isinstance(a, list):
        demand(len(a) == len(b), f"{what}: {len(a)} and {len(b)} values")
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{what} {i}")
    elif bits(a) != bits(b):
        demand(False, f"{what}: {_shown(a)} is not {_shown(b)}")


def near(a: Any, b: Any, tolerance: tuple[float, float], what: str) -> None:
    """Equal to a relative and an absolute tolerance; NaN equals NaN."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    demand(x.shape == y.shape, f"{what}: shapes {x.shape} and {y.shape}")
    if not np.allclose(x, y, *tolerance, equal_nan=True):
        demand(False, f"{what}: differs by up to {np.nanmax(np.abs(x - y)):.3g} ({_shown(a)} and {_shown(b)})")


def _shown(x: Any) -> str:
    if isinstance(x, Dataset):
        return f"{x.annotations.num_rows} statements of version {x.version}"
    text = " ".join(str(x.tolist() if isinstance(x, (Tensor, np.ndarray)) else x).split())
    return text if len(text) <= 60 else text[:57] + "..."


def numpy_state() -> str:
    """numpy's global generator, to the last bit."""
    state: Any = np.random.get_state(legacy=False)
    return f"{state['state']['key'].tobytes().hex()} {state['state']['pos']} {state['has_gauss']} {state['gauss']}"


def place() -> dict[str, Any]:
    """What of the process a method has no business to change, and no use for."""
    return {
        "the working folder": Path.cwd(), "the environment": _environment(), "numpy's error state": np.geterr(),
        "torch's default type": torch.get_default_dtype(), "gradient mode": torch.is_grad_enabled(),
    }  # fmt: skip


def _environment() -> dict[str, str]:
    """Without what torch sets for itself when it is first used."""
    return {k: v for k, v in os.environ.items() if not k.startswith("TORCH")}


def surroundings(method: Any) -> dict[str, Any]:
    """The same, with generators and what a method could remember by."""
    plain = {k: repr(v) for k, v in vars(type(method)).items() if not callable(v) and not k.startswith("__")}
    return {
        "torch's generator": bits(torch.get_rng_state()), "numpy's generator": numpy_state(),
        "Python's generator": random.getstate(),
        "torch's threads": torch.get_num_threads(), **place(),
        "the method's attributes": repr(vars(method)), "the class's attributes": plain,
    }  # fmt: skip


def unmoved(began: Mapping[str, Any]) -> None:
    """BrokenError if the process is elsewhere than it was."""
    for name, value in place().items():
        demand(value == began[name], f"changes {name}")


@contextmanager
def untouched(method: Any, inputs: Mapping[str, Any]) -> Iterator[None]:
    """BrokenError if the surroundings or an input are others afterwards."""
    around, given = surroundings(method), bits(inputs)
    yield
    for name, value in surroundings(method).items():
        demand(value == around[name], f"changes {name}")
    if bits(inputs) != given:
        was = dict(given)
        demand(False, "changes its input " + next(repr(k) for k, v in bits(inputs) if was[k] != v))
