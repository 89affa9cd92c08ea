"""Several processes against one: losses, trust rules, phases, checkpoints, and `fit` from end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from modicum.core import registry
from modicum.core.errors import MachineError, NeedsError
from modicum.engine import launch
from modicum.engine.fit import Listener, fit
from modicum.models import files
from modicum.runs.run import Run
from modicum.testing import ranks, tolerances
from modicum.testing.case import Case
from modicum.testing.checks_bits import _apart
from modicum.testing.stand_ins import DoubleFeed

pytestmark = pytest.mark.xdist_group("ranks")


def agree(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert _apart(value, theirs[name]) <= tolerances.RANKS, name


# -- the loop, in float64 ----------------------------------------------------------------------------------------------

RULES = {"fixed": "fixed:tau=0.4", "curriculum": "curriculum:tau=0.4"}


@pytest.mark.parametrize("rule", registry.parts("nn/trust"))
def test_every_trust_rule_judges_the_whole_batch(rule: str) -> None:
    case = Case.open("fixmatch")
    settings = {"trust": RULES.get(rule, rule), "align": "labelled"}
    alone = ranks.weights(case, settings)
    agree(alone, ranks.pool().train(case, settings))
    ignored = ranks.weights(case, {**settings, "trust": "fixed:tau=1"})
    assert any(not alone[k].equal(v) for k, v in ignored.items() if k in alone), "the rule believed nothing"


PHASES = '''
"""Collects a column, chooses by it, changes the head by lot."""
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from modicum.core.card import Card
from modicum.core.loss import mean
from modicum.core.method import Learn
from modicum.core.program import Change, Collect, Stream, Train

CARD = Card(
    title="Phases",
    role="learn",
    idea="Every kind of phase.",
    needs=("image", "class:some"),
    makes=("net:class",),
)


@dataclass(frozen=True)
class Phases(Learn):
    """Every kind of phase."""

    def program(self, info):
        steps = info.recipe.steps // 2
        return [
            Train({"l": Stream("class", info.recipe.batch, ("weak",))}, steps),
            Collect("sure", Stream("all", 5, ("plain",)), into="sure"),
            Collect("see", Stream("class", 5, ("weak",)), into="seen", mode="train"),
            Change("shake", optimisers="keep"),
            Train({"l": Stream("class & sure > 0.1", info.recipe.batch, ("weak",))}, steps, lane=1),
        ]

    def loss(self, nets, batch, clock):
        x = torch.nn.functional.relu(nets["net"](batch["l"]["weak"]).logits)
        return {"labelled": mean(cross_entropy(x, batch["l"].labels.cls, reduction="none"))}

    def sure(self, nets, batch):
        return nets["net"](batch["all"]["plain"]).logits.softmax(1).amax(1)

    def see(self, nets, batch):
        return nets["net"](batch["all"]["weak"]).logits

    def shake(self, nets):
        with torch.no_grad():
            nets["net"].head.weight.add_(0.1 * torch.randn_like(nets["net"].head.weight))
'''


def test_collected_columns_and_changes_are_those_of_one_process(tmp_path: Path) -> None:
    file = tmp_path / "phases.py"
    file.write_text(PHASES, encoding="utf-8")
    alone = ranks.weights(Case.open(str(file)))
    assert alone["sure"].isfinite().any() and alone["seen"].isnan().any()
    agree(alone, ranks.pool().train(Case.open(str(file))))


def share(rank: int, folder: str, world: int, stop: int) -> None:
    """A rank that trains from the last checkpoint; the last rank alone is asked to stop after a step."""
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet-{stop}"
    torch.distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=world)
    rest(Path(folder), stop if rank == world - 1 else 0, rank)
    torch.distributed.destroy_process_group()


def rest(folder: Path, stop: int, rank: int = 0) -> dict[str, Tensor]:
    def tick(arm: str, done: int, total: int, values: Mapping[str, float]) -> None:
        if done == stop:
            signal.raise_signal(signal.SIGINT)

    case = Case.open("fixmatch")
    method = case.method(trust="curriculum:tau=0.4")
    loop = case.loop(method=method, recipe=case.recipe(8, 7), home=folder / "checkpoints", tick=tick, kind=DoubleFeed)
    loop.nets.double()
    try:
        loop.run()
    except KeyboardInterrupt:
        (folder / f"stopped-{rank}").write_text(str(loop.at))
    out = {k: v.detach().double() for k, v in loop.nets.state_dict().items()}
    torch.save(out, folder / f"{rank}.pt")
    return out


@pytest.mark.parametrize("first", [1, 2])
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path, first: int) -> None:
    whole = rest(tmp_path / "whole", 0) if (tmp_path / "whole").mkdir() is None else {}
    folder = tmp_path / "changed"
    folder.mkdir()
    for world, stop in ((first, 4), (3 - first, 0)):
        if world == 1:
            rest(folder, stop)
        else:
            torch.multiprocessing.spawn(share, (str(folder), world, stop), nprocs=world)
        if stop:
            assert [(folder / f"stopped-{r}").read_text() for r in range(world)] == ["(0, 4)"] * world
    agree(whole, torch.load(folder / "0.pt", weights_only=True))


# -- fit, from end to end ----------------------------------------------------------------------------------------------

ASKED: dict[str, Any] = {
    "method": "fixmatch", "settings": {"trust": "adaptive"}, "steps": 10, "batch": 7, "twins": "steps",
    "precision": "32", "export": False, "recipe": {"optim.lr": "0.001"}, "net": "tiny-conv:width=8", "checkpoint": 0,
    "judge": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 noisy images, some without a class: where areas are flat, rounding may decide many a ReLU at once."""
    folder, luck = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    patch = pytest.MonkeyPatch()
    patch.setenv("MODICUM_CACHE", str(folder / "cache"))
    for i in range(23):
        colour = i % 3
        into = folder / "data" / ("unlabelled" if i > 14 else f"train/{'rgb'[colour]}")
        into.mkdir(parents=True, exist_ok=True)
        image = luck.integers(0, 160, (16, 16, 3), dtype=np.uint8)
        image[..., colour] += 80
        Image.fromarray(image).save(into / f"{i}.png")
    return folder / "data"


