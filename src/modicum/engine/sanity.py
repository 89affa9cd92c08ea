"""Do maps depend on what was learned?  They are drawn again from a network whose top layers know nothing.

Adebayo et al., 2018 (arXiv:1810.03292): a map that stays as it is when weights are drawn anew shows the picture, as an
edge detector would.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError
from modicum.core.method import Explain
from modicum.evaluate.sanity import Sanity, sanity
from modicum.nn.capture import Maps
from modicum.nn.capture import explain as capture
from modicum.nn.capture.targets import Targets

IMAGES = 32  # a check looks at so many at most
TOP = 0.25  # of the layers, where the grid says nothing: a transformer's are all of one size


def checked(
    model: nn.Module, x: Tensor, found: Maps, targets: Targets, methods: Sequence[str | Explain] | None = None,
    seed: int = 0, **given: Any,
) -> dict[tuple[str, str], Sanity]:  # fmt: skip
    """Whether each kind of map of `found` changes when the top layers are drawn anew.

    x: the images (B,c,H,W) of `found`; the first IMAGES are looked at, and the first target of each.  targets: those
    of `found` where they are functions.  methods: those of `found` where they were made and not named.  given: more for
    `nn.capture.explain`.  Maps that are not finite are left out; a kind that has no other is not in the answer.
    """
    x, count = x[:IMAGES], len(found.targets[:IMAGES])
    fresh = redrawn(model, x, seed)
    aims = found.targets[:IMAGES] if bool((found.targets >= 0).all()) else targets
    names = {n for n, _ in model.named_modules()} | {"spatial"}
    layers = [layer for layer in dict.fromkeys(layer for _, layer in found.maps) if layer in names] or None
    again = capture(fresh, x, aims, methods or list(found.settings), layers, **given)
    out = {}
    for key, maps in found.maps.items():
        before, after = (m[:count, 0].flatten(1).double().cpu() for m in (maps, again.maps[key]))
        good = before.isfinite().all(1) & after.isfinite().all(1)
        if good.any():
            out[key] = sanity(before[good].numpy(), after[good].numpy())
    return out


def warned(found: Mapping[tuple[str, str], Sanity]) -> list[str]:
    """Sentences about the kinds of maps that did not change."""
    failed = ((f"{method} at {layer}", s.said) for (method, layer), s in found.items() if not s.passed)
    return [f"{what}: {said[0].lower()}{said[1:]}" for what, said in failed]


def redrawn(model: nn.Module, x: Tensor, seed: int = 0) -> nn.Module:
    """A copy of the network whose last stage and head were never trained.

    The last stage: layers that run from the first on whose maps have the final grid; the last quarter of the layers
    where that would be more than half of them.  Matrices and filters are drawn from a normal distribution of mean 0 and
    of their own mean square, so that signals keep their size; vectors (biases, scales) are put in a random order; batch
    norm takes its statistics from x (B,c,H,W) again.
    """
    fresh = copy.deepcopy(model).eval().requires_grad_(False)
    draws = torch.Generator().manual_seed(seed)
    top = _top(fresh, x)
    for module in top:
        for p in module.parameters(recurse=False):
            flat = p.detach().flatten().cpu()
            if p.ndim > 1:
                size = flat.float().square().mean().sqrt()
                flat = size * torch.randn(flat.shape, generator=draws, dtype=torch.float32)
            else:
                flat = flat[torch.randperm(len(flat), generator=draws)]
            p.copy_(flat.view_as(p))
    _settle(fresh, x, [m for m in top if isinstance(m, nn.modules.batchnorm._BatchNorm)])
    return fresh


def _top(model: nn.Module, x: Tensor) -> list[nn.Module]:
    """The last stage and the head: modules with parameters of their own, in the order in which they first run."""
    ran: dict[nn.Module, int] = {}

    def watch(module: nn.Module, given: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            ran.setdefault(module, out.shape[2] * out.shape[3] if out.ndim == 4 and len(out) == 1 else 0)

    own = [m for m in model.modules() if any(True for _ in m.parameters(recurse=False))]
    hooks = [m.register_forward_hook(watch) for m in own]
    try:
        with torch.no_grad():
            model(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    order, grids = list(ran), list(ran.values())
    maps = [g for g in grids if g > 1]
    if not order:
        raise ModelError("no layer has weights", where="sanity check", fix="Explain a trained network.")
    first = grids.index(maps[-1]) if maps else len(order)
    if first < len(order) / 2 or not maps:
        first = min(len(order) - 1, round(len(order) * (1 - TOP)))
    return order[first:]


def _settle(model: nn.Module, x: Tensor, norms: list[nn.modules.batchnorm._BatchNorm]) -> None:
    """Running statistics of redrawn layers from the images: the old ones are of activations that are gone."""
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    if norms:
        with torch.no_grad():
            model(x if len(x) > 1 else x.repeat(2, 1, 1, 1))
    model.eval()
