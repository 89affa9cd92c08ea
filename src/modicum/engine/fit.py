"""fit: a folder of images with a few labels in, a measured, explained and exported classifier out.

Stages: read, choose, train (the method and its labels-only twins), measure, explain, export, report.  Every choice is
written to config.json before training; the same command again takes the run up where it stopped.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import modicum
from modicum.core import registry
from modicum.core.dataset import HUMAN, Dataset, Table
from modicum.core.errors import DataError, RunError
from modicum.core.method import Learn
from modicum.core.recipe import Recipe
from modicum.data.cache import Pixels
from modicum.data.read import read
from modicum.data.scan import scan, traits_of
from modicum.data.split import few, split
from modicum.data.vault import Vault, hide
from modicum.data.views import way
from modicum.engine import choose, finish
from modicum.engine.arms import Bench, train
from modicum.engine.folds import out_of_fold
from modicum.engine.request import Request
from modicum.runs.run import Metrics, Run, environment

HELD_OUT = 50  # labels a class from which a fifth is held out of training for temperature


class Listener(Protocol):
    """Where a job tells how it goes.  The command line prints; a library call is silent."""

    def say(self, text: str) -> None:
        """A line for the person."""
        return

    def tick(self, arm: str, done: int, total: int, values: Mapping[str, float]) -> None:
        """A gradient step was taken."""
        return


class Silent(Listener):
    """Tells nobody."""


@dataclass
class Job:
    """One run in progress."""

    run: Run
    asked: Request
    listen: Listener
    seconds: dict[str, float] = field(default_factory=dict)

    def stage(self, name: str, begun: float) -> None:
        """Note in seconds.json how long a stage took; an interrupted run adds up."""
        if not self.seconds and (self.run / "seconds.json").exists():
            self.seconds.update(self.run.read("seconds.json"))
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begun, 3)
        self.run.write("seconds.json", self.seconds)


def cache_home() -> Path:
    """Where pixel caches live: MODICUM_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MODICUM_CACHE") or Path(base) / "modicum")


def fit(
    data: str | Path | Dataset, out: str | Path = "modicum-run", listen: Listener | None = None, **asked: Any
) -> Run:
    """Train, measure, explain and export a classifier from images and the labels there are.

    data: a folder, table or file (see `modicum.data.formats`), "sample:digits", or a Dataset.  out: the run's folder;
    the same call again resumes it.  asked: settings of engine.request.Request, by name.  DataError, NeedsError and
    SettingsError say what is missing and what to do.
    """
    given = data if isinstance(data, Dataset) else None
    request = Request.of({**asked, "data": given.version if given is not None else str(data)})
    run = Run(out)
    with run.lock():
        job = Job(run, request, listen or Silent())
        if (run / "config.json").exists():
            _same(run, request)
            if (run / "report.html").exists():
                job.listen.say(f"{run.folder} is finished: nothing to do")
                return run
        elif any(p.name[0] != "." for p in run.folder.iterdir()) and not (run / "scan.json").is_file():
            raise RunError("the folder is not empty and holds no run", where=run.folder, fix="Choose another --out.")
        begun = time.perf_counter()
        visible, vault, pixels = _prepare(job, given)
        job.stage("read", begun)
        _train_all(job, visible, vault, pixels)
    return run


def _same(run: Run, request: Request) -> None:
    before = run.config.get("request", {})
    now = request.to_dict()
    changed = sorted(k for k in now if before.get(k) != now[k])
    if changed:
        raise RunError(
            f"another run is here: it was asked for {changed[0]}={before.get(changed[0])!r}, now {now[changed[0]]!r}",
            where=run.folder, fix="Choose another --out, or repeat the first command to resume it.",
        )  # fmt: skip


def _prepare(job: Job, given: Dataset | None) -> tuple[Dataset, Vault, Pixels]:
    """Read, scan, split and hide; on resume, take what the run holds."""
    run, asked, say = job.run, job.asked, job.listen.say
    if (run / "config.json").exists():
        say(f"Resuming {run.folder}")
        visible, vault = Dataset.load(run / "data"), Vault.load(run / "vault")
        return visible, vault, Pixels.build(visible, cache_home(), run.config["choices"]["cache"])
    faults = []
    if given is None:
        found = read(asked.data)
        data, faults = found.data, found.faults
    else:
        data = given
    whole = Pixels.build(
        data, cache_home(), asked.side or (choose.PRETRAINED if asked.pretrained or asked.weights else 0) or 128
    )
    seen = scan(data, whole, faults=faults)
    visible, vault = _hidden(_splits(seen.data, asked), asked)
    shown = replace(scan(visible, whole, faults=faults), contradicting=seen.contradicting)
    run.write("scan.json", shown.to_dict())
    for text in shown.lines():
        say(text)
    visible.save(run / "data")
    vault = vault.save(run / "vault")
    return visible, vault, whole


