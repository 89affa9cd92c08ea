"""The steps before the last: networks that only help the next one, and the labels that are made of them.

A network lies in arms/NAME and labels in made/NAME, so that a run that was killed takes them up and a person can look.
A method whose card needs `@other` facts alone learns from other images (engine/others.py).  A network that is a part
(`net:boxes.adjust`) is what `make("adjust", frozen=True)` gives after it.  Labels made from maps are made block by
block of images: the maps of all would not fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from modicum.core import form, registry
from modicum.core.dataset import HUMAN, Dataset, Table
from modicum.core.disk import whole_folder
from modicum.core.errors import NeedsError, RunError
from modicum.core.method import Label
from modicum.core.net import Net
from modicum.core.recipe import Recipe, parse_call
from modicum.core.space import writing
from modicum.engine import choose, others, pace
from modicum.engine.arms import Bench, train
from modicum.engine.imagine import grown
from modicum.engine.request import Request
from modicum.engine.tasks import located, packed
from modicum.functional.drafts import present
from modicum.nn import ranks
from modicum.runs.run import Metrics

if TYPE_CHECKING:
    from modicum.engine.fit import Job

BLOCK = 512  # images whose maps are held at once
LOOK = 64  # images that go through the network at once
STEPS = range(1, 10**12 + 1)


def learners(before: list[str]) -> list[str]:
    """Those of the steps that train a network, as they are called in config.json."""
    return [text for text in before if registry.card(parse_call(text)[0]).role == "learn"]


def labelled(job: Job, bench: Bench, config: dict[str, Any], metrics: Metrics) -> Bench:
    """The bench of the last method: its data after the steps before it, and the networks that those trained."""
    bench, net, maps = replace(bench, brought=others.brought(job.asked)), None, ""
    _sound(job, config)
    for text in config["before"]:
        name, given = parse_call(text)
        card = registry.card(name)
        if card.role == "learn":
            net = _learned(job, bench, text, config, metrics)
            bench.brought |= {m.part: job.run / "arms" / name for m in card.made if m.net and m.part}
        elif card.role == "imagine":
            bench = grown(job, bench, text)
        elif card.role == "explain":
            maps = text
        else:
            cls = registry.load(name)
            method = cls.of({**cls.presets.get(job.asked.preset, {}), **given}, where=name)
            make = partial(_made, method, bench, _columns(bench, name, net, maps))
            delta = _kept(job, bench.data, name, make)
            if not delta.annotations.num_rows:
                fix = "Train longer (--steps, --minutes), or name other steps with --via."
                raise NeedsError(f"{name} made no label of {len(bench.data):,} images", where=name, fix=fix)
            bench = replace(bench, data=(bench.data + delta).resolve((HUMAN,)))
            job.listen.say(_said(name, delta))
    return bench


def _sound(job: Job, config: Mapping[str, Any]) -> None:
    """RunError where the steps in config's choices are not those of learners of this chain: all of them once the last
    method was timed, which is when the arms are known."""
    many, names = config["choices"].get("before", {}), learners(config["before"])
    if isinstance(many, dict) and not config["arms"]:
        names = [text for text in names if text in many]
    if wrong := form.misfit(many, dict.fromkeys(names, STEPS), "choices.before"):
        fix = "Restore the file, or start a new run with another --out."
        raise RunError(f"config.json is damaged: {wrong}", where=job.run.folder, fix=fix)


def _learned(job: Job, bench: Bench, text: str, config: dict[str, Any], metrics: Metrics) -> Net:
    """The network of a step: trained, on other images where its card says so, or taken as it lies in the run."""
    name, given = parse_call(text)
    home, choices, asked = job.run / "arms" / name, config["choices"], job.asked
    if others.alone(name) and not (home / "net.json").is_file():
        bench = others.bench(bench, asked.other)
    recipe = choose.recipe_of(name, asked, bench.side, choices["flip"])
    method = choose.compose(name, given, recipe, asked.preset)
    many = choices.setdefault("before", {})
    if text not in many:
        many[text] = _steps(bench, method, recipe, config, asked)
        job.run.write("config.json", config)
        ranks.wait()
    return train(bench, method, recipe.but(steps=many[text]), name, home, metrics, job.listen.tick)


def _steps(bench: Bench, method: Any, recipe: Recipe, config: dict[str, Any], asked: Request) -> int:
    """How many steps a network before the last takes; minutes are shared out evenly.  The layout goes into config."""
    first = bench.loop(method, recipe)
    bench.layout = config["choices"]["layout"] = choose.layout_of(first.nets, config["choices"]["device"])
    if not asked.minutes or asked.steps:
        return recipe.steps
    seconds = pace.race([lambda: bench.loop(method, recipe)]).seconds[0]
    return choose.budget(asked.minutes / (len(learners(config["before"])) + 1), seconds)


def _kept(job: Job, data: Dataset, name: str, make: Callable[[], Dataset]) -> Dataset:
    """Labels as they lie in the run, with the images they are about; made, and put there by the first rank, where they
    do not yet.  -> a delta of the data."""
    home = job.run / "made" / name
    if ranks.of_first(float(home.is_dir())):  # all the same way: they wait for each other below
        delta = Dataset.load(home)
        if not delta.images["id"].equals(data.images["id"]):
            fix = "Remove this folder: its labels are then made again."
            raise RunError("these labels are of other images than data/", where=home, fix=fix)
        return replace(delta, images=delta.images.slice(0, 0))
    delta = make()
    if not ranks.rank():
        with writing(job.run.folder, "labels"):
            home.parent.mkdir(exist_ok=True)
            with whole_folder(home) as making:
                replace(delta, images=data.images).save(making)
    ranks.wait()
    return delta


Columns = Callable[[np.ndarray], dict[str, np.ndarray]]


def _columns(bench: Bench, name: str, net: Net | None, maps: str) -> Columns | None:
    """How columns of rows are made that a label method reads from the last network; None where it reads none."""
    if net is None:
        return None
    if "net:boxes.chosen" in registry.card(name).needs:
        return lambda rows: {"found": packed([*located(bench, net, rows.tolist())])}
    return (lambda rows: {"maps": _maps(bench, rows, net, maps)}) if maps else None


def _made(method: Label, bench: Bench, columns: Columns | None) -> Dataset:
    """What a label method says, as a delta."""
    everything = Table(bench.data, np.arange(len(bench.data)), {}, bench.pixels.image)
    if columns is None:
        return method.label(everything)
    rows, parts = np.flatnonzero(bench.pool & bench.pixels.good & present(everything).any(1)), []
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        parts.append(method.label(Table(bench.data, some, columns(some), bench.pixels.image)))
    said, looked = (pa.concat_tables([getattr(p, k) for p in parts]) for k in ("annotations", "looked"))
    return replace(parts[0], annotations=said.unify_dictionaries(), looked=looked.unify_dictionaries())


def _maps(bench: Bench, rows: np.ndarray, net: Net, maps: str) -> np.ndarray:
    """Each class's map of each row, (R,C,h,w)."""
    from modicum.nn.capture import explain

    every, found = torch.arange(len(bench.data.names), device=bench.fabric.device), []
    for part in bench.feed({}).sweep(rows, LOOK):
        seen = explain(net, part["plain"], every.expand(len(part.rows), -1), maps, output="positive")
        found.append(next(iter(seen.maps.values())).cpu().numpy())
    return np.concatenate(found)


def _said(name: str, delta: Dataset) -> str:
    many, images = delta.annotations.num_rows, len(set(delta.annotations["row"].to_pylist()))
    return f"{registry.card(name).title}: {many:,} labels made for {images:,} images"
