"""Optimisers: built from a recipe, flattened into tensors and plain values, and put back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modicum.core.errors import NeedsError
from modicum.core.recipe import Optim


def make_optimiser(nets: nn.Module, trains: tuple[str, ...], given: Optim) -> torch.optim.Optimizer:
    """An optimiser over the parameters whose names start with one of `trains` (all where it is empty).

    Vectors (biases, norms) are not decayed.
    """
    wanted = tuple(f"{t}." for t in trains) or ("",)
    named = [(n, p) for n, p in nets.named_parameters() if p.requires_grad and f"{n}.".startswith(wanted)]
    if not named:
        raise NeedsError(f"nothing to train under {', '.join(trains) or 'the nets'}", fix="Check the Turn's `trains`.")
    matrices, vectors = [p for _, p in named if p.ndim > 1], [p for _, p in named if p.ndim <= 1]
    decays = ((matrices, given.weight_decay), (vectors, 0.0))
    groups = [{"params": ps, "weight_decay": decay} for ps, decay in decays if ps]
    for group in groups:
        group["base_lr"] = given.lr
    if given.name == "adamw":
        return torch.optim.AdamW(groups, lr=given.lr, betas=(given.momentum, 0.999), foreach=True)
    nesterov = given.nesterov and given.momentum > 0
    return torch.optim.SGD(groups, lr=given.lr, momentum=given.momentum, nesterov=nesterov, foreach=True)


def gradients(optimiser: torch.optim.Optimizer, world: int, clip: float) -> None:
    """Sum gradients over processes (losses are already divided by global counts), and clip their norm.

    A parameter that has a gradient in no process stays without: zeros would let weight decay and momentum move it.
    """
    parameters = [p for g in optimiser.param_groups for p in g["params"]]
    if world > 1:
        there = parameters[0].new_tensor([p.grad is not None for p in parameters])
        given = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(g.reshape(-1) for g in given), there])
        torch.distributed.all_reduce(flat)
        parts = flat.split([*(p.numel() for p in parameters), len(parameters)])
        for p, part, count in zip(parameters, parts, parts[-1].tolist(), strict=False):
            p.grad = part.view_as(p).clone() if count else None
    if clip:
        torch.nn.utils.clip_grad_norm_(parameters, clip)


def state_of(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """-> tensors by `parameter.name`, and what is not a tensor."""
    state = optimiser.state_dict()["state"]
    tensors = {f"{i}.{k}": v for i, values in state.items() for k, v in values.items() if torch.is_tensor(v)}
    plain = {f"{i}.{k}": v for i, values in state.items() for k, v in values.items() if not torch.is_tensor(v)}
    return tensors, plain


def restore(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Undo `state_of`.  Tensors are copied."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**plain, **tensors}.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value.clone() if torch.is_tensor(value) else value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, values in optimiser.state.items():
        if any(torch.is_tensor(v) and v.ndim and v.shape != parameter.shape for v in values.values()):
            raise ValueError("the optimiser's state is of other parameters")


@torch.no_grad()
def average(lanes: list[list[torch.optim.Optimizer]]) -> None:
    """Give every lane the mean of all lanes' states (momenta), optimiser by optimiser.  Lanes have the same turns."""
    for same in zip(*lanes, strict=True):
        states = [state_of(o)[0] for o in same]
        shared = [k for k in states[0] if all(k in s for s in states)]
        for key in shared:
            mean = torch.stack([s[key].double() for s in states]).mean(0)
            for s in states:
                s[key].copy_(mean)