def _splits(data: Dataset, asked: Request) -> Dataset:
    """A test split where there is none and labels allow it (10 a class or more), one for calibration (50 a class)."""
    names = data.field("split").astype(object)
    if "test" not in set(names) and asked.test and len(data.names) and data.counts().min() >= 10:
        names[names == "train"] = ""
        data = split(data.with_images(split=names), {"train": 1 - asked.test, "test": asked.test}, seed=asked.seed)
        names = data.field("split").astype(object)
    names[names == ""] = "train"
    data = data.with_images(split=names)
    train_labels = data.cls[(names == "train") & (data.cls >= 0)]
    kept = np.bincount(train_labels, minlength=max(1, len(data.names)))
    if "val" not in set(names) and not (asked.labels or asked.folds) and kept.min() >= HELD_OUT:
        names[(names == "train") & (data.cls >= 0)] = ""
        data = split(data.with_images(split=names), {"train": 0.8, "val": 0.2}, seed=asked.seed)
    return data


def _hidden(data: Dataset, asked: Request) -> tuple[Dataset, Vault]:
    """Labels outside training leave the data; with `labels`, so do all but that many a class."""
    names = data.field("split")
    rows = np.flatnonzero((names == "train") & data.known("class"))
    if asked.labels:
        rows = few(data, per_class=asked.labels, seed=asked.seed, rows="split:train")
    return hide(data, rows)


def _train_all(job: Job, visible: Dataset, vault: Vault, pixels: Pixels) -> None:
    """Choose, train every arm, and finish."""
    import lightning_fabric as lightning

    run, asked = job.run, job.asked
    began = time.perf_counter()
    new = not (run / "config.json").exists()
    config = _choose(job, visible, pixels) if new else run.config
    choices = config["choices"]
    visible = _labelled(visible, config["before"])
    fabric = _fabric(lightning, choices)
    bench = _bench(job, visible, pixels, choices, fabric)
    recipe = Recipe.of(config["recipe"])
    method = choose.compose(config["method"], config["settings"], recipe, asked.preset)
    if new:
        recipe = _budget(job, bench, method, recipe, config)
        run.write("environment.json", {**environment(), "threads": choices["threads"]})
        run.write("config.json", config)
    job.stage("choose", began)
    for text in config["why"]:
        job.listen.say(text)
    nets = {}
    metrics = Metrics(run / "metrics.jsonl")
    bench.every = asked.checkpoint
    for arm in config["arms"]:
        begun = time.perf_counter()
        arm_recipe = recipe.but(steps=arm["steps"], views={**recipe.views, "weak": recipe.views[arm["view"]]})
        arm_method = (
            method if arm["name"] == config["method"] else choose.compose(arm["method"], {}, recipe, asked.preset)
        )
        nets[arm["name"]] = train(
            bench, arm_method, arm_recipe, arm["name"], run / "arms" / arm["name"], metrics, job.listen.tick
        )
        job.stage(f"train {arm['name']}", begun)
    unseen = None
    if asked.folds > 1:
        begun = time.perf_counter()
        unseen = out_of_fold(run, bench, method, recipe, asked.folds, metrics, job.listen.tick)
        job.stage("train folds", begun)
    finish.finish(job, bench, vault, nets, unseen)


