"""Which layer is looked at where none is named.

One image goes through the network once, and every module is watched; the answer is kept for as long as the network.
- A Net that pools maps: those maps (`spatial`).
- A segmenter (its output is maps): of the part called backbone or encoder, or else of the coarsest maps, the last.
- A detector (its output holds no logits): of that part too, if there is one.
- A transformer whose head reads a class token: the norm before the last attention, since whatever follows that
  attention has no gradient on the patches.
- All others: the last module whose output is maps of more than one position.
Only modules count that give one tensor, on whose positions the greatest logit depends (if any), and none inside pooling
or attention.  Of several that give the same tensor, the outermost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.nn.capture.attention import Tap
from modicum.nn.capture.hooks import SPATIAL
from modicum.nn.capture.layout import Layout, grid, layout, patches
from modicum.nn.capture.targets import logits_of

LOST = 2  # positions by which maps may miss the image's shape: convolutions without padding lose them
_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Place]] = WeakKeyDictionary()


class Place(NamedTuple):
    """layer: its dotted name.  attention: whether the network attends to all of its patches at once, and its head reads
    a token or their mean."""

    layer: str
    attention: bool


class _Event(NamedTuple):
    name: str
    module: nn.Module
    out: Tensor
    layout: Layout


def place(model: nn.Module, x: Tensor) -> Place:
    """The layer that the rule above gives for images like x (B,c,H,W).  ModelError where none holds maps."""
    known = _KNOWN.setdefault(model, {})
    key = tuple(x.shape[1:])
    if key not in known or not any(n == known[key].layer for n, _ in [*model.named_modules(), (SPATIAL, None)]):
        known[key] = _probe(model, x[:1])
    return known[key]


def pooled(model: nn.Module, prefix: int) -> bool:
    """Whether the head reads the patches: there is no class token, or the network says so (timm's `global_pool`)."""
    said = (getattr(m, "global_pool", None) for m in model.modules())
    return prefix == 0 or any(isinstance(s, str) and s not in ("", "token") for s in said)


def _probe(model: nn.Module, x: Tensor) -> Place:
    cells = False
    if isinstance(model, Net):
        with torch.no_grad():
            cells, maps = model(x).masks is not None, model.spatial(model.normalise(x))
        if maps.ndim == 4 and maps[0, 0].numel() > 1 and not cells:
            return Place(SPATIAL, False)
    with torch.enable_grad():
        seen = _watched(model, x.detach().clone().requires_grad_())
        events = seen.events
        if cells or seen.logits is None or seen.logits.ndim == 4:
            events = _inside(events) or (events if seen.logits is None else _coarsest(events))
        size, step = (x.shape[2], x.shape[3]), patches(model)
        whole = {n for n in seen.sizes if step is not None and grid(n, size, step) is not None}
        events = _felt([e for e in events if e.out.ndim == 3 or e.out.shape[2] not in whole], seen.logits)
    if not events:
        fix = "Name a layer, and how to read its output as maps (`layers`, `transforms`)."
        raise ModelError("no layer gives maps of more than one position", where=type(model).__name__, fix=fix)
    last = events[-1]
    attends = len(whole) == 1 == len(seen.sizes) and not seen.asked
    if last.layout.prefix > 0 and seen.norm and not pooled(model, last.layout.prefix):
        return Place(seen.norm, attends)
    return Place(_outermost(e for e in events if _same(e.out, last.out)), attends)


class _Seen(NamedTuple):
    """events: modules that gave maps, in the order in which they ended.  norm: the last norm of tokens before the last
    attention.  sizes: numbers of tokens that attend to each other.  asked: whether a single token asks all others apart
    from that.  logits: where the output holds any."""

    events: list[_Event]
    norm: str
    sizes: set[int]
    asked: bool
    logits: Tensor | None


def _watched(model: nn.Module, x: Tensor) -> _Seen:
    events, norm, sizes, size, step = list[_Event](), "", set[int](), (x.shape[2], x.shape[3]), patches(model)
    pools = tuple(f"{n}." for n, m in model.named_modules() if n and "Pool" in type(m).__name__)

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, out: Any) -> None:
            parts = [o for o in out if isinstance(o, Tensor)] if isinstance(out, tuple) else [out]
            out = parts[0] if len(parts) == 1 else None
            if not isinstance(out, Tensor) or out.ndim not in (3, 4) or len(out) != 1:
                return
            how = layout(out, size, step)
            if how is None or f"{name}.".startswith(pools):
                return
            h, w = how.to(out).shape[2:]
            if h * w > 1 and h <= size[0] and abs(h * size[1] / size[0] - w) <= LOST:
                events.append(_Event(name, module, out, how))

        return hook

    def attend(weights: Tensor) -> Tensor:
        nonlocal norm
        sizes.add(weights.shape[-1] if len(weights) == 1 else 0)
        norms = [e for e in events if "Norm" in type(e.module).__name__ and _tokens(e.out) == weights.shape[-1]]
        norm = norms[-1].name if norms else norm
        return weights

    with ExitStack() as stack:
        for name, m in model.named_modules():
            if name:
                stack.callback(m.register_forward_hook(watch(name)).remove)
        tap = stack.enter_context(Tap(model, attend))
        output = model(x)
    try:
        return _Seen(events, norm, sizes, tap.asked, logits_of(output))
    except ModelError:  # of no use to functions of another output
        return _Seen(events, norm, sizes, tap.asked, None)


def _tokens(out: Tensor) -> int:
    """Of (B,N,K) the N; of maps 0."""
    return out.shape[1] if out.ndim == 3 else 0


def _felt(events: list[_Event], logits: Tensor | None) -> list[_Event]:
    """Those on which the greatest logit depends at the positions; all where it depends on none, or there is none."""
    if logits is None or not logits.requires_grad or not events:
        return events
    found = torch.autograd.grad(logits.flatten(1).amax(1).sum(), [e.out for e in events], allow_unused=True)
    tied = [(e, g) for e, g in zip(events, found) if g is not None]
    felt = [e for e, g in tied if bool(e.layout.to(g).any())]
    return felt or [e for e, _ in tied] or events


def _inside(events: list[_Event]) -> list[_Event]:
    return [e for e in events if e.name.startswith(("backbone.", "encoder."))]


def _coarsest(events: list[_Event]) -> list[_Event]:
    sizes = [e.layout.to(e.out)[0, 0].numel() for e in events]
    return [e for e, s in zip(events, sizes) if s == min(sizes)]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.data_ptr() == b.data_ptr()


def _outermost(events: Iterable[_Event]) -> str:
    """Fewest dots; the last of several; one that does nothing only where there is no other."""
    idle = (nn.Identity, nn.Dropout)
    ranked = [(isinstance(e.module, idle), e.name.count("."), -i, e.name) for i, e in enumerate(events)]
    return min(ranked)[3]
