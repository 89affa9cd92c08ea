"""What one pass of a batch shows of all its layers, handed to each method as a Seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError
from modicum.core.method import Answer, Attention, Seen
from modicum.nn.capture.folded import Folded, folded
from modicum.nn.capture.guided import Guided
from modicum.nn.capture.hooks import Pass, passed, replaced, tapped
from modicum.nn.capture.layout import Layout, grid, layout, patches
from modicum.nn.capture.targets import Aim, Targets, logits_of
from modicum.nn.capture.where import pooled

EXACT = 1e-4  # largest error of a logit, relative to the largest logit, at which the head counts as linear on averages

LARGE = 160 * 160  # pixels of an image from which channels last pays on a processor (benchmarks/maps.py)


class Wish(NamedTuple):
    """layers: dotted names.  transforms: how to read some of them.  graph: whether any method needs a gradient.
    attention: whether any reads attention.  flat: those of `layers` of which nobody asks a gradient."""

    layers: Sequence[str]
    transforms: Mapping[str, Layout]
    graph: bool
    attention: bool
    flat: Sequence[str] = ()


class Shot:
    """One pass of x (B,c,H,W).  acts, rows, grads: of each layer by name, as in Seen; grads are worked out once.

    aim: targets, or those of another shot.  ModelError where a layer holds no maps.
    """

    def __init__(self, model: nn.Module, x: Tensor, wish: Wish, aim: Targets | Aim) -> None:
        self.model, self.x, self.wish, self.notes = model, x, wish, list[str]()
        self.format, self.found = _run(model, x, wish)
        with torch.set_grad_enabled(wish.graph):
            if isinstance(aim, Aim):
                aim.look(self.found.output)
            self.aim = aim if isinstance(aim, Aim) else Aim(aim, self.found.output, len(x))
            self._scores = self.aim.scores(self.found.output)
        self.count = self._scores.shape[1]
        if len(self._scores) != len(x):
            fix = "A target must be a score for each image."
            raise ModelError(f"{len(self._scores)} scores for {len(x)} images", where="explain", fix=fix)
        self.layouts = {n: self._layout(n) for n in wish.layers}
        self.acts = {n: wide(self.layouts[n].to(out.detach())) for n, out in self.found.seen.items()}
        self.rows = {n: self._rows(acts) for n, acts in self.acts.items()}
        self._grads: dict[str, Tensor] | None = None
        self._slopes: tuple[Tensor, ...] = ()

    def answer(self) -> Answer:
        """Scores and probabilities of the targets."""
        with torch.no_grad():
            return self.aim.answer(self.found.output)

    def seen(self, name: str, gradient: bool) -> Seen:
        """One layer, as a method is shown it."""
        if gradient:
            self._backward()
        grads = self._grads[name] if gradient and self._grads else None
        return Seen(
            self.count, self.x, self.acts[name], grads, self.rows[name], self.notes,
            lambda i, acts: self._rest(name, i, acts), self._look,
            lambda images: self._again(name, images).seen(name, gradient), self._guided, classes=self.aim.classes,
        )  # fmt: skip

    def attention(self, gradient: bool) -> Seen:
        """All attention, as a method is shown it."""
        weights = tuple(wide(w.detach()) for w in self.found.weights)
        sizes = {w.shape[-1] for w in weights}
        step = patches(self.model)
        size = (self.x.shape[2], self.x.shape[3])
        place = grid(next(iter(sizes)), size, step) if len(sizes) == 1 else None
        if place is None:
            counts = f" (but over {', '.join(map(str, sorted(sizes)))} tokens)" if sizes else ""
            fix = "Take a vision transformer, or a method that reads a layer's maps."
            found = f"there is no attention over the patches of the image{counts}"
            raise ModelError(found, where=type(self.model).__name__, fix=fix)
        if self.found.asked:
            found = "the head asks the patches by an attention of its own, which this method does not follow"
            raise ModelError(found, where=type(self.model).__name__, fix="Take a method that reads a layer's maps.")
        if gradient:
            self._backward()
        prefix, shape = place
        query = torch.zeros(next(iter(sizes)), device=self.x.device)
        if pooled(self.model, prefix):
            query[prefix:] = 1 / (shape[0] * shape[1])
        else:
            query[0] = 1
        seen = Attention(weights, self._slopes if gradient else (), prefix, query)
        none = self.x.new_zeros(len(self.x), 0, *shape)
        return Seen(
            self.count, self.x, none, None, None, self.notes, _nothing, self._look,
            lambda images: self._again("", images).attention(gradient), self._guided, seen,
        )  # fmt: skip

    def _layout(self, name: str) -> Layout:
        if name in self.wish.transforms:
            return self.wish.transforms[name]
        out = self.found.seen[name]
        how = layout(out, (self.x.shape[2], self.x.shape[3]), patches(self.model) if out.ndim == 3 else None)
        if how is None or how.to(out)[0, 0].numel() < 2:
            fix = "Name a layer before pooling, or say how to read this one (`transforms`)."
            raise ModelError(f"layer {name!r} has no maps: it gives {tuple(out.shape)}", where="explain", fix=fix)
        return how

    def _rows(self, acts: Tensor) -> Tensor | None:
        if self.aim.functions or self.aim.region is not None:
            return None
        head = linear_head(self.model, acts, logits_of(self.found.output).detach())
        return None if head is None else self.aim.weights(head)

    def _backward(self) -> None:
        """The gradient of every target's score by every layer and all attention: at most one backward pass."""
        if self._grads is not None:
            return
        self._grads = {n: _spread(rows, self.acts[n]) for n, rows in self.rows.items() if rows is not None}
        open_ = [n for n in self.wish.layers if n not in self._grads and n not in self.wish.flat]
        inputs = [*(self.found.seen[n] for n in open_), *self.found.weights]
        with torch.enable_grad():
            slopes = _slopes(self._scores, inputs) if inputs else []
        for name, slope in zip(open_, slopes):
            self._grads[name] = self._as_maps(name, slope)
        given = zip(self.found.weights, slopes[len(open_) :])
        shape = (len(self.x), self.count)
        self._slopes = tuple(
            w.new_zeros(*shape, *w.shape[1:]) if s is None else wide(s.transpose(0, 1)) for w, s in given
        )
        self._scores = self._scores.detach()

    def _as_maps(self, name: str, slope: Tensor | None) -> Tensor:
        """Gradients (T,B,...) by a layer's output as (B,T,K,h,w)."""
        fix = "Name an earlier layer: in a transformer with a class token, the norm before the last attention."
        if slope is None:
            raise ModelError(f"the scores do not depend on layer {name!r}", where="explain", fix=fix)
        out = wide(torch.stack([self.layouts[name].to(s) for s in slope], 1))
        if not bool(out.any()):
            if self.layouts[name].prefix > 0 and bool(slope.any()):
                found = f"the patches of layer {name!r} have no gradient: the head reads other tokens alone"
                raise ModelError(found, where="explain", fix=fix)
            self.notes.append(f"the gradient at {name} is zero everywhere: the scores do not depend on it here")
        return out

    def _rest(self, name: str, i: int, acts: Tensor) -> Answer:
        how, own = self.layouts[name], self.found.seen[name][i : i + 1].detach()
        if how.back is None:
            fix = "Give `transforms` a Layout with `back`."
            raise ModelError(f"nobody said how maps are written to layer {name!r}", where="explain", fix=fix)
        x = self.x[i : i + 1].contiguous(memory_format=self.format)
        with self._folded:
            output = replaced(self.model, x, name, how.back(acts, own).contiguous(), self.found.runs[name])
        answer = self.aim.answer(output, i)
        if len(answer.scores) != len(acts):
            fix = "Name another layer."
            raise ModelError(f"other maps at layer {name!r} do not reach the output", where="explain", fix=fix)
        return answer

    def _look(self, i: int, images: Tensor) -> Answer:
        with torch.no_grad(), self._folded:
            return self.aim.answer(self.model(images.contiguous(memory_format=self.format)), i)

    @cached_property
    def _folded(self) -> Folded:
        """For passes of which only the answer counts; what is put in a layer's place is never folded away."""
        x = self.x[:1].contiguous(memory_format=self.format)

        def score() -> Tensor:
            with torch.no_grad(), tapped(self.model, self.wish.layers, lambda _, out: out.clone()):
                return self.aim.scores(self.model(x), 0)

        with torch.autocast(x.device.type, enabled=False):
            return folded(score, float(self._scores.detach().abs().max()))

    def _guided(self) -> Tensor:
        x = self.x.clone().contiguous(memory_format=self.format).requires_grad_()
        with torch.enable_grad():
            with Guided():
                output = self.model(x)
            (found,) = _slopes(self.aim.scores(output), [x])
        return x.new_zeros(len(x), self.count, *x.shape[1:]) if found is None else found.transpose(0, 1)

    def _again(self, name: str, images: Tensor) -> Shot:
        wish = self.wish._replace(layers=[name] if name else [], attention=not name)
        return Shot(self.model, images, wish, self.aim.again())


