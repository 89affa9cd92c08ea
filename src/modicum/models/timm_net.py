"""The door to timm: any classifier of its zoo as a Net, its weights from a safetensors file or the hub.

timm's own loader is passed by: it falls back on pickles and tries an unreachable hub for most of a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError, did_you_mean
from modicum.core.net import Net
from modicum.models.weights import check
from modicum.models.wide import OURS
from modicum.nn.norm import convert

if TYPE_CHECKING:
    from collections.abc import Sequence

OTHER_WAYS = (
    "Give a file with --weights FILE (safetensors), or start from random weights with --no-pretrained "
    "(a tiny net such as tiny-conv needs none)."
)


class TimmNet(Net):
    """A timm classifier whose last linear layer is `head`; `model` is the rest.

    Convolutional nets give maps (B,K,h,w), token models tokens (B,N,K).  The input is centred as timm's weights expect.
    ModelError for an unknown name, a side the model cannot take, or a model without one linear classifier.
    """

    def __init__(
        self, name: str, *, classes: int, channels: int, side: int, state: dict[str, Tensor] | None = None
    ) -> None:
        super().__init__(channels)
        model = _create(name, classes, channels, side)
        cfg: dict[str, Any] = model.pretrained_cfg
        self.notes = () if state is None else _fill(model, state, cfg, name)
        self.head = _take_head(model, name)
        self.model: Any = convert(model)
        self.side_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        with torch.no_grad():
            self.mean.copy_(torch.tensor(spread(cfg["mean"], channels)))
            self.std.copy_(torch.tensor(spread(cfg["std"], channels)))

    def spatial(self, x: Tensor) -> Tensor:
        maps = self.model.forward_features(x)
        return maps.permute(0, 3, 1, 2) if self.side_last and maps.ndim == 4 else maps

    def levels(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        if not hasattr(self.model, "forward_intermediates"):
            return super().levels(x)
        maps, seen = self.model.forward_intermediates(x, output_fmt="NCHW")
        maps = maps.permute(0, 3, 1, 2) if self.side_last and maps.ndim == 4 else maps
        last = {tuple(m.shape[2:]): m for m in (*seen, *([maps] if maps.ndim == 4 else []))}  # of each size the last
        return maps, list(last.values())

    def pool(self, maps: Tensor) -> Tensor:
        maps = maps.permute(0, 2, 3, 1) if self.side_last and maps.ndim == 4 else maps
        return self.model.forward_head(maps, pre_logits=True)


def spread(values: Sequence[float], channels: int) -> list[float]:
    """A value for each channel: as given where the numbers agree, else their mean for all."""
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels


def known(name: str) -> bool:
    """Whether timm has this model (and, after a dot, these weights)."""
    import timm

    return timm.is_model(name) and ("." not in name or name in timm.list_models(pretrained=True))


def refuse(name: str) -> ModelError:
    """The error for a name that timm does not have."""
    import timm

    base = name.partition(".")[0]
    names = [n for n in timm.list_models(pretrained=True) if n.startswith(base + ".")] or timm.list_models()
    near = did_you_mean(name, [*names, *OURS])
    usual = "Take tiny-conv, tiny-res:depth=16,width=2 or a name that timm knows, such as resnet18."
    return ModelError(f"no network {name!r}", fix=near if near.startswith("Did") else usual)


def _create(name: str, classes: int, channels: int, side: int) -> Any:
    import timm

    if not known(name):
        raise refuse(name)
    cfg = timm.get_pretrained_cfg(name)
    # Models with one position for each patch must be told the side; the others take any.
    fixed = {"img_size": side} if cfg is not None and cfg.fixed_input_size else {}
    try:
        return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **fixed)
    except Exception as error:  # timm's models assert and raise as they please
        raise unfit(name, side, error) from None


def unfit(name: str, side: int, error: Exception) -> ModelError:
    """The error for a model that cannot be built or run at this side."""
    why = " ".join(str(error).split())[:160]
    return ModelError(
        f"cannot work on images of {side} x {side} pixels: {why}", where=name,
        fix="Take another --side (patch models need a multiple of their patch), or another network.",
    )  # fmt: skip


def _take_head(model: Any, name: str) -> nn.Linear:
    """The classifier as a linear layer, its place in the model left empty."""
    head = model.get_classifier()
    places = [n for n, m in model.named_modules() if m is head]
    if isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1:
        linear = nn.Linear(head.in_channels, head.out_channels, head.bias is not None, head.weight.device)
        with torch.no_grad():
            linear.weight.copy_(head.weight.flatten(1))
            if head.bias is not None:
                linear.bias.copy_(head.bias)
    elif isinstance(head, nn.Linear):
        linear = head
    else:
        raise ModelError(
            "its classifier is not one linear layer", where=name,
            fix="Take a network whose classifier is, such as resnet18, mobilenetv4_conv_small or vit_tiny_patch16_224.",
        )  # fmt: skip
    model.set_submodule(places[0], nn.Identity())
    return linear


def _fill(model: nn.Module, state: dict[str, Tensor], cfg: dict[str, Any], name: str) -> tuple[str, ...]:
    """Put a checkpoint's weights into a whole timm model; -> notes.  A classifier of another shape is left new.

    Weights of RGB input are summed (grey) or repeated (other numbers of channels), as timm does.
    """
    from timm.models import adapt_input_conv

    translate = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    own = model.state_dict()
    notes = []
    try:
        if translate is not None:
            state = dict(translate(dict(state), model))
        for first in _names(cfg.get("first_conv")):
            key = f"{first}.weight"
            if key in state and key in own and state[key].shape[1] != own[key].shape[1]:
                state[key] = adapt_input_conv(own[key].shape[1], state[key])
                notes.append(f"the first layer was adapted to {own[key].shape[1]} channels")
    except Exception as error:  # written for the makers' own files, these functions raise anything on others
        fix = "Name the network that the file was made for, or give another file."
        why = " ".join(str(error).split())[:160]
        raise ModelError(f"these weights do not fit: {why}", where=name, fix=fix) from None
    heads = tuple(f"{c}." for c in _names(cfg.get("classifier")))
    keep = {k: v for k, v in state.items() if not (k.startswith(heads) and (k not in own or v.shape != own[k].shape))}
    if not any(k.startswith(heads) for k in keep):
        notes.append("the classifier is new: the file's has other classes, or none")
    check(keep, own, name, new=heads)
    model.load_state_dict(keep, strict=False)
    return tuple(notes)


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def fetch(name: str) -> tuple[Path, str]:
    """The published weights as a local safetensors file, and a note with their licence.

    From the cache if there; else from the hub, which is asked once, for at most 3 seconds, whether it is there: its
    own client would try for most of a minute.  ModelError names the ways on.
    """
    import huggingface_hub as hub
    import timm

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        raise ModelError("no published weights", where=name, fix=OTHER_WAYS)
    repo, _, revision = str(cfg.hf_hub_id).partition("@")
    file = "open_clip_model.safetensors" if "open_clip" in str(cfg.hf_hub_filename) else "model.safetensors"
    given: dict[str, Any] = {"repo_id": repo, "filename": file, "revision": revision or None}
    note = f"weights: {repo}, licence {cfg.license or 'not stated: see its page on the hub'}"
    try:
        return Path(hub.hf_hub_download(**given, local_files_only=True)), note
    except OSError:
        pass
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(**given), timeout=3)
        return Path(hub.hf_hub_download(**given, etag_timeout=4)), note
    except Exception as error:  # the hub's client raises its own, its transport's and the system's errors
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelError(f"the published weights of {repo} cannot be had: {why}", where=name, fix=OTHER_WAYS) from None
