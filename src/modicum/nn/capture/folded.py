"""Batch norm folded into the convolution before it, for passes of which only the answer counts.

    norm(W x + b) = (g W) x + g (b - m) + c        g = weight / sqrt(var + eps);  m, c: running mean, bias

Nothing is copied and no module is touched: while a Folded lasts, convolutions are computed with other weights, and the
norms that these hold give what they are given.  What can be folded is seen in a pass, whoever wrote the network: a
convolution that runs once, with weights that are kept, and whose output nothing reads but a norm in evaluation mode.
All else runs as it is, and all of the network does where one image is answered otherwise with what was folded.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SAME = 1e-4  # largest error of a score, relative to the largest score, at which a folded network counts as the same
NORM = inspect.signature(F.batch_norm)


class Weights(NamedTuple):
    """own: of the convolution, as the network has them.  weight, bias: what stands in their place."""

    own: Tensor
    weight: Tensor
    bias: Tensor


class Folded(TorchFunctionMode):
    """While it lasts, these convolutions hold the norm that follows them."""

    def __init__(self, weights: list[Weights]) -> None:
        super().__init__()
        self.weights = {id(w.own): w for w in weights}
        self._open = dict[int, Tensor]()  # outputs whose norm is still to come

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._open.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is torch.conv2d and len(args) > 1 and id(args[1]) in self.weights:
            new = self.weights[id(args[1])]
            rest = {k: v for k, v in given.items() if k != "bias"}
            out = func(args[0], new.weight, new.bias, *args[3:], **rest)
            self._open[id(out)] = out
            return out
        if func is F.batch_norm and args and id(args[0]) in self._open:
            return self._open.pop(id(args[0]))
        return func(*args, **given)


def folded(score: Callable[[], Tensor], scale: float) -> Folded:
    """What can be folded of the network that `score` runs, as it is to run later; nothing where the scores then differ.

    score() -> scores of one image, of any shape.  scale: size of the largest score that counts.
    """
    with _Watch() as watch:
        wanted = score()
    found = Folded(watch.weights())
    if found.weights:
        with found:
            same = bool(((score() - wanted).abs() <= SAME * scale).all())
        found = found if same else Folded([])
    return found


class _Watch(TorchFunctionMode):
    """Who reads what convolutions give."""

    def __init__(self) -> None:
        super().__init__()
        self.made = dict[int, tuple[Tensor, Tensor, Tensor | None]]()  # by the number of the output, which is kept
        self.runs, self.readers = Counter[int](), Counter[int]()
        self.norms = dict[int, dict[str, Any]]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        if isinstance(out, Tensor):
            for each in [*args, *given.values()]:
                self.readers.update(id(t) for t in (each if isinstance(each, tuple | list) else [each]))
        if func is F.batch_norm and args and id(args[0]) in self.made:
            self.norms[id(args[0])] = NORM.bind(*args, **given).arguments
        if func is torch.conv2d and len(args) > 1:
            self.made[id(out)] = (out, args[1], args[2] if len(args) > 2 else given.get("bias"))
            self.readers[id(out)] = 0  # a tensor that is gone may have had its number
            self.runs[id(args[1])] += 1
        return out

    def weights(self) -> list[Weights]:
        found = []
        for key, (_, own, bias) in self.made.items():
            norm = self.norms.get(key, {})
            fixed = not norm.get("training") and isinstance(norm.get("running_mean"), Tensor)
            kept = isinstance(own, torch.nn.Parameter) and own.dtype in (torch.float32, torch.float64)
            if fixed and kept and self.readers[key] == 1 == self.runs[id(own)]:
                found.append(_joined(own, bias, norm))
        return found


def _joined(own: Tensor, bias: Tensor | None, norm: dict[str, Any]) -> Weights:
    mean, var = norm["running_mean"].double(), norm["running_var"].double()
    gain = (var + norm.get("eps", 1e-5)).rsqrt()
    if norm.get("weight") is not None:
        gain = gain * norm["weight"].double()
    shift = (-mean if bias is None else bias.double() - mean) * gain
    if norm.get("bias") is not None:
        shift = shift + norm["bias"].double()
    weight = own.double() * gain[:, None, None, None]
    return Weights(own, weight.to(own.dtype).contiguous(memory_format=torch.channels_last), shift.to(own.dtype))
