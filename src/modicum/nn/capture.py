"""One captured pass of a network for all explain methods and all targets.

The maps before pooling are computed without gradient; only what follows them (pool and head) is run again with it, and
only where a method needs it.  Letters: B images, T targets an image, C classes, K maps of h x w positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modicum.core.errors import DataError, ModelError, SettingsError
from modicum.core.method import Explain
from modicum.core.net import Net
from modicum.core.registry import cards, make

EXACT = 1e-4  # largest error of a logit, relative to the largest logit, at which the head counts as linear on averages


class Maps(NamedTuple):
    """maps: name -> float32 (B,T,h,w), sign kept.  scores: float32 (B,T), the logits explained.  targets: int64 (B,T).
    warnings: sentences about maps that should not be trusted."""

    maps: dict[str, Tensor]
    scores: Tensor
    targets: Tensor
    warnings: list[str]


def explain(
    net: Net, x: Tensor, targets: Tensor | int | None = None, methods: Sequence[str | Explain] = ("cam",), *,
    closed: bool = True,
) -> Maps:  # fmt: skip
    """Where the net looks for each target class: one forward, at most one backward, for all methods and targets.

    x: float (B,c,H,W) in [0,1] on the net's device.  targets: None (the most probable class), an int, int (B,) or
    (B,T).  methods: names of explain methods, or methods.  closed: read the head's weights instead of a backward pass
    where that is exact: the head is linear, and every logit is its row times the mean of the maps plus its bias, to
    1e-4 of the largest logit (or to the precision of the net's numbers where that is less).

    Where it is not, a method that reads the head's weights is given, for each target, the gradient of its logit summed
    over positions (which equals them where it is), and a warning says so.  The net is left as it was: modes, gradients,
    buffers and the random state; it runs in evaluation mode and without autocast.
    ModelError for a net without maps, DataError for a target that is no class, SettingsError for another role's method.
    """
    chosen = _chosen(methods or (cheapest(),))
    if not len(x):
        raise DataError("no images", where="explain", fix="Give one at least.")
    with _quiet(net, x.device), torch.no_grad():
        acts = net.spatial(net.normalise(x))
        if acts.ndim != 4:
            raise ModelError("the net has no maps: it pools tokens", where="explain", fix="Use a convolutional net.")
        logits = net.head(net.pool(acts.clone()))
        wanted = _targets(targets, logits)
        head = linear_head(net, acts, logits) if closed else None
        acts, notes = _wide(acts), list[str]()
        grads = _backward(net, acts.to(logits.dtype), wanted, notes) if head is None else _spread(head[wanted], acts)
        if head is None and closed and not all(m.gradient for m in chosen.values()):
            notes.append(
                "the head is not linear on averaged maps: "
                "in place of its weights stands the gradient summed over positions"
            )
        maps = {name: _weigh(name, m, acts, grads, head, wanted, notes) for name, m in chosen.items()}
        return Maps(maps, logits.gather(1, wanted).float(), wanted, notes)


def cheapest() -> str:
    """The explain method used when none is named: the card of least cost."""
    known = cards("explain")
    return min(known, key=lambda n: (known[n].cost, n))


def linear_head(net: Net, acts: Tensor, logits: Tensor) -> Tensor | None:
    """The weights (C,K) of a head that is linear on averaged maps, checked on this batch; None if it is not."""
    last = net.head[-1] if isinstance(net.head, nn.Sequential) and len(net.head) else net.head
    if not isinstance(last, nn.Linear) or last.in_features != acts.shape[1]:
        return None
    weight, bias = _wide(last.weight.detach()), None if last.bias is None else _wide(last.bias.detach())
    error = nn.functional.linear(_wide(acts).mean((2, 3)), weight, bias) - _wide(logits)
    allowed = max(EXACT, 4 * torch.finfo(logits.dtype).eps) * logits.abs().max()
    return weight if bool((error.abs() <= allowed).all()) else None


@contextmanager
def _quiet(net: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode in full precision; modes and random state are put back, also after an exception.

    Flags are set one by one, since a part may override `train` and `eval` and then not come back.
    """
    was = [(m, m.training) for m in net.modules()]
    cuda = [device] if device.type == "cuda" else []
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False), torch.random.fork_rng(cuda):
        try:
            for m, _ in was:
                m.training = False
            yield
        finally:
            for m, training in was:
                m.training = training


def _targets(targets: Tensor | int | None, logits: Tensor) -> Tensor:
    """int64 (B,T)."""
    n, classes = logits.shape
    if targets is None:
        return logits.argmax(1, keepdim=True)
    out = torch.as_tensor(targets, device=logits.device).to(torch.int64)
    out = out.expand(n, 1) if out.ndim == 0 else out[:, None] if out.ndim == 1 else out
    if out.ndim != 2 or len(out) != n or not out.shape[1]:
        found = f"targets of shape {tuple(out.shape)} for {n} images"
        raise DataError(found, where="explain", fix="Give (B,) or (B,T).")
    bad = ((out < 0) | (out >= classes)).any(1).nonzero()[:, 0]
    if len(bad):
        found = f"target {out[bad[0]].tolist()} is no class"
        place = f"explain, image {int(bad[0])} of the batch"
        raise DataError(found, where=place, fix=f"Classes are 0 to {classes - 1}.")
    return out


def _backward(net: Net, acts: Tensor, wanted: Tensor, notes: list[str]) -> Tensor:
    """Gradient of each target's logit by the maps, (B,T,K,h,w): images do not interact, so each is repeated T times."""
    n, t = wanted.shape
    leaf = acts.repeat_interleave(t, 0).requires_grad_()
    with torch.enable_grad():
        score = net.head(net.pool(leaf.clone())).gather(1, wanted.reshape(-1, 1)).sum()
    found = torch.autograd.grad(score, leaf, allow_unused=True)[0] if score.requires_grad else None
    if found is None or not bool(found.any()):
        notes.append("the gradient is zero everywhere: the logits do not depend on the maps")
    return _wide(torch.zeros_like(leaf) if found is None else found).unflatten(0, (n, t))


def _spread(rows: Tensor, acts: Tensor) -> Tensor:
    """The same gradient where the head is linear on averages: its rows (B,T,K) over the number of positions."""
    return (rows / acts[0, 0].numel())[..., None, None].expand(*rows.shape, *acts.shape[2:])


def _weigh(
    name: str, method: Explain, acts: Tensor, grads: Tensor, head: Tensor | None, wanted: Tensor, notes: list[str]
) -> Tensor:
    """One method's maps, with warnings about those that say nothing."""
    if head is None and not method.gradient:
        rows = grads.sum((-2, -1)).flatten(0, 1)
        maps = method.weigh(acts, None, rows, torch.arange(len(rows), device=rows.device).view_as(wanted))
    else:
        maps = method.weigh(acts, grads if method.gradient else None, head, wanted)
    flat = maps.flatten(2)
    for what, bad in (("not finite", ~flat.isfinite().all(2)), ("zero everywhere", (flat == 0).all(2))):
        if count := int(bad.sum()):
            notes.append(f"{name}: {count} of {bad.numel()} maps are {what}")
    return maps.float()


def _wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x if x.dtype == torch.float64 else x.float()


def _chosen(methods: Sequence[str | Explain]) -> dict[str, Explain]:
    out: dict[str, Explain] = {}
    for m in methods:
        method = make(m) if isinstance(m, str) else m
        if not isinstance(method, Explain):
            raise SettingsError(f"{m!r} is not an explain method", where="explain", fix="See `modicum methods`.")
        out[m if isinstance(m, str) else m.card.name if hasattr(m, "card") else type(m).__name__] = method
    return out
