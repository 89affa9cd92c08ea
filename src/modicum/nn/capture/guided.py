"""Guided backpropagation: gradients that pass a ReLU only where they are positive, whoever wrote the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

FRESH = (F.relu, torch.relu, Tensor.relu)
IN_PLACE = (torch.relu_, Tensor.relu_)


class Guided(TorchFunctionMode):
    """While it lasts, the gradient of every ReLU is g * [x > 0] * [g > 0] (Springenberg et al., 2014)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func not in FRESH and func not in IN_PLACE:
            return func(*args, **given)
        x = args[0] if args else given["input"]
        if func in IN_PLACE or given.get("inplace") or args[1:2] == (True,):
            return x.copy_(_Guide.apply(x.clone()))
        return _Guide.apply(x)


class _Guide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return x.relu()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (active,) = ctx.saved_tensors
        return grads[0].clamp_min(0) * active
