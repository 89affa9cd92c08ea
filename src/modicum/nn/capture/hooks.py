"""One pass of a network in which some layers are watched, and a network that is left as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.nn.capture.attention import Tap

SPATIAL = "spatial"  # the layer of a Net that is no module: its maps before pooling
See = Callable[[str, Tensor], Tensor]


class Pass(NamedTuple):
    """output: what the model gave.  seen: what each layer gave, in the last of its `runs`.  weights: of each attention,
    (B,heads,N,N).  asked: whether a single token asked all others apart from those."""

    output: Any
    seen: dict[str, Tensor]
    runs: Counter[str]
    weights: list[Tensor]
    asked: bool


@contextmanager
def quiet(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode in full precision; modes and random state are put back, also after an exception.

    Flags are set one by one, since a part may override `train` and `eval` and then not come back.
    """
    was = [(m, m.training) for m in model.modules()]
    cuda = [device] if device.type == "cuda" else []
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False), torch.random.fork_rng(cuda):
        try:
            for m, _ in was:
                m.training = False
            yield
        finally:
            for m, training in was:
                m.training = training


@contextmanager
def tapped(model: nn.Module, names: Sequence[str], see: See) -> Iterator[None]:
    """While it lasts, what a layer gives goes through `see(name, output)`, and the next layer reads what that gives."""
    with ExitStack() as stack:
        for name in names:
            if name == SPATIAL and isinstance(model, Net):
                stack.enter_context(_spatial(model, see))
            else:
                handle = model.get_submodule(name).register_forward_hook(_hook(name, see))
                stack.callback(handle.remove)
        yield


@contextmanager
def _spatial(net: Net, see: See) -> Iterator[None]:
    """A Net's `spatial` is a function: another stands before it, in the instance, for a while."""
    own = net.__dict__.get(SPATIAL)
    inner = net.spatial
    net.__dict__[SPATIAL] = lambda x: see(SPATIAL, inner(x))
    try:
        yield
    finally:
        del net.__dict__[SPATIAL]
        if own is not None:
            net.__dict__[SPATIAL] = own


def _hook(name: str, see: See) -> Callable[..., Any]:
    def hook(module: nn.Module, given: Any, out: Any) -> Any:
        if isinstance(out, Tensor):
            return see(name, out)
        if isinstance(out, tuple | list) and out and isinstance(out[0], Tensor):
            return type(out)((see(name, out[0]), *out[1:]))
        fix = "Name a layer inside it."
        raise ModelError(f"layer {name!r} gives no tensor but a {type(out).__name__}", where="explain", fix=fix)

    return hook


def passed(model: nn.Module, x: Tensor, names: Sequence[str], *, graph: bool, attention: bool = False) -> Pass:
    """The model on x, with what the named layers gave.

    graph: keep what a backward pass needs from the first watched layer on; nothing before it is kept, and no parameter
    needs a gradient.  attention: watch all attention too.  The next layer gets a copy: it may change it in place.
    """
    seen, runs, weights = dict[str, Tensor](), Counter[str](), list[Tensor]()

    def begin(out: Tensor) -> Tensor:
        if graph and not torch.is_grad_enabled():
            out = out.detach().requires_grad_()
            torch.set_grad_enabled(True)  # until the no_grad below ends
        return out

    def see(name: str, out: Tensor) -> Tensor:
        seen[name] = begin(out)
        runs[name] += 1
        return seen[name].clone()

    def attend(found: Tensor) -> Tensor:
        if len(found) != len(x):
            return found  # attention within windows
        weights.append(begin(found))
        return weights[-1]

    tap = Tap(model, attend)
    with torch.no_grad(), tapped(model, names, see), tap if attention else nullcontext():
        output = model(x)
    for name in names:
        if name not in seen:
            fix = "Name a layer that runs in evaluation mode."
            raise ModelError(f"layer {name!r} did not run", where="explain", fix=fix)
    return Pass(output, seen, runs, weights, tap.asked)


def replaced(model: nn.Module, x: Tensor, name: str, out: Tensor, runs: int) -> Any:
    """The model on one image x (1,c,H,W) with other outputs (n,...) in place of a layer's, in the last of its `runs`.

    What comes before the layer runs once, since everything behind it spreads over the n.  Where that fails, because
    what comes before is joined to what follows, all of it runs n times.
    """
    done = 0

    def put(_: str, own: Tensor) -> Tensor:
        nonlocal done
        done += 1
        return out.to(own.dtype).clone() if done == runs else own

    with torch.no_grad(), tapped(model, [name], put):
        try:
            return model(x)
        except RuntimeError:
            done = 0
            return model(x.expand(len(out), -1, -1, -1))
