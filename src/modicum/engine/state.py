"""What of the nets is saved, how their structure is told, and how an interrupt waits for the end of a step."""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def frozen(nets: nn.Module) -> list[str]:
    """Names of the nets inside that the user brought and that nobody trains (Net.freeze)."""
    return [name for name, module in nets.named_modules() if getattr(module, "frozen", False) is True]


def thawed(nets: nn.Module) -> dict[str, Tensor]:
    """The state without that of frozen nets."""
    starts = tuple(f"{name}." for name in frozen(nets))
    return {k: v for k, v in nets.state_dict().items() if not k.startswith(starts)} if starts else nets.state_dict()


def seals(nets: nn.Module) -> dict[str, str]:
    """A hash of each frozen net's weights, by name: checkpoints hold this in their place."""
    out = {}
    for name in frozen(nets):
        digest = hashlib.blake2b(digest_size=16)
        for key, value in nets.get_submodule(name).state_dict().items():
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(key.encode() + flat.view(torch.uint8).numpy().tobytes())
        out[name] = digest.hexdigest()
    return out


def structure(nets: nn.Module) -> tuple[Any, ...]:
    """What `build` alone cannot give back after a change: modules, names, shapes and types, and what may be trained."""
    named = [(n, tuple(p.shape), p.dtype, p.requires_grad) for n, p in nets.named_parameters()]
    held = [(n, tuple(b.shape), b.dtype) for n, b in nets.named_buffers()]
    return repr(nets), tuple(named), tuple(held)


@contextmanager
def waiting() -> Iterator[Callable[[], None]]:
    """Ctrl-C is noted and raised when the function that is given is next called; a second one is raised at once.

    Elsewhere than in the main thread, or where somebody else handles the signal, nothing is touched.
    """
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    def let_through() -> None:
        if asked:
            raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield let_through
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
