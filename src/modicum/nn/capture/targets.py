"""What is explained: T scores an image, each a function of the network's output.

A class's score is its logit.  Of a segmenter, whose output is (B,C,H,W), a class's logit is the mean over the pixels
where it is the most probable class, over all pixels where it is so nowhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modicum.core.errors import DataError, ModelError
from modicum.core.method import Answer

Function = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Finer:
    """What tells a class from those nearest to it (Finer-CAM, arXiv:2501.11309), for any method.

    score = sum_i p_i (y_n - a y_i) / (sum_i p_i + 1e-9), i over the `nearest` classes whose logits are closest to y_n;
    p are probabilities, taken as constants.  of: None (the most probable class), int, (B,) or (B,T).  a = 0: the logit.
    """

    of: Any = None
    a: float = 1.0
    nearest: int = 3

    def rows(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Logits (B,C), classes (B,T) -> what each logit counts for each score, (B,T,C)."""
        own = torch.nn.functional.one_hot(classes, logits.shape[1]).to(logits.dtype)
        if logits.shape[1] < 2 or self.nearest < 1:
            raise DataError("no other class to compare with", where="explain", fix="Explain the class itself.")
        far = (logits[:, None] - logits.gather(1, classes)[..., None]).abs().masked_fill(own.bool(), torch.inf)
        near = far.topk(min(self.nearest, logits.shape[1] - 1), 2, largest=False).indices
        p = logits.softmax(1)[:, None].expand_as(far).gather(2, near)
        shares = torch.zeros_like(far).scatter(2, near, p / (p.sum(2, keepdim=True) + 1e-9))
        return own * shares.sum(2, keepdim=True) - self.a * shares


Targets = int | Tensor | Sequence[int] | Sequence[Sequence[int]] | Finer | Function | Sequence[Function] | None


def logits_of(output: Any) -> Tensor:
    """The logits in what a network gave: itself, `.logits`, `["logits"]`, `["out"]` or the first of a tuple."""
    found = getattr(output, "logits", output)
    if isinstance(found, Mapping):
        found = found.get("logits", found.get("out"))
    elif isinstance(found, tuple | list) and found:
        found = found[0]
    if isinstance(found, Tensor) and found.ndim in (2, 4):
        return found
    what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"type {type(output).__name__}"
    fix = "Give a function of the output as target."
    raise ModelError(f"the network's output, of {what}, is not (B,C) or (B,C,H,W)", where="explain", fix=fix)


class Aim:
    """Targets of a batch.  classes: int64 (B,T), -1 where a target is no class.  rows: of Finer, (B,T,C), else None."""

    def __init__(self, targets: Targets, output: Any, images: int) -> None:
        self.functions = _functions(targets)
        self.rows: Tensor | None = None
        self.region: Tensor | None = None
        if self.functions:
            count = self.scores(output).shape[1]
            self.classes = torch.full((images, count), -1)
            return
        self.look(output)
        logits = self.logits(output).detach()
        self.classes = _classes(targets.of if isinstance(targets, Finer) else targets, logits)
        if isinstance(targets, Finer):
            self.rows = targets.rows(logits, self.classes)

    def again(self) -> Aim:
        """The same targets, for another pass over the same images."""
        return copy.copy(self)

    def look(self, output: Any) -> None:
        """Remember where a segmenter sees each class."""
        if not self.functions:
            y = logits_of(output)
            self.region = y.detach().argmax(1) if y.ndim == 4 else None

    def logits(self, output: Any, image: int | None = None) -> Tensor:
        """(n,C): of the batch, or of n other looks at one of its images."""
        y = logits_of(output)
        if y.ndim == 2:
            return y
        assert self.region is not None
        region = self.region if image is None else self.region[image : image + 1]
        here = torch.nn.functional.one_hot(region, y.shape[1]).movedim(3, 1).to(y.dtype)
        here = torch.where(here.sum((2, 3), keepdim=True) > 0, here, 1)
        return (y * here).sum((2, 3)) / here.sum((2, 3))

    def scores(self, output: Any, image: int | None = None) -> Tensor:
        """(n,T)."""
        if self.functions:
            return _called(self.functions, output)
        y = self.logits(output, image)
        if self.rows is not None:
            rows = self.rows if image is None else self.rows[image].expand(len(y), -1, -1)
            return torch.einsum("btc,bc->bt", rows, y)
        return y.gather(1, self.classes if image is None else self.classes[image].expand(len(y), -1))

    def answer(self, output: Any, image: int | None = None) -> Answer:
        """Scores and, where a target is a class and no more, its probability (softmax); both (n,T), float32."""
        scores = self.scores(output, image).float()
        if self.functions or self.rows is not None:
            return Answer(scores, torch.full_like(scores, torch.nan))
        p = self.logits(output, image).float().softmax(1)
        return Answer(scores, p.gather(1, self.classes if image is None else self.classes[image].expand(len(p), -1)))

    def weights(self, head: Tensor) -> Tensor:
        """A linear head (C,K) -> the weights of every target's score, (B,T,K)."""
        return head[self.classes] if self.rows is None else self.rows.to(head.dtype) @ head


def _functions(targets: Targets) -> tuple[Function, ...]:
    if isinstance(targets, Tensor | Finer | int) or targets is None:
        return ()
    if callable(targets):
        return (targets,)
    some = [callable(t) for t in targets]
    if any(some) and not all(some):
        raise DataError("functions and classes are mixed", where="explain", fix="Give targets of one kind.")
    return tuple(targets) if some and all(some) else ()  # type: ignore[arg-type]


def _called(functions: Sequence[Function], output: Any) -> Tensor:
    parts = []
    for f in functions:
        value = f(output)
        if not isinstance(value, Tensor) or value.ndim not in (1, 2):
            what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            fix = "Give (B,) or (B,T): a score an image, not one of the batch."
            raise DataError(f"a target function gave {what}", where="explain", fix=fix)
        parts.append(value[:, None] if value.ndim == 1 else value)
    return torch.cat(parts, 1)


def _classes(targets: Any, logits: Tensor) -> Tensor:
    """int64 (B,T)."""
    n, classes = logits.shape
    if targets is None:
        return logits.argmax(1, keepdim=True)
    try:
        given = torch.as_tensor(targets, device=logits.device)
    except (TypeError, ValueError, RuntimeError):
        given = torch.zeros(0)
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        fix = "Give an int, (B,) or (B,T) of them, functions of the output, or Finer."
        raise DataError(f"targets are no class numbers: {str(targets)[:60]}", where="explain", fix=fix)
    out = given.to(torch.int64)
    out = out.expand(n, 1) if out.ndim == 0 else out[:, None] if out.ndim == 1 else out
    if out.ndim != 2 or len(out) != n or not out.shape[1]:
        found = f"targets of shape {tuple(given.shape)} for {n} images"
        raise DataError(found, where="explain", fix="Give (B,) or (B,T).")
    bad = ((out < 0) | (out >= classes)).any(1).nonzero()[:, 0]
    if len(bad):
        found = f"target {out[bad[0]].tolist()} is no class"
        place = f"explain, image {int(bad[0])} of the batch"
        raise DataError(found, where=place, fix=f"Classes are 0 to {classes - 1}.")
    return out
