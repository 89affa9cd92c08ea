"""Choices that are made once, from cards, measured traits and this machine, and written into the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modicum.core import registry
from modicum.core.card import Card
from modicum.core.dataset import Dataset
from modicum.core.errors import MachineError, ModelError, NeedsError, SettingsError
from modicum.core.kinds import Fact
from modicum.core.method import Learn
from modicum.core.net import Net
from modicum.core.plan import Chain, plan
from modicum.core.recipe import Recipe, parse_call
from modicum.engine.look import counts
from modicum.engine.request import Request
from modicum.nn import ranks

WANT = Fact("class", net=True)
CAPPED = 64  # largest side for training from scratch on a processor
PRETRAINED = 224


def early(asked: Request) -> None:
    """Refuse, before an image is read, what can be refused without any: device, method, settings, recipe, network."""
    if not _devices().get(asked.device, True):
        fix = "`modicum doctor` says what torch finds; leave --device out to take what is there."
        raise MachineError(f"torch finds no {asked.device} device here", where="--device", fix=fix)
    if asked.method:
        _learns(asked.method)
        recipe = recipe_of(asked.method, asked, 0, False)
        compose(asked.method, settings_of(asked.method, asked), recipe, asked.preset)
    if asked.net:
        from modicum.models import doors

        spec = doors.parse(asked.net, classes=2, channels=3, side=asked.side or CAPPED)
        if spec["door"] == "tiny":  # others may want another side, which the images tell
            with torch.device("meta"):
                doors.build(spec)
    if asked.weights and not Path(asked.weights).is_file():
        fix = "Give a safetensors file, such as the net.safetensors of a run."
        raise ModelError("there is no such file", where=f"--weights {asked.weights}", fix=fix)


def _learns(method: str) -> None:
    role = registry.card(method).role
    if role not in ("learn", "change"):
        found = f"{method} is not a method to learn with: its role is {role}"
        around = f"  {method} goes around it: `--recipe wraps={method}`." if role == "wrap" else ""
        raise NeedsError(found, where="fit", fix=f"Choose a learn method: `modicum methods --role learn`.{around}")


def chain(data: Dataset, traits: tuple[str, ...], method: str) -> Chain:
    """The chain of methods from what the data have to a classifier; `method` overrules the last step."""
    cards = registry.cards()
    if method:
        _learns(method)
        cards = {n: c for n, c in cards.items() if n == method or c.role != "learn"}
    return plan(data.facts(), WANT, cards, counts(data), traits, evidence=registry.evidence()).chains[0]


def why(found: Chain, traits: Mapping[str, str], asked: str = "") -> list[str]:
    """The reasons for a chain, as sentences.  asked: the method a person named."""
    said = [
        f"The {'images' if trait in ('tiny', 'ood') else 'labels'} are {trait}: {numbers}"
        for trait, numbers in traits.items()
    ]
    for step in found.steps:
        card = registry.cards().get(step.name)
        if card is None:
            continue
        if step.name == asked:
            said.append(f"{card.title}, as asked.")
            continue
        suited = [t for t in card.suits if t in traits]
        reason = f"it suits labels that are {' and '.join(suited)}" if suited else "its needs are met"
        others = ", ".join(step.names[1:5])
        said.append(f"{card.title} was chosen: {reason}." + (f"  It could also be {others}." if others else ""))
    return said


def baseline() -> str:
    """The labels-only method: the cheapest learn card that makes a classifier from classes or probabilities alone."""
    fits = {n: c for n, c in registry.cards("learn").items() if WANT in c.made and _labels_only(c)}
    return min(fits, key=lambda n: (fits[n].cost, n))


def _labels_only(card: Card) -> bool:
    return "full" in card.suits


def compose(name: str, settings: Mapping[str, Any], recipe: Recipe, preset: str = "small") -> Learn:
    """A learn method with its preset and settings, inside the wrappers that the recipe names."""
    cls = registry.load(name)
    method: Learn = cls.of({**cls.presets.get(preset, {}), **settings}, where=name)
    for text in recipe.wraps:
        wrapper, given = parse_call(text)
        kind = registry.load(wrapper)
        if kind.card.role != "wrap":
            fix = "See `modicum methods --role wrap`."
            raise SettingsError(f"{wrapper!r} is not a wrapper", where="recipe.wraps", fix=fix)
        method = kind.of({**kind.presets.get(preset, {}), **given, "inner": method}, where=wrapper)
    return method


def settings_of(name: str, asked: Request) -> dict[str, Any]:
    """All settings of the method: the preset's with what was asked for; bad names and values are refused here."""
    cls = registry.load(name)
    return dict(cls.of({**cls.presets.get(asked.preset, {}), **asked.settings}, where=name).to_dict())