def _run(model: nn.Module, x: Tensor, wish: Wish) -> tuple[torch.memory_format, Pass]:
    """The pass, and the order of the images in memory.

    On a processor convolutions of large images are faster with channels last (of small ones some are slower).  A
    network that takes its maps apart as if they came first refuses that, and is given them so.
    """
    large = x.device.type == "cpu" and x.shape[2] * x.shape[3] >= LARGE
    ways = [torch.channels_last, torch.contiguous_format] if large else [torch.contiguous_format]
    for way in ways:
        try:
            given = x.contiguous(memory_format=way)
            return way, passed(model, given, wish.layers, graph=wish.graph, attention=wish.attention)
        except RuntimeError:
            if way is ways[-1]:
                raise
    raise AssertionError


def linear_head(model: nn.Module, acts: Tensor, logits: Tensor) -> Tensor | None:
    """The weights (C,K) of a last layer that is linear on averaged maps, checked on this batch; None without one."""
    allowed = max(EXACT, 4 * torch.finfo(logits.dtype).eps) * logits.abs().max()
    means = wide(acts).mean((2, 3))
    for m in reversed(list(model.modules())):
        if not isinstance(m, nn.Linear | nn.Conv2d) or m.weight.shape[:2] != (logits.shape[1], acts.shape[1]):
            continue
        if m.weight[0, 0].numel() != 1:
            continue
        weight, bias = wide(m.weight.detach().flatten(1)), None if m.bias is None else wide(m.bias.detach())
        error = nn.functional.linear(means, weight, bias) - wide(logits)
        if bool((error.abs() <= allowed).all()):
            return weight
    return None


def wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x if x.dtype == torch.float64 else x.float()


def _spread(rows: Tensor, acts: Tensor) -> Tensor:
    """The gradient where the head is linear on averages: its rows (B,T,K) over the number of positions."""
    return (rows / acts[0, 0].numel())[..., None, None].expand(*rows.shape, *acts.shape[2:])


def _slopes(scores: Tensor, inputs: list[Tensor]) -> list[Tensor | None]:
    """Gradients (T,B,...) of each column of scores (B,T) by each input (B,...): images do not act on each other."""
    totals = scores.sum(0)
    if not totals.requires_grad:
        return [None] * len(inputs)
    if len(totals) == 1:
        found = torch.autograd.grad(totals[0], inputs, allow_unused=True)
        return [None if g is None else g[None] for g in found]
    each = torch.eye(len(totals), dtype=totals.dtype, device=totals.device)
    try:
        return list(torch.autograd.grad(totals, inputs, each, True, allow_unused=True, is_grads_batched=True))
    except RuntimeError:  # an operation that has no rule for many gradients at once
        rows = [torch.autograd.grad(totals, inputs, one, True, allow_unused=True) for one in each]
        return [None if g[0] is None else torch.stack(g) for g in zip(*rows)]


def _nothing(i: int, acts: Tensor) -> Answer:
    raise ModelError("attention has no maps to replace", where="explain", fix="Take a method that reads a layer.")