def _choose(job: Job, data: Dataset, pixels: Pixels) -> dict[str, Any]:
    """Everything that is chosen before anything is timed."""
    import torch

    asked = job.asked
    if not len(data.names):
        raise DataError(
            "no image has a class",
            where=asked.data,
            fix="Put some images into one folder per class, or add labels.csv with columns image,class.",
        )
    rows = data.rows("split:train")
    traits = traits_of(data, pixels, rows)
    height, width = (int(np.median(pixels.index[f"whole_{k}"][pixels.good])) for k in ("height", "width"))
    side = choose.side_of(asked, width, height)
    found = choose.chain(data.take(rows), tuple(traits), asked.method)
    names = [s.name for s in found.steps if s.name != "predict"]
    from modicum.models.doors import default_name

    flip = pixels.channels == 3 if asked.flip == "auto" else asked.flip == "yes"
    recipe = choose.recipe_of(names[-1], asked, side, flip)
    net = asked.net or default_name(side, pixels.channels, asked.pretrained)
    start = "published weights" if asked.pretrained else asked.weights or "random weights"
    return {
        "modicum": modicum.__version__, "request": asked.to_dict(), "method": names[-1], "before": names[:-1],
        "settings": choose.settings_of(names[-1], asked), "recipe": recipe.to_dict(), "wraps": list(recipe.wraps),
        "seed": asked.seed,
        "choices": {
            "net": net, "side": side, "channels": pixels.channels, "cache": pixels.side, "flip": flip, "start": start,
            "device": choose.device_of(asked), "precision": "32-true", "threads": torch.get_num_threads(),
            "augment": way(side), "layout": "channels_last" if net.startswith("tiny-") else "", "twins": asked.twins,
        },
        "data": {
            "root": data.root or asked.data, "version": data.version, "classes": list(data.names), "images": len(data),
            "counts": [int(c) for c in data.counts()],
        },
        "why": choose.why(found, traits, asked.method), "arms": [],
    }  # fmt: skip


def _labelled(data: Dataset, before: list[str]) -> Dataset:
    """The data after the label steps of the chain."""
    for name in before:
        method = registry.make(name)
        if method.card.role == "label":
            data = (data + method.label(Table(data, np.arange(len(data))))).resolve((HUMAN,))
    return data


def _fabric(lightning: Any, choices: Mapping[str, Any]) -> Any:
    import torch

    torch.set_num_threads(int(choices["threads"]))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every precision
    fabric = lightning.Fabric(accelerator=choices["device"], devices=1, precision=choices["precision"])
    fabric.launch()
    return fabric


def _bench(job: Job, data: Dataset, pixels: Pixels, choices: Mapping[str, Any], fabric: Any) -> Bench:
    names = data.field("split")
    pool = np.isin(names, ("train", "unlabelled", "pool", ""))
    asked = job.asked
    return Bench(
        data, pixels, pool, choices["net"], choices["side"], choices["channels"], asked.seed, fabric,
        choices["augment"], choices["layout"], Path(asked.weights) if asked.weights else None, asked.pretrained,
    )  # fmt: skip


def _budget(job: Job, bench: Bench, method: Learn, recipe: Recipe, config: dict[str, Any]) -> Recipe:
    """Precision, steps and the twins' steps, by timing a few steps; written into config."""
    import lightning_fabric as lightning

    asked, choices = job.asked, config["choices"]
    job.listen.say("Timing a few steps, to choose the precision and how many steps there will be")

    def seconds(precision: str) -> float:
        bench.fabric = _fabric(lightning, {**choices, "precision": precision})
        return choose.timed(lambda: bench.loop(method, recipe), steps=8)

    choices["precision"], said = choose.faster_precision(asked, seconds)
    bench.fabric = _fabric(lightning, choices)
    slow = choose.timed(lambda: bench.loop(method, recipe))
    if asked.minutes and not asked.steps:
        recipe = recipe.but(steps=choose.budget(asked.minutes, slow))
    config["recipe"], config["why"] = recipe.to_dict(), [*config["why"], said, *bench.notes]
    config["arms"] = [{"name": config["method"], "method": config["method"], "view": "weak", "steps": recipe.steps}]
    twin = choose.baseline()
    if asked.twins != "none" and config["method"] != twin:
        quick = choose.timed(lambda: bench.loop(choose.compose(twin, {}, recipe, asked.preset), recipe))
        steps = recipe.steps if asked.twins == "steps" else max(recipe.steps, round(recipe.steps * slow / quick))
        for view in ("weak", "strong"):
            config["arms"].append({"name": f"twin-{view}", "method": twin, "view": view, "steps": steps})
        as_much = "as long as" if asked.twins == "time" else "as many steps as"
        config["why"].append(
            f"Labels-only twins train {steps:,} steps ({as_much} the method): "
            f"a step takes {1e3 * quick:.1f} ms, the method's {1e3 * slow:.1f} ms."
        )
    choices["steps"] = recipe.steps
    return recipe
