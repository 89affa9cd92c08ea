"""One way in: a name and the data's size give a Net that knows its own `spec`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from modicum.core.errors import ModelError, SettingsError, did_you_mean
from modicum.core.form import SIZES
from modicum.core.net import Net
from modicum.models.tiny import first_width
from modicum.models.weights import check, read_weights
from modicum.models.wide import OURS

if TYPE_CHECKING:
    from torch import Tensor

Spec = dict[str, Any]


def default_name(side: int, channels: int, pretrained: bool) -> str:
    """The network when the user names none.

    Up to 64 pixels from scratch tiny-conv: large nets shrink such images to one pixel and gain nothing on few labels.
    Otherwise mobilenetv4_conv_small: its ImageNet weights are Apache-2.0, it exports cleanly, and on a CPU it trains
    several times faster than resnet18 with a quarter of the parameters (2.5 against 11.2 million).
    """
    return "tiny-conv" if side <= 64 and not pretrained else "mobilenetv4_conv_small"


def make(
    name: str, *, classes: int, channels: int, side: int, pretrained: bool = False, weights: Path | None = None
) -> Net:
    """A new network: `tiny-conv`, `tiny-res:depth=16,width=2`, `wrn-28-2`, a timm name or `timm/NAME`.

    classes: logits.  channels, side: of the images.  weights: a safetensors file, ours or as timm and torchvision name
    their tensors; it goes before `pretrained`, which fetches the published ones.  Random weights come from torch's
    global generator.  `net.spec` is what builds it again, `net.notes` sentences for the user (licence, a new head).
    ModelError says which name, weights or side cannot be used.
    """
    spec = parse(name, classes=classes, channels=channels, side=side)
    if weights is None and pretrained and spec["door"] == "tiny":
        fix = "Use --no-pretrained, or a timm network such as resnet18."
        raise ModelError("no published weights", where=name, fix=fix)
    notes: tuple[str, ...] = ()
    state = None
    if weights is not None:
        state = read_weights(weights)
    elif pretrained:
        from modicum.models.timm_net import fetch

        file, note = fetch(spec["name"])
        state, notes = read_weights(file), (note,)
    if state is None or _ours(state):
        net = build(spec)
        if state is not None:
            notes += _load_ours(net, state, weights or name)
    else:
        net = _of_others(spec, state, weights or name)
        notes += net.notes
    net.notes = notes
    _try_out(net, spec)
    return net


def parse(name: str, *, classes: int, channels: int, side: int) -> Spec:
    """The spec of a name: every argument resolved, so that building needs no defaults.  ModelError if it is not one."""
    size = {"classes": classes, "channels": channels, "side": side}
    for what, value in size.items():
        if value not in SIZES[what]:
            raise ModelError(f"{what} = {value} is not allowed", where=name, fix=f"Allowed: 1 to {SIZES[what][-1]}.")
    base, _, given = name.strip().partition(":")
    if base in OURS:
        return {"door": "tiny", "name": base, "args": size | _arguments(base, given, side), "edits": []}
    from modicum.models.timm_net import known, refuse

    base = base.removeprefix("timm/")
    if not known(base):
        raise refuse(base)
    if given:
        raise ModelError(f"takes no arguments, found {given!r}", where=base, fix=f"Only {', '.join(OURS)} do.")
    return {"door": "timm", "name": base, "args": size, "edits": []}


def _arguments(base: str, given: str, side: int) -> dict[str, Any]:
    pairs = [p.partition("=") for p in given.split(",") if p.strip()]
    try:
        args = OURS[base][1].of({k.strip(): v.strip() for k, _, v in pairs}, where=base).to_dict()
    except SettingsError as error:
        raise ModelError(error.found, where=error.where, fix=error.fix or f"As in {base}:width=2") from None
    if base == "tiny-conv" and not args["width"]:
        args["width"] = first_width(side)
    return args


def build(spec: Spec) -> Net:
    """The network of a spec with random weights, edits not applied (files.py replays them)."""
    if spec["door"] == "tiny" and spec["name"] in OURS:
        net: Net = OURS[spec["name"]][0](**spec["args"])
    elif spec["door"] == "timm":
        from modicum.models.timm_net import TimmNet

        net = TimmNet(spec["name"], **spec["args"])
    else:
        found = f"no door {spec['door']!r} to a network {spec['name']!r}"
        raise ModelError(found, fix=did_you_mean(spec["name"], OURS))
    net.spec = spec
    return net


def _of_others(spec: Spec, state: dict[str, Tensor], where: object) -> Net:
    if spec["door"] != "timm":
        fix = "Give a net.safetensors of this network."
        raise ModelError(f"these weights are not of {spec['name']}", where=where, fix=fix)
    from modicum.models.timm_net import TimmNet

    net = TimmNet(spec["name"], **spec["args"], state=state)
    net.spec = spec
    return net


def _ours(state: dict[str, Tensor]) -> bool:
    return "mean" in state and "std" in state and "head.weight" in state


def _load_ours(net: Net, state: dict[str, Tensor], where: object) -> tuple[str, ...]:
    """Our own file into a new net; -> notes.  A head of other classes is left new, and so are the centre's channels."""
    own = net.state_dict()
    other = any(k in state and state[k].shape != own[k].shape for k in ("head.weight", "head.bias"))
    keep = {k: v for k, v in state.items() if not (other and k.startswith("head."))}
    check(keep, own, where, new=("head.",) if other else ())
    net.load_state_dict(keep, strict=False)
    return ("the classifier is new: the file's has other classes",) if other else ()


def _try_out(net: Net, spec: Spec) -> None:
    """One image through the net, so that a side it cannot take is refused here and not in the first step."""
    if spec["door"] == "tiny":
        return
    from modicum.models.timm_net import unfit

    args, training = spec["args"], net.training
    try:
        with torch.no_grad():
            out = net.eval()(torch.zeros(1, args["channels"], args["side"], args["side"]))
    except Exception as error:  # a model that cannot take the side raises whatever it likes
        raise unfit(spec["name"], args["side"], error) from None
    finally:
        net.train(training)
    if out.logits.shape != (1, args["classes"]) or out.features.ndim != 2:
        raise ModelError("does not give one row of logits an image", where=spec["name"], fix="Take another network.")