def recipe_of(name: str, asked: Request, side: int, flip: bool) -> Recipe:
    """The method's recipe for a preset, with what was asked for."""
    recipes = registry.load(name).recipes
    recipe: Recipe = recipes.get(asked.preset, Recipe()).flipped(flip)
    if asked.steps or asked.preset == "small":
        recipe = recipe.but(steps=asked.steps or recipe.steps * (1 if side <= 16 else 4))
    if asked.batch:
        recipe = recipe.but(batch=asked.batch)
    for path, value in asked.recipe.items():
        recipe = recipe.at(path, value)
    return recipe


def side_of(asked: Request, width: int, height: int) -> int:
    """The network's input side.  Whole images up to 64 px; photographs are brought down to 64 px when training from
    scratch on a processor, 128 px on an accelerator, 224 px with published weights."""
    if asked.side:
        return asked.side
    longest = max(width, height)
    if asked.pretrained or asked.weights:
        return PRETRAINED
    most = CAPPED if device_of(asked) == "cpu" else 2 * CAPPED
    return max(16, min(most, -4 * (-longest // 4)))


def device_of(asked: Request) -> str:
    """The device to train on: what was asked for, else an accelerator where there is one."""
    return next(name for name, there in _devices().items() if there) if asked.device == "auto" else asked.device


def _devices() -> dict[str, bool]:
    """Whether torch finds them, the fastest first."""
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def faster_precision(
    asked: Request, probe: Callable[[], float], steps: Callable[[], float], clear: float = 0.85, worse: float = 1.5
) -> tuple[str, str]:
    """-> Fabric's precision and a sentence.

    probe, steps: how many times as long bf16 takes, for one pass of the network and for whole steps.  The probe is
    quick and comes first: where bf16 is emulated a step may take minutes.
    """
    if asked.precision != "auto":
        return {"32": "32-true", "bf16": "bf16-mixed"}[asked.precision], "Precision as asked."
    if (share := probe()) > worse:
        return "32-true", f"32-bit: with this torch, here, bf16 takes {share:.1f} times as long for this network."
    if (share := steps()) < clear:
        return "bf16-mixed", f"bf16 steps take {share:.2f} of the time of 32-bit ones here."
    return "32-true", f"32-bit: bf16 would not be faster here ({share:.2f} of the time)."


def slower_bf16(net: Net, channels: int, side: int, images: int = 8, times: int = 3) -> float:
    """How many times as long one pass there and back takes in bf16, on so many images.  The net gets gradients."""
    device = next(net.parameters()).device
    x = torch.rand(images, channels, side, side, device=device)
    took: dict[bool, list[float]] = {False: [], True: []}
    for half in (False, True) * (times + 1):
        begun = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            net(x).logits.float().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        took[half].append(time.perf_counter() - begun)
    return ranks.of_first(min(took[True][1:]) / min(took[False][1:]))


def layout_of(nets: nn.Module, device: str) -> str:
    """ "channels_last" for convolutional nets, whose steps it makes faster on processors and accelerators; else "".

    torch 2.15 writes past its memory in the backward pass of a 1x1 convolution of stride 2 on 2 to 15 channels in this
    layout, in 32-bit on a processor: a net with one keeps the usual layout.
    """
    convs = [m for m in nets.modules() if isinstance(m, nn.Conv2d)]
    unsafe = any(m.kernel_size == (1, 1) and max(m.stride) > 1 and 1 < m.in_channels < 16 for m in convs)
    return "" if len(convs) < 2 or device == "mps" or (unsafe and device == "cpu") else "channels_last"


def budget(minutes: float, seconds_a_step: float, least: int = 50) -> int:
    """Steps that fit into the minutes, at least `least`."""
    return max(least, int(minutes * 60 / max(1e-6, seconds_a_step)))
