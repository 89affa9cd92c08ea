"""fit: a folder of images with a few labels in, a measured, explained and exported classifier out.

Stages: read, choose, train (the method and its labels-only twins), measure, explain, export, report.  Every choice is
written to config.json before training; the same command again takes the run up where it stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import modicum
from modicum.core.dataset import Dataset
from modicum.core.disk import whole_folder
from modicum.core.errors import DataError, NeedsError, RunError
from modicum.core.method import Learn
from modicum.core.net import Net
from modicum.core.places import cache_home
from modicum.core.recipe import Recipe
from modicum.core.space import writing
from modicum.data.cache import Pixels
from modicum.data.read import read
from modicum.data.scan import scan, traits_of
from modicum.data.split import carve, few
from modicum.data.vault import Vault, hide
from modicum.data.views import way
from modicum.engine import chain, choose, finish, keep, launch, others
from modicum.engine.arms import Bench, train
from modicum.engine.budget import budget
from modicum.engine.folds import Unseen, out_of_fold
from modicum.engine.images import changed, images_of
from modicum.engine.imagine import without
from modicum.engine.look import demand
from modicum.engine.memory import give_back, kept
from modicum.engine.request import Request
from modicum.engine.room import room
from modicum.engine.state import terminable
from modicum.nn import ranks
from modicum.runs.forms import FORMAT
from modicum.runs.lock import told
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
    strict: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def stage(self, name: str, begun: float) -> None:
        """Note in seconds.json how long a stage took; an interrupted run adds up.  What memory it needed goes back."""
        if not self.seconds and (self.run / "seconds.json").exists():
            self.seconds.update(self.run.read("seconds.json"))
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begun, 3)
        self.run.write("seconds.json", self.seconds)
        give_back()


def fit(
    data: str | Path | Dataset, out: str | Path = "modicum-run", listen: Listener | None = None, *, devices: int = 1,
    cluster: str = "", strict: bool = False, **asked: Any,
) -> Run:  # fmt: skip
    """Train, measure, explain and export a classifier from images and the labels there are.

    data: a folder, table or file (see `modicum.data.formats`), "sample:digits", or a Dataset.  out: the run's folder;
    the same call again resumes it, also with other `devices`: processes that share every batch, one a GPU, or sharing
    the cores.  cluster: "local", "auto" or HOST:PORT of the Ray cluster that runs them.  strict: a file or row that
    cannot be used is an error.  asked: settings of engine.request.Request, by name.  DataError, NeedsError and
    SettingsError say what is missing and what to do.
    """
    given = data if isinstance(data, Dataset) else None
    request = Request.of({**asked, "data": given.version if given is not None else str(data)})
    choose.early(request)
    if given is None and Path(out).resolve().is_relative_to(Path(data).resolve()):  # type: ignore[arg-type]
        fix = "Choose an --out beside that folder: what is written in it would be read as data."
        raise RunError("inside the images", where=f"--out {out}", fix=fix)
    run = Run(out)
    with terminable(), run.lock() as before:
        job = Job(run, request, listen or Silent(), strict)
        if before:
            job.listen.say(f"Taken over from {told(before)}, which ended without a word")
        if (run / "config.json").exists():
            _same(run, request)
            if run.finished:
                job.listen.say(f"{run.folder} is finished: nothing to do")
                return run
        elif any(p.name[0] != "." for p in run.folder.iterdir()) and (
            (run / "arms").exists() or not (run / "scan.json").is_file()
        ):
            found = "the folder is not empty and holds no run: it has no config.json"
            raise RunError(found, where=run.folder, fix="Choose another --out.")
        begun = time.perf_counter()
        visible, vault, pixels = _prepare(job, given)
        job.stage("read", begun)
        _train_all(job, visible, vault, pixels, devices, cluster)
    return run


def _same(run: Run, request: Request) -> None:
    before = run.config["request"]
    now = request.to_dict()
    changed = sorted(k for k in {*now, *before} if before.get(k) != now.get(k))
    for name in changed[:1]:
        raise RunError(
            f"another run is here: it was asked for {name}={before.get(name)!r}, now {now.get(name)!r}",
            where=run.folder, fix="Choose another --out, or repeat the first command to resume it.",
        )  # fmt: skip
    config = run.config
    if not choose.tells(config["method"], config["want"]):
        found = f"config.json is damaged: {config['method']} does not tell {config['want']:.40}"
        raise RunError(found, where=run.folder, fix="Restore the file, or start a new run with another --out.")


def _prepare(job: Job, given: Dataset | None) -> tuple[Dataset, Vault, Pixels]:
    """Read, scan, split and hide; on resume, take what the run holds."""
    run, asked, say = job.run, job.asked, job.listen.say
    if (run / "config.json").exists():
        say(f"Resuming {run.folder}")
        visible, vault = Dataset.load(run / "data"), Vault.load(run / "vault")
        if not vault.fits(visible):
            fix = "Restore both folders of this run, or start a new one with another --out."
            raise RunError("data/ and vault/ are of different images or classes", where=run.folder, fix=fix)
        pixels = images_of(run, visible)
        if touched := str(changed(visible, pixels)):
            say(f"Since this run began {touched}.  It goes on with the images as they were")
        return visible, vault, pixels
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
    if job.strict:
        demand(seen.faults, asked.data)
    data = _splits(seen.data.with_column("together", seen.together), asked)
    visible, vault = _hidden(data, asked)
    shown = replace(seen.again(visible), contradicting=seen.contradicting)
    drawn = shown.drawn(seen)
    run.write("scan.json", {**shown.to_dict(), "drawn": drawn})
    left = [f"skipped {f.where}: {f.reason}" for f in seen.faults[:3]]
    for text in (*shown.lines(), *drawn, *left):
        say(text)
    with writing(run.folder, "the data"):
        with whole_folder(run / "data") as making:
            visible.save(making)
        with whole_folder(run / "vault") as making:
            vault.save(making)
    return Dataset.load(run / "data"), Vault.load(run / "vault"), whole


def _splits(data: Dataset, asked: Request) -> Dataset:
    """A test split where there is none and labels allow it (10 a class or more; 50 images with tags or masks), one for
    calibration (50 a class).

    Near-duplicates and members of a group stay on one side of what is carved here.
    """
    names, together = data.field("split").astype(object), data.columns["together"]
    free, want = np.isin(names, ("", "train")), choose.goal(data, asked)
    if "test" not in set(names) and asked.test and len(data.names) and choose.enough(data, want):
        known = free if want == "class" else free & data.known(want)
        data = carve(data, "test", asked.test, known, asked.seed, together)
    else:
        names[free] = "train"
        data = data.with_images(split=names)
    names = data.field("split")
    free = (names == "train") & (data.cls >= 0)
    kept = np.bincount(data.cls[free], minlength=max(1, len(data.names)))
    if "val" not in set(names) and not (asked.labels or asked.folds) and kept.min() >= HELD_OUT:
        data = carve(data, "val", 0.2, free, asked.seed, together)
    return data


def _hidden(data: Dataset, asked: Request) -> tuple[Dataset, Vault]:
    """Labels outside training leave the data; with `labels`, so do all but that many a class."""
    names = data.field("split")
    rows = np.flatnonzero((names == "train") & data.known("class"))
    if asked.labels and not len(rows):
        fix = "Leave it out: other labels than classes are not counted."
        raise NeedsError("no image for training has a class", where=f"--labels {asked.labels}", fix=fix)
    if asked.labels:
        rows = few(data, per_class=asked.labels, seed=asked.seed, rows="split:train")
    kinds = asked.kinds() or None
    if kinds and "class" not in kinds:
        rows = rows[:0]
    return hide(data, rows, kinds, np.flatnonzero(np.isin(names, ("test", "val"))))


def _train_all(job: Job, visible: Dataset, vault: Vault, pixels: Pixels, devices: int, cluster: str) -> None:
    """Choose, train every arm, and finish."""
    config = job.run.config if (job.run / "config.json").exists() else _choose(job, visible, pixels)
    new = not config["arms"]
    if devices > 1 or cluster:
        launch.train(job.run, config, devices, cluster, job.listen)
        new, config = False, job.run.config
        job.seconds.clear()  # the first rank has noted its own
        job = replace(job, listen=Silent())
    bench, nets, unseen = trained(job, visible, pixels, config, new)
    finish.finish(job, bench, vault, nets, unseen)


@kept()
def trained(
    job: Job, visible: Dataset, pixels: Pixels, config: dict[str, Any], new: bool
) -> tuple[Bench, dict[str, Net], Unseen | None]:
    """Time a few steps of a new run, then train every arm, or load those that are done; ranks call it together."""
    import lightning_fabric as lightning

    run, asked, choices = job.run, job.asked, config["choices"]
    began = time.perf_counter()
    fabric = _fabric(lightning, choices)
    own, metrics, nets = _bench(job, visible, pixels, choices, fabric), Metrics(run / "metrics.jsonl"), {}
    bench = chain.labelled(job, own, config, metrics)
    recipe = Recipe.of(config["recipe"])
    method = choose.compose(config["method"], config["settings"], recipe, asked.preset)
    if new:
        job.listen.say("Timing a few steps, to choose the precision and how many steps there will be")
        other = lambda p: _fabric(lightning, {**choices, "precision": p})  # noqa: E731
        recipe, expected = budget(bench, method, recipe, config, asked, other)
        keep.plan(bench, method, recipe, config, asked)
        if any(expected.values()):
            job.listen.say(keep.duration(config, expected))
        run.write("environment.json", {**environment(), "threads": choices["threads"], "processes": ranks.world_size()})
        run.write("config.json", config)
    room(run, bench, method, recipe, config)
    ranks.wait()  # nothing is trained before the choices are written
    job.stage("choose", began)
    for text in config["why"]:
        job.listen.say(text)
    bench.every = asked.checkpoint
    unseen = _unseen(job, bench, config, metrics) if choices["folds"] else None
    for name, (one, its) in _arms(config, asked).items():
        begun = time.perf_counter()
        nets[name] = train(bench, one, its, name, run / "arms" / name, metrics, job.listen.tick)
        job.stage(f"train {name}", begun)
    return without(bench, own), nets, unseen


def _arms(config: dict[str, Any], asked: Request) -> dict[str, tuple[Learn, Recipe]]:
    """Every arm of a run by name: what is trained, and how."""
    recipe, out = Recipe.of(config["recipe"]), {}
    for arm in config["arms"]:
        settings = config["settings"] if arm["name"] == config["method"] else {}
        its = recipe.but(steps=arm["steps"] or recipe.steps, views={**recipe.views, "weak": recipe.views[arm["view"]]})
        out[arm["name"]] = (choose.compose(arm["method"], settings, recipe, asked.preset), its)
    return out


def _unseen(job: Job, bench: Bench, config: dict[str, Any], metrics: Metrics) -> Unseen:
    """Train the folds; what a trust rule wants to know from them is settled and written into config."""
    begun, choices, arms = time.perf_counter(), config["choices"], _arms(config, job.asked)
    main = config["method"]
    some = arms if choices["judge"] == "folds" else {main: arms[main]}
    unseen = out_of_fold(job.run, bench, some, choices["folds"], choices["share"], metrics, job.listen.tick)
    if keep.settle(arms[main][0], unseen, config):
        job.run.write("config.json", config)
        job.listen.say(config["why"][-1])
        ranks.wait()
    job.stage("train folds", begun)
    return unseen


def _choose(job: Job, data: Dataset, pixels: Pixels) -> dict[str, Any]:
    """Everything that is chosen before anything is timed."""
    import torch

    asked = job.asked
    want = choose.goal(data, asked)
    rows = _trainable(data, asked)
    traits = traits_of(data, pixels, rows)
    height, width = (int(np.median(pixels.index[f"whole_{k}"][pixels.good])) for k in ("height", "width"))
    side = choose.side_of(asked, width, height)
    from modicum.models.doors import default_name

    net = asked.net or choose.origin(asked)[0] or default_name(side, pixels.channels, asked.pretrained)
    steps = choose.steps_in(asked, net, len(data.names), pixels.channels, side)
    found = choose.chain(
        data.take(rows), tuple(traits), asked.method, steps, want, asked.via, others.facts(asked)
    )
    names = choose.steps_of(found, asked.via)
    flip = pixels.channels == 3 if asked.flip == "auto" else asked.flip == "yes"
    recipe = choose.recipe_of(names[-1], asked, side, flip)
    return {
        "format": FORMAT, "modicum": modicum.__version__, "request": asked.to_dict(), "want": want,
        "method": names[-1], "before": names[:-1], "settings": choose.settings_of(names[-1], asked),
        "recipe": recipe.to_dict(), "wraps": list(recipe.wraps), "seed": asked.seed,
        "choices": {
            "net": net, "side": side, "channels": pixels.channels, "cache": pixels.side, "pixels": pixels.home.name,
            "flip": flip, "start": "published weights" if asked.pretrained else asked.weights or "random weights",
            "device": choose.device_of(asked), "precision": "32-true", "threads": torch.get_num_threads(),
            "augment": way(side), "layout": "", "twins": asked.twins,
            "judge": "", "unjudged": "", "folds": 0, "share": 1.0,
        },
        "data": {
            "root": data.root or asked.data, "version": data.version, "classes": list(data.names), "images": len(data),
            "counts": [int(c) for c in data.counts()],
        },
        "why": choose.why(found, traits, asked.method, asked.via) + others.about(asked, names), "arms": [],
    }  # fmt: skip


def _trainable(data: Dataset, asked: Request) -> np.ndarray:
    """Rows to train on; DataError where there is none, or no class is named."""
    if not len(data.names):
        fix = "Put some images into one folder per class, or add labels.csv with columns image,class."
        raise DataError("no image has a class", where=asked.data, fix=fix)
    rows = data.rows("split:train")
    if not len(rows):
        fix = "Put some images outside of the folders test/ and val/."
        raise DataError("no image to train on: all are for testing", where=asked.data, fix=fix)
    return rows


def _fabric(lightning: Any, choices: Mapping[str, Any]) -> Any:
    import torch

    if ranks.world_size() == 1:  # a rank was started with its share
        torch.set_num_threads(int(choices["threads"]))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every precision
    where = [torch.cuda.current_device()] if choices["device"] == "cuda" else 1
    fabric = lightning.Fabric(accelerator=choices["device"], devices=where, precision=choices["precision"])
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
