"""Choices that are made once, from cards, measured traits and this machine, and written into the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from modicum.core import registry
from modicum.core.card import Card
from modicum.core.dataset import Dataset
from modicum.core.errors import NeedsError, SettingsError
from modicum.core.kinds import Fact
from modicum.core.method import Learn
from modicum.core.net import scope
from modicum.core.plan import Chain, plan
from modicum.core.recipe import Recipe, parse_call
from modicum.engine.look import counts
from modicum.engine.request import Request

WANT = Fact("class", net=True)
CAPPED = 64  # largest side for training from scratch on a processor
PRETRAINED = 224


def chain(data: Dataset, traits: tuple[str, ...], method: str) -> Chain:
    """The chain of methods from what the data have to a classifier; `method` overrules the last step."""
    cards = registry.cards()
    if method:
        role = registry.card(method).role
        if role not in ("learn", "change"):
            found = f"{method} is not a method to learn with: its role is {role}"
            around = f"  {method} goes around it: `--recipe wraps={method}`." if role == "wrap" else ""
            raise NeedsError(found, where="fit", fix=f"Choose a learn method: `modicum methods --role learn`.{around}")
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
            raise SettingsError(f"{wrapper!r} is not a wrapper", where="recipe.wraps")
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
    if asked.device != "auto":
        return asked.device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def faster_precision(asked: Request, seconds: Callable[[str], float]) -> tuple[str, str]:
    """-> Fabric's precision and a sentence.  `seconds(precision)` times a few steps."""
    if asked.precision != "auto":
        return {"32": "32-true", "bf16": "bf16-mixed"}[asked.precision], "Precision as asked."
    full, half = seconds("32-true"), seconds("bf16-mixed")
    if half < 0.85 * full:
        return "bf16-mixed", f"bf16 steps take {half / full:.2f} of the time of 32-bit ones here."
    return "32-true", f"32-bit: bf16 would not be faster here ({half / full:.2f} of the time)."


def timed(make_loop: Callable[[], Any], steps: int = 20, warm: int = 3, most: float = 5.0) -> float:
    """Seconds a step takes, on nets that are thrown away: the lower quartile of `steps` after `warm`, since others may
    use the machine.  Slow steps are fewer: no further one is taken after `most` seconds, but three at least."""
    loop = make_loop()
    phase = next(p for p in loop.program if hasattr(p, "turns"))
    nets = scope(loop.nets, phase.at)
    loop.optimisers[phase.lane] = loop.fresh(phase, nets)
    loop.nets.train()
    took = []
    with torch.random.fork_rng():
        for step in range(warm + steps):
            begun = time.perf_counter()
            loop.step(phase, nets, replace(loop.clock(phase, 0, 0), step=step))
            if loop.fabric.device.type == "cuda":
                torch.cuda.synchronize()
            took.append(time.perf_counter() - begun)
            if len(took) >= warm + 3 and sum(took) > most:
                break
    return float(np.quantile(took[warm:], 0.25))


def budget(minutes: float, seconds_a_step: float, least: int = 50) -> int:
    """Steps that fit into the minutes, at least `least`."""
    return max(least, int(minutes * 60 / max(1e-6, seconds_a_step)))
