"""Where any network looks: every layer, method and target from one forward and at most one backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from modicum.core.errors import DataError, ModelError, SettingsError, did_you_mean
from modicum.core.method import Explain
from modicum.core.net import Net
from modicum.core.recipe import parse_call
from modicum.core.registry import make
from modicum.nn.capture.fusion import FUSIONS, OUTPUTS, View, averaged, fused, known, views
from modicum.nn.capture.hooks import SPATIAL, quiet
from modicum.nn.capture.layout import Layout
from modicum.nn.capture.shot import Shot, Wish
from modicum.nn.capture.targets import Targets
from modicum.nn.capture.where import place

ATTENTION = "attention"  # stands for the layer of methods that read all attention
USUAL = {"closed": "cam", "maps": "layer-cam", ATTENTION: "gradient-rollout"}  # where no method is named
Transform = Layout | Callable[[Tensor], Tensor]


class Maps(NamedTuple):
    """maps: (method, layer) -> float32 (B,T,h,w), sign kept.  scores: float32 (B,T), what is explained.
    targets: int64 (B,T), -1 where a target is a function.  warnings: sentences about maps that should not be trusted.
    probs: float32 (B,T), each class's probability (softmax), NaN where a target is not one class.
    settings: of each method, by its name."""

    maps: dict[tuple[str, str], Tensor]
    scores: Tensor
    targets: Tensor
    warnings: list[str]
    probs: Tensor
    settings: dict[str, dict[str, Any]]


def explain(
    model: nn.Module,
    images: Tensor,
    targets: Targets = None,
    methods: Sequence[str | Explain] | str | None = None,
    layers: Sequence[str | nn.Module] | str | nn.Module | None = None,
    *,
    transforms: Mapping[str, Transform] | None = None,
    output: str = "raw",
    fuse: str = "",
    tta: Sequence[str | float] = (),
) -> Maps:
    """Where the model looks for each target.

    model: any torch module whose output holds logits: (B,C), or (B,C,H,W) of a segmenter.
    images: float (B,c,H,W), as the model wants them (a Net: in [0,1]), on its device.
    targets: None (the most probable class), an int, (B,) or (B,T) of them, `Finer`, or functions of the model's output
    that give (B,) or (B,T): of any output, then.
    methods: explain methods, by name (`score-cam:top=32`) or made.  None: CAM where the head is linear on averaged
    maps, Layer-CAM on other maps, gradient rollout for transformers.
    layers: modules or their dotted names; None: the rule of nn/capture/where.py.  Methods that read attention have the
    key (method, `attention`).
    transforms: how to read layers that this cannot, by name: a function output -> maps (B,K,h,w), or a Layout.
    output: raw, positive (ReLU) or unit (ReLU, then each map to 0..1).  fuse: mean, product or max: adds one map a
    method, keyed (method, fuse), of the images' size.  tta: `flip` and scales: maps are means over these views.

    The model is left as it was: modes, gradients, buffers, hooks and the random state.  It runs in evaluation mode and
    without autocast, and not from two threads at once.  DataError for images and targets, ModelError for a network,
    layer or score that cannot be explained, SettingsError for methods and words that there are not.
    """
    known(output, OUTPUTS, "output")
    if fuse:
        known(fuse, FUSIONS, "fusion")
    looks = views(tta)
    x = _images(model, images)
    read = {n: t if isinstance(t, Layout) else Layout(t) for n, t in (transforms or {}).items()}
    with quiet(model, x.device), torch.no_grad():
        chosen = None if methods is None else _chosen((methods,) if isinstance(methods, str) else methods)
        names = None if layers is None else _named(model, layers)
        wish = _wish(model, x, chosen, names, read)
        first = Shot(model, x, wish, targets)
        chosen = chosen or _usual(first)
        maps = _maps(first, chosen)
        if len(looks) > 1:
            others = [_view(first, view, chosen) for view in looks[1:]]
            maps = {k: averaged([m, *(o[k] for o in others)]) for k, m in maps.items()}
        notes = [*first.notes, *_doubts(maps)]
        if fuse:
            size = (x.shape[2], x.shape[3])
            for name in chosen:
                maps[name, fuse] = fused([m for (n, _), m in maps.items() if n == name], fuse, size)
        answer = first.answer()
    done = {k: OUTPUTS[output](m).float() for k, m in maps.items()}
    settings = {n: m.to_dict() for n, m in chosen.items()}
    return Maps(done, answer.scores, first.aim.classes, list(dict.fromkeys(notes)), answer.probs, settings)


def _images(model: nn.Module, images: Tensor) -> Tensor:
    if not isinstance(model, nn.Module):
        fix = "Give a torch module."
        raise ModelError(f"{type(model).__name__} is no network", where="explain", fix=fix)
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        what = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"the images are {what}", where="explain", fix="Give a float tensor (B,c,H,W).")
    if not len(images):
        raise DataError("no images", where="explain", fix="Give one at least.")
    own = next((p.device for p in model.parameters()), images.device)
    if own != images.device:
        found = f"the images are on {images.device}, the network is on {own}"
        raise DataError(found, where="explain", fix="Move the images with `.to(device)`.")
    return images.detach()


def _chosen(methods: Sequence[str | Explain]) -> dict[str, Explain]:
    out: dict[str, Explain] = {}
    for m in methods:
        method = make(*parse_call(m)) if isinstance(m, str) else m
        if not isinstance(method, Explain):
            raise SettingsError(f"{m!r} is not an explain method", where="explain", fix="See `modicum methods`.")
        name = m if isinstance(m, str) else m.card.name if hasattr(m, "card") else type(m).__name__
        if name in out:
            raise SettingsError(f"method {name!r} is given twice", where="explain", fix="Give it once, or by settings.")
        out[name] = method
    if not out:
        raise SettingsError("no methods", where="explain", fix="Name one, or give None for the usual one.")
    return out


def _named(model: nn.Module, layers: Sequence[str | nn.Module] | str | nn.Module) -> list[str]:
    """Dotted names of layers, each once."""
    given = (layers,) if isinstance(layers, str | nn.Module) else layers
    names, out = {m: n for n, m in model.named_modules() if n}, list[str]()
    for layer in given:
        if isinstance(layer, nn.Module) and layer not in names:
            fix = "Give one of its own modules."
            raise ModelError(f"the layer {type(layer).__name__} is no part of the network", where="explain", fix=fix)
        name = names[layer] if isinstance(layer, nn.Module) else layer
        if name not in names.values() and not (name == SPATIAL and isinstance(model, Net)):
            fix = did_you_mean(str(name), names.values())
            raise ModelError(f"the network has no layer {name!r}", where="explain", fix=fix)
        out.append(name)
    if not out:
        raise ModelError("no layers", where="explain", fix="Name one, or give None for the usual one.")
    return list(dict.fromkeys(out))


def _wish(
    model: nn.Module, x: Tensor, chosen: dict[str, Explain] | None, names: list[str] | None, read: dict[str, Layout]
) -> Wish:
    """What the pass must show."""
    if chosen is None:
        if names is not None:
            return Wish(names, read, True, False)
        found = place(model, x)
        return Wish([], read, True, True) if found.attention else Wish([found.layer], read, True, False)
    own = [_named(model, m.layer)[0] for m in chosen.values() if m.layer]
    if all(m.attention or m.layer for m in chosen.values()):
        names = []
    elif names is None:
        names = [place(model, x).layer]
    names = list(dict.fromkeys([*names, *own]))
    graph = any(m.gradient for m in chosen.values())
    return Wish(names, read, graph, any(m.attention for m in chosen.values()), own)


def _usual(shot: Shot) -> dict[str, Explain]:
    """The method used where none is named."""
    closed = all(rows is not None for rows in shot.rows.values())
    return _chosen((USUAL[ATTENTION if shot.wish.attention else "closed" if closed else "maps"],))


def _maps(shot: Shot, chosen: Mapping[str, Explain]) -> dict[tuple[str, str], Tensor]:
    out, own = {}, {m.layer for m in chosen.values()}
    for name, method in chosen.items():
        if method.attention:
            out[name, ATTENTION] = method.weigh(shot.attention(method.gradient))
        else:
            for layer in [method.layer] if method.layer else [n for n in shot.wish.layers if n not in own]:
                out[name, layer] = method.weigh(shot.seen(layer, method.gradient))
    return out


def _view(first: Shot, view: View, chosen: Mapping[str, Explain]) -> dict[tuple[str, str], Tensor]:
    """The maps of another view, undone."""
    x = view.of(first.x)
    try:
        shot = Shot(first.model, x, first.wish, first.aim.again())
    except (RuntimeError, AssertionError) as error:
        why = " ".join(str(error).split())[:120]
        found = f"the network refuses images of {x.shape[2]} x {x.shape[3]} pixels: {why}"
        raise ModelError(found, where="explain, tta", fix="Leave that scale out.") from None
    return {k: view.undone(m) for k, m in _maps(shot, chosen).items()}


def _doubts(maps: Mapping[tuple[str, str], Tensor]) -> list[str]:
    """Sentences about maps that say nothing."""
    out = []
    for (name, layer), found in maps.items():
        flat = found.flatten(2)
        bad = {"not finite": ~flat.isfinite().all(2), "zero everywhere": (flat == 0).all(2)}
        bad["the same everywhere"] = (flat == flat[..., :1]).all(2) & ~bad["zero everywhere"]
        for what, some in bad.items():
            if count := int(some.sum()):
                out.append(f"{name} at {layer}: {count} of {some.numel()} maps are {what}")
    return out
