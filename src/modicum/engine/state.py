"""What of the nets is saved, how their structure is told, and how an interrupt waits for the end of a step."""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

STATE = {
    "phase": range(10**6), "step": range(10**12), "optim": {str: {str: object}}, "made": {str: range(10**6)},
    "total": range(10**15), "frozen": {str: str}, "kept": [str],
}  # fmt: skip
"""The form of a checkpoint's state."""
ANEW = "Delete that folder: this training begins again, the rest of the run stays."


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


class Stop:
    """Ctrl-C while something may not be left half done: `stop()` raises KeyboardInterrupt if one came; a second one is
    raised at once.  hurried: a second one came, so nothing more is to be saved."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> None:
        if self.asked:
            raise KeyboardInterrupt

    @property
    def hurried(self) -> bool:
        """Whether it was asked for twice."""
        return self.asked > 1

    def note(self, number: int, frame: Any) -> None:
        """The signal's handler."""
        self.asked += 1
        if self.hurried:
            raise KeyboardInterrupt


@contextmanager
def waiting() -> Iterator[Stop]:
    """Inside, the signals that would raise KeyboardInterrupt (Ctrl-C, SIGTERM in `terminable`) are noted by a Stop.

    Elsewhere than in the main thread, or where somebody else handles the signal, nothing is touched.
    """
    stop, ours = Stop(), []
    if threading.current_thread() is threading.main_thread():
        signals = signal.SIGINT, signal.SIGTERM
        ours = [s for s in signals if signal.getsignal(s) is signal.default_int_handler]
    for number in ours:
        signal.signal(number, stop.note)
    try:
        yield stop
    finally:
        for number in ours:
            signal.signal(number, signal.default_int_handler)


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM, which schedulers and `docker stop` send some time before they kill, is a Ctrl-C."""
    main = threading.current_thread() is threading.main_thread()
    ours = main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