class Watched(Listener):
    """Notes what is said, and does something at a step."""

    def __init__(self, at: int = -1, do: Callable[[], None] = lambda: None) -> None:
        self.said: list[str] = []
        self.at, self.do, self.steps = at, do, []  # type: ignore[var-annotated]

    def say(self, text: str) -> None:
        self.said.append(text)

    def tick(self, arm: str, done: int, total: int, values: Mapping[str, float]) -> None:
        self.steps.append(done)
        if done == self.at:
            self.at = -1
            self.do()


@pytest.fixture(scope="module")
def alone(noise: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(noise, tmp_path_factory.mktemp("fit") / "alone", **ASKED)


def near(one: Run, other: Run) -> None:
    """Every network of two runs agrees to 1e-4, relative to what is larger than 1."""
    arms = [a["name"] for a in one.config["arms"]]
    assert len(arms) == 3 and arms == [a["name"] for a in other.config["arms"]]
    for arm in arms:
        a, b = (files.load(r / "arms" / arm)[0].state_dict() for r in (one, other))
        for name, value in a.items():
            off = (value.double() - b[name].double()).abs().max()
            assert off <= 1e-4 * max(1, float(value.abs().max())), (arm, name, off)


def told(run: Run) -> list[float]:
    """Losses that were logged."""
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    return [x["labelled"] for x in lines]


def test_two_processes_make_the_run_of_one(noise: Path, alone: Run, tmp_path: Path) -> None:
    listen = Watched()
    run = fit(noise, tmp_path / "run", listen, devices=2, **ASKED)
    near(alone, run)
    assert told(run) == pytest.approx(told(alone), rel=1e-4) and len(told(run)) == 30
    assert {p.name for p in run.folder.iterdir()} == {p.name for p in alone.folder.iterdir()}
    assert set(run.read("seconds.json")) == set(alone.read("seconds.json"))
    assert listen.steps[-1] == 10 and len(listen.said) == len(set(listen.said))
    before, now = ({k: v for k, v in r.config.items() if k != "why"} for r in (alone, run))
    assert before == now


def test_fewer_images_a_step_than_processes_are_refused(noise: Path, tmp_path: Path) -> None:
    with pytest.raises(NeedsError, match="1 images a step cannot be shared by 2 processes"):
        fit(noise, tmp_path / "run", devices=2, **{**ASKED, "batch": 1})
    assert not (tmp_path / "run" / "ranks").exists()


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[launch.Child]:
    """The processes that are started."""
    made: list[launch.Child] = []

    class Noted(launch.Child):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(launch, "Child", Noted)
    return made


def test_a_killed_process_ends_all_and_the_run_goes_on(
    noise: Path, alone: Run, tmp_path: Path, children: list[launch.Child]
) -> None:
    listen = Watched(3, lambda: os.kill(children[1].process.pid, signal.SIGKILL))
    words = r"process 2 of 2 was ended by SIGKILL \(fixmatch, step \d+ of 10\)"
    with pytest.raises(MachineError, match=words) as error:
        fit(noise, tmp_path / "run", listen, devices=2, **ASKED)
    assert "goes on from the last checkpoint" in error.value.fix
    assert all(c.process.poll() is not None for c in children)
    near(alone, fit(noise, tmp_path / "run", **ASKED))  # with one process


@pytest.mark.slow
def test_an_interrupt_is_saved_by_all_at_one_step(
    noise: Path, alone: Run, tmp_path: Path, children: list[launch.Child]
) -> None:
    listen = Watched(3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit(noise, tmp_path / "run", listen, devices=2, **{**ASKED, "checkpoint": 1000})
    assert [c.process.poll() for c in children] == [130, 130] and "Stopping after this step" in listen.said
    assert list((tmp_path / "run" / "arms" / "fixmatch" / "checkpoints").glob("at-*"))
    again = Watched()
    near(alone, fit(noise, tmp_path / "run", again, devices=2, **{**ASKED, "checkpoint": 1000}))
    assert min(again.steps[:5]) > 3


@pytest.mark.slow
def test_no_process_outlives_the_one_that_started_it(noise: Path, tmp_path: Path) -> None:
    script = f"""
        from modicum.engine.fit import Listener, fit
        class Loud(Listener):
            def tick(self, *given): print("step", flush=True)
        fit({str(noise)!r}, {str(tmp_path / "run")!r}, Loud(), devices=2, **{ ({**ASKED, "steps": 5000})!r})
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    while "step" not in parent.stdout.readline():
        assert parent.poll() is None
    mine = subprocess.run(["pgrep", "-P", str(parent.pid)], capture_output=True, text=True).stdout.split()
    assert len(mine) == 2
    parent.kill()
    parent.wait()
    until = time.monotonic() + 10
    while any(Path("/proc", pid).exists() for pid in mine) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path("/proc", pid).exists() for pid in mine)
