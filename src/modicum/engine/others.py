"""Other images, with labels of other classes: what is known of them, who learns from them, and a run that did.

`fit --other PLACE`.  They are read again until the network that learns from them is there, and never after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from modicum.core import registry
from modicum.core.errors import NeedsError
from modicum.core.kinds import Fact
from modicum.core.places import cache_home
from modicum.core.recipe import parse_call
from modicum.data.cache import Pixels
from modicum.data.read import read
from modicum.data.scan import scan
from modicum.engine.arms import Bench
from modicum.engine.request import Request
from modicum.runs.run import Run


def facts(asked: Request) -> tuple[Fact, ...]:
    """What is known of the images of --other, of the kinds that were asked for: facts with the scope `other`.

    Where it is a run, what its steps learned from such images.
    """
    if not asked.other:
        return ()
    if (Path(asked.other) / "config.json").is_file():
        return tuple(Fact("boxes", net=True, part=part) for part in brought(asked))
    found, kinds = read(asked.other).data.facts(), asked.kinds("other")
    if lost := next((k for k in kinds if k not in {f.kind for f in found}), ""):
        there = ", ".join(f"{f}@other" for f in found if f.kind not in ("image", "names"))
        raise NeedsError(f"no {lost} there", where=f"--other {asked.other}", fix=f"There: {there or 'no labels'}.")
    return tuple(replace(f, scope="other") for f in found if f.kind in ("image", *(kinds or (f.kind,))))


def brought(asked: Request) -> dict[str, Path]:
    """Part of a network -> where it lies, of the run that --other names; {} where it names images.

    NeedsError where no step of that run learned from other images.
    """
    home = Path(asked.other)
    if not asked.other or not (home / "config.json").is_file():
        return {}
    names = [parse_call(text)[0] for text in Run(home).config["before"]]
    mine = {n: home / "arms" / n for n in names if alone(n) and (home / "arms" / n / "net.json").is_file()}
    if not mine:
        fix = "Give images with labels of other classes, or a run of `modicum fit --other`."
        raise NeedsError("no step of this run learned from other images", where=f"--other {home}", fix=fix)
    return {m.part: place for n, place in mine.items() for m in registry.card(n).made}


def alone(method: str) -> bool:
    """Whether a method learns from other images alone."""
    asked = [f for n in registry.card(method).needed for f in (n if isinstance(n, tuple) else (n,))]
    return bool(asked) and all(f.scope == "other" for f in asked)


def about(asked: Request, names: Sequence[str]) -> list[str]:
    """What the images of --other are for, as a sentence."""
    if not asked.other:
        return []
    mine = [registry.card(n) for n in (parse_call(text)[0] for text in names) if alone(n)]
    if not mine:
        there = "What the run {} learned is used." if brought(asked) else "Nothing of {} is used: no step needs it."
        return [there.format(asked.other)]
    return [f"Only the first step, {mine[0].name}, learns from the images of {asked.other}; no other one sees them."]


def bench(mine: Bench, place: str) -> Bench:
    """A bench of other images, with classes of their own, for the same network; their val/ and test/ are left alone.

    NeedsError where they are grey and ours are not, or the other way round.
    """
    found = read(place)
    pixels = Pixels.build(found.data, cache_home(), mine.pixels.side)
    if pixels.channels != mine.channels:
        said = f"images of {pixels.channels} channels, where those of the data have {mine.channels}"
        raise NeedsError(said, where=f"--other {place}", fix="Give images of the same kind: all grey, or in colour.")
    data = scan(found.data, pixels, faults=found.faults).data
    pool = ~np.isin(data.field("split").astype(str), ("val", "test"))
    return replace(mine, data=data, pixels=pixels, pool=pool, moments=None, notes=[])
