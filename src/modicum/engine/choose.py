"""Choices that are made once, from cards, measured traits and this machine, and written into the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modicum.core import registry
from modicum.core.card import Card
from modicum.core.dataset import Dataset
from modicum.core.errors import MachineError, ModelError, NeedsError, SettingsError
from modicum.core.form import SIZES
from modicum.core.kinds import Fact
from modicum.core.method import Learn
from modicum.core.net import Net
from modicum.core.plan import Chain, Step, plan, with_images
from modicum.core.recipe import Recipe, parse_call
from modicum.core.search import Option, gives
from modicum.engine.look import counts
from modicum.engine.request import GOALS, Request
from modicum.nn import ranks

LEARNED = Fact("features", net=True)  # a network that has learned something: what --weights and --pretrained give
CAPPED = 64  # largest side for training from scratch on a processor
PRETRAINED = 224


def early(asked: Request) -> None:
    """Refuse, before an image is read, what can be refused without any: device, method, settings, recipe, network."""
    if not _devices().get(asked.device, True):
        fix = "`modicum doctor` says what torch finds; leave --device out to take what is there."
        raise MachineError(f"torch finds no {asked.device} device here", where="--device", fix=fix)
    if asked.method:
        _learns(asked.method)
        if _builds(asked.method) and not (asked.weights or asked.pretrained):
            found = f"{asked.method} builds on a network that has learned something; this one begins at random"
            fix = "Give --weights FILE, such as the net.safetensors of another run, or --pretrained."
            raise NeedsError(found, where="fit", fix=fix)
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


def _builds(method: str) -> bool:
    """Whether the method needs a network that has learned something."""
    return any(LEARNED in (n if isinstance(n, tuple) else (n,)) for n in registry.card(method).needed)


def goal(data: Dataset, asked: Request) -> str:
    """What the network is to tell: as asked, else a class where any image has one, else boxes, masks, tags.

    NeedsError where it is not a class, and folds are asked for.
    """
    there = (k for k in ("class", "boxes", "masks", "tags") if data.known(k).any() and k in (asked.kinds() or GOALS))
    want = asked.want or next(there, "class")
    if asked.folds and want != "class":
        fix = "Leave --folds out: measure on images of test/."
        raise NeedsError(f"folds compare classifiers alone so far, and {want} are wanted", where="--folds", fix=fix)
    return want


def enough(data: Dataset, want: str) -> bool:
    """Whether there are labels enough for some to be held out for testing."""
    return bool(data.counts().min() >= 10 if want == "class" else data.known(want).sum() >= 50)


def chain(
    data: Dataset, traits: tuple[str, ...], method: str, steps: int = 0, want: str = "class", via: Sequence[str] = (),
    more: Sequence[Fact] = (),
) -> Chain:
    """The chain of methods from what the data have to a network that tells `want`; `method` overrules the last step.

    via: methods for steps before the last: with `method` they are the chain, where they lead to the goal by themselves;
    else they take the places of planned ones (`steps_of`).
    steps: labels-only steps that the time allows (`steps_in`), which cards may need some of; 0 = not counted.
    more: facts about other images (engine/others.py).
    One that builds on a network that has learned something is taken only where it is named: `early` has seen to one.
    """
    cards, have, goal = registry.cards(), (*data.facts(), *more), Fact(want, net=True)
    if method:
        have = (*have, LEARNED) if _builds(method) else have
        _learns(method)
        able = [n for n, c in cards.items() if _makes(c, goal)]
        if method not in able:  # it may tell what is wanted in a way of its own
            named = [m for m in cards[method].made if m.net and m.kind == want]
            if not named:
                found = f"{method} makes {', '.join(cards[method].makes)}, and {goal} is wanted"
                raise NeedsError(found, where="--method", fix=f"Methods that make it: {', '.join(able)}.")
            goal = named[0]
            able = [n for n, c in cards.items() if _makes(c, goal)]
        cards = {n: c for n, c in cards.items() if n == method or n not in able}
    many = counts(data) | ({"step": steps} if steps else {})
    told = spelled(have, [*(parse_call(text)[0] for text in via), method], goal) if via and method else None
    return told or plan(have, goal, cards, many, traits, evidence=registry.evidence()).chains[0]


def spelled(have: tuple[Fact, ...], names: Sequence[str], goal: Fact) -> Chain | None:
    """These methods one after the other, where each finds what it needs and the last makes the goal; else None."""
    known, steps = {g for f in with_images(have) for g in gives(f)}, list[Step]()
    for name in names:
        card = registry.card(name)
        ways = [n if isinstance(n, tuple) else (n,) for n in card.needed]
        takes = [next((f for f in way if f in known), None) for way in ways]
        if None in takes:
            return None
        needs = tuple(f for f in takes if f is not None)
        steps.append(Step((Option(name, cost=card.cost),), needs, needs, card.made))
        known |= {g for m in card.made for g in gives(m)}
    return Chain(tuple(steps), 1.0, sum(s.options[0].cost for s in steps)) if goal in known else None


def tells(method: str, want: str) -> bool:
    """Whether the method makes a network that tells `want`, of GOALS."""
    return want in GOALS and any(made.net and made.kind == want for made in registry.card(method).made)


def _makes(card: Card, fact: Fact) -> bool:
    return any(fact in gives(m) for m in card.made)


def steps_of(found: Chain, via: Sequence[str]) -> list[str]:
    """The chain's methods in order, those of `via` in the place of the planned ones of their roles.

    One that makes images may come before all of them: its images are then mixed with those there are.
    SettingsError where a method of `via` has no place before the last one, or does not make what comes after it needs.
    """
    planned = [s.name for s in found.steps if s.name != "predict"]
    names, free, first = list(planned), list(range(len(planned) - 1)), list[str]()
    for text in via:
        role = registry.card(parse_call(text)[0]).role
        place = next((i for i in free if registry.card(planned[i]).role == role), None)
        if place is None and role == "imagine":
            first.append(text)
            continue
        if place is None:
            before = ", ".join(names[:-1]) or "none"
            fix = f"The steps before {names[-1]} are: {before}.  A step is replaced by a method of its role."
            raise SettingsError(f"no step before the last is left for role {role}", where=f"--via {text}", fix=fix)
        names[place] = text
        free.remove(place)
        if lost := _lost(found, place, free, text):
            fix = f"Name every step: --via {text} --via ... --method {planned[-1]}; each makes what the next one needs."
            raise SettingsError(f"{lost} is needed after it, which it does not make", where=f"--via {text}", fix=fix)
    return first + names


def _lost(found: Chain, place: int, free: Sequence[int], text: str) -> str:
    """What a planned step made that a step after it takes which is left as planned, and `text` does not make; or ""."""
    steps = [s for s in found.steps if s.name != "predict"]
    here = {g for m in registry.card(parse_call(text)[0]).made for g in gives(m)}
    own = {g for m in steps[place].makes for g in gives(m)} - here
    later = [s for i, s in enumerate(steps) if i > place and (i in free or s is steps[-1])]
    return next((str(t) for s in later for t in s.takes if t in own), "")


def why(found: Chain, traits: Mapping[str, str], asked: str = "", via: Sequence[str] = ()) -> list[str]:
    """The reasons for a chain, as sentences.  asked, via: methods that a person named."""
    given = {registry.card(parse_call(text)[0]).role: text for text in via}
    said = [
        f"The {'images' if trait in ('tiny', 'ood') else 'labels'} are {trait}: {numbers}"
        for trait, numbers in traits.items()
    ]
    for step in found.steps:
        card = registry.cards().get(step.name)
        if card is None:
            continue
        if step.name == asked or (card.role in given and step is not found.steps[-1]):
            named = registry.card(parse_call(given.get(card.role, asked) if step.name != asked else asked)[0])
            said.append(f"{named.title}, as asked.")
            continue
        suited = [t for t in card.suits if t in traits]
        reason = f"it suits labels that are {' and '.join(suited)}" if suited else "its needs are met"
        others = ", ".join(step.names[1:5])
        said.append(f"{card.title} was chosen: {reason}." + (f"  It could also be {others}." if others else ""))
        said += [
            f"{registry.card(o.name).title}, which suits {' and '.join(o.suits)}, comes after it: {'; '.join(o.short)}."
            for o in step.options[1:] if o.short and len(o.suits) > len(step.options[0].suits)
        ]  # fmt: skip
    return said


def baseline() -> str:
    """The labels-only classifier: the cheapest learn card for images with labels that no other is a case of."""
    fits = {n: c for n, c in registry.cards("learn").items() if Fact("class", net=True) in c.made and _labels_only(c)}
    return min(fits, key=lambda n: (fits[n].cost, n))


def _labels_only(card: Card) -> bool:
    return "full" in card.suits and not card.off


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
    """The network's input side: that of the run whose weights are given, else whole images up to 64 px; photographs are
    brought down to 64 px when training from scratch on a processor, 128 px on an accelerator, 224 px with weights."""
    if asked.side or (begun := origin(asked)[1]):
        return asked.side or begun
    longest = max(width, height)
    if asked.pretrained or asked.weights:
        return PRETRAINED
    most = CAPPED if device_of(asked) == "cpu" else 2 * CAPPED
    return max(16, min(most, -4 * (-longest // 4)))


def origin(asked: Request) -> tuple[str, int]:
    """Network and side of the run that the weights are of, by the net.json beside them; ("", 0) where there is none."""
    page = Path(asked.weights).parent / "net.json" if asked.weights else None
    if page is None or not page.is_file() or Path(asked.weights).name != "net.safetensors":
        return "", 0
    from modicum.models import files

    meta = files.read_page(page.parent)
    if meta["parts"]:
        return "", meta["side"]
    rest = ",".join(f"{k}={v}" for k, v in meta["args"].items() if k not in SIZES)
    return f"{meta['name']}:{rest}" if rest else meta["name"], meta["side"]


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
    took = _passes(net, channels, side, images, (False, True) * (times + 1))
    return ranks.of_first(min(took[True][1:]) / min(took[False][1:]))


def steps_in(asked: Request, name: str, classes: int, channels: int, side: int) -> int:
    """Labels-only steps that fit into the minutes, roughly, by timing passes of a new network there and back; at least
    1.  0 where it would change nothing: no minutes, a person chose the method, or no card needs so much time."""
    if not asked.minutes or asked.method or not any("step" in c.least for c in registry.cards("learn").values()):
        return 0
    from modicum.models import doors

    with torch.random.fork_rng():
        net = doors.make(name, classes=classes, channels=channels, side=side).to(device_of(asked))
        images = recipe_of(baseline(), asked, side, False).batch
        took = _passes(net, channels, side, images, (False,) * 4)[False]
    return max(1, int(asked.minutes * 60 / min(took[1:])))


def _passes(net: Net, channels: int, side: int, images: int, halves: Sequence[bool]) -> dict[bool, list[float]]:
    """Seconds of passes there and back, one for each of `halves`: in bf16 or not."""
    device = next(net.parameters()).device
    x = torch.rand(images, channels, side, side, device=device)
    took: dict[bool, list[float]] = {False: [], True: []}
    for half in halves:
        begun = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            net(x).logits.float().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        took[half].append(time.perf_counter() - begun)
    return took


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
