"""The loop on toy data: what each phase does, and that every stop resumes to the same bits."""

from __future__ import annotations

import json
import math
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from modicum.core import disk
from modicum.core.batch import Batch
from modicum.core.dataset import Dataset
from modicum.core.errors import ModicumError, NeedsError, RunError
from modicum.core.loss import Loss, Term, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Nets
from modicum.core.program import Ask, Change, Clock, Collect, Info, Program, Stream, Train, Turn
from modicum.core.recipe import PLAIN, Optim, Recipe
from modicum.engine.arms import Bench
from modicum.engine.loop import Loop
from modicum.runs.run import Metrics
from modicum.testing.case import Alone
from modicum.testing.toy import CLASSES, pictures, pixels_of

L = {"l": Stream("class", 4)}
VIEWS = {"weak": PLAIN, "plain": PLAIN}
FLAT = Recipe(steps=6, batch=4, optim=Optim(lr=0.05), schedule="constant", wraps=(), views=VIEWS)
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Toy(Learn):
    """A method whose program is given."""

    phases: Any = ()

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": make("net"), "other": make("other"), "count": nn.BatchNorm1d(1, affine=False)})

    def program(self, info: Info) -> Program:
        return list(self.phases)

    def loss(self, nets: Any, batch: Batch, clock: Clock) -> Loss:
        x = nn.functional.dropout(nets["net"](batch["l"]["weak"]).logits, 0.1)
        return {"labelled": mean(cross_entropy(x, batch["l"].labels.cls, reduction="none"))}

    def second(self, nets: Any, batch: Batch, clock: Clock) -> Loss:
        out = nets["other"](batch["l"]["weak"]).logits
        return {"second": mean(cross_entropy(out, batch["l"].labels.cls, reduction="none"))}

    def bad(self, nets: Any, batch: Batch, clock: Clock) -> Loss:
        scale = math.nan if clock.step == 2 else 1.0
        ill = Term(scale * nets["net"].head.weight.sum(), 1)
        return {"good": self.loss(nets, batch, clock)["labelled"], "ill": ill}

    def idle(self, nets: Any, batch: Batch, clock: Clock) -> Loss:
        return {"told": self.loss(nets, batch, clock)["labelled"]._replace(weight=0.0)}

    def row(self, nets: Any, batch: Batch) -> Tensor:
        return batch["all"].rows.float()

    def logits(self, nets: Any, batch: Batch) -> Tensor:
        return nets["net"](batch["all"]["plain"]).logits

    def halve(self, nets: Any) -> None:
        """A change of values."""
        with torch.no_grad():
            for p in nets["net"].head.parameters():
                p.mul_(0.5)

    def widen(self, nets: Any) -> None:
        """A change of structure: a head of two layers, drawn anew; how wide, the weights of that moment decide."""
        net = nets["net"]
        first, last = (net.head[0], net.head[-1]) if isinstance(net.head, nn.Sequential) else (net.head, net.head)
        wide = 3 + int(next(net.parameters()).abs().sum() * 1000) % 50
        net.head = nn.Sequential(nn.Linear(first.in_features, wide), nn.ReLU(), nn.Linear(wide, last.out_features))

    def after_step(self, nets: Any, clock: Clock) -> None:
        nets["count"].num_batches_tracked += 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are not forced to the disk: no power is cut here."""
    monkeypatch.setattr(disk, "sync", lambda path: None)


@pytest.fixture
def bench() -> Bench:
    images, truth = pictures(24)
    data = Dataset.build([f"{i}.png" for i in range(24)], CLASSES, cls=truth, split="train")
    return Bench(data, pixels_of(images), np.ones(24, bool), "tiny-conv:width=4", 16, 3, 1, Alone(), every=-1.0)  # type: ignore[arg-type]


def loop_of(bench: Bench, *phases: Any, home: Path | None = None, recipe: Recipe = FLAT, tick: Tick | None = None,
            metrics: Metrics | None = None) -> Loop:  # fmt: skip
    def told(arm: str, done: int, total: int, values: Any) -> None:
        if tick is not None:
            tick(done)

    return bench.loop(Toy(phases=phases), recipe, "arm", home, tick=told, metrics=metrics)


def stop_at(step: int, error: type[BaseException] = SystemExit) -> Tick:
    def tick(done: int) -> None:
        if done == step:
            raise error

    return tick


def equal(a: Loop, b: Loop) -> bool:
    one, other = a.nets.state_dict(), b.nets.state_dict()
    return one.keys() == other.keys() and all(v.equal(other[k]) for k, v in one.items())


# -- what phases do ----------------------------------------------------------------------------------------------------


def test_the_learning_rate_is_a_function_of_the_lanes_step(bench: Bench, tmp_path: Path) -> None:
    recipe = FLAT.but(schedule="cosine", warmup=0.0)
    metrics = Metrics(tmp_path / "m.jsonl")
    loop_of(bench, Train(L, 4), Train(L, 2, lane=1), Train(L, 4), recipe=recipe, metrics=metrics).run()
    rates = [json.loads(x)["lr"] for x in metrics.path.read_text().splitlines()]
    first = [0.05 * 0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert rates == pytest.approx([*first[:4], 0.05, 0.025, *first[4:]])


def test_lanes_draw_their_own_data(bench: Bench) -> None:
    loop = loop_of(bench, Train(L, 2), Train(L, 2, lane=1))
    draws = [loop.feed.draw(L["l"], "l", 0, 0, lane).rows.tolist() for lane in (0, 1)]
    assert draws[0] != draws[1]


def test_turns_train_what_they_name_in_their_order(bench: Bench) -> None:
    before = loop_of(bench).nets.state_dict()
    turns = (Turn("second", ("other.head",)), Turn("loss", ("net",), "still"))
    loop = loop_of(bench, Train(L, 2, turns), recipe=FLAT.but(groups={"still": Optim(lr=0.0)}))
    loop.run()
    moved = {k for k, v in loop.nets.named_parameters() if not v.equal(before[k])}
    assert moved == {"other.head.weight", "other.head.bias"}


def test_an_unknown_group_is_named(bench: Bench) -> None:
    with pytest.raises(NeedsError, match="no optimiser group 'arch'"):
        loop_of(bench, Train(L, 1, (Turn(group="arch"),))).run()


def test_carry_goes_on_and_without_it_momenta_begin_anew(bench: Bench) -> None:
    """One phase of 4 steps moves on as 2 + 2 with carry does (same draws: no dropout, one batch of all rows)."""
    every = {"l": Stream("class", 24)}
    turn = (Turn("second", ("other.head",)),)
    runs = [loop_of(bench, *p) for p in (
        [Train(every, 4, turn)], [Train(every, 2, turn), Train(every, 2, turn, carry=True)],
        [Train(every, 2, turn), Train(every, 2, turn)],
    )]  # fmt: skip
    for loop in runs:
        loop.run()
    one, carried, anew = (loop.nets["other"].head.weight for loop in runs)
    assert torch.allclose(one, carried, atol=1e-6) and not torch.allclose(one, anew, atol=1e-4)


@pytest.mark.parametrize(
    ("fn", "told", "stays"), [("halve", "", False), ("halve", "keep", True), ("widen", "keep", False)]
)
def test_a_change_drops_optimisers_unless_told_and_always_with_structure(
    bench: Bench, fn: str, told: str, stays: bool
) -> None:
    loop = loop_of(bench, Train(L, 2), Change(fn, optimisers=told))
    loop.run()
    assert bool(loop.optimisers) == stays


def test_a_collected_column_is_carried_and_chosen_by(bench: Bench) -> None:
    seen: list[int] = []

    class Watching(Toy):
        def loss(self, nets: Any, batch: Batch, clock: Clock) -> Loss:
            seen.extend(batch["l"].rows.tolist())
            assert batch["l"].columns["row"].tolist() == batch["l"].rows.tolist()
            return super().loss(nets, batch, clock)

    phases = (Collect("row", Stream("class", 7, ("plain",)), "row"), Train({"l": Stream("row > 19", 4)}, 3))
    loop = bench.loop(Watching(phases=phases), FLAT)
    loop.run()
    assert sorted(set(seen)) == [20, 21, 22, 23]


def test_rows_that_a_pass_leaves_out_are_not_numbers(bench: Bench) -> None:
    some = replace(bench, data=bench.data.with_column("half", (np.arange(24) % 2).astype(np.float32)))
    loop = loop_of(some, Collect("row", Stream("half > 0.5", 5, ("plain",)), "row"))
    loop.run()
    assert loop.feed.columns["row"].isnan().tolist() == [i % 2 == 0 for i in range(24)]
    assert loop.feed.data.rows("row").tolist() == list(range(1, 24, 2))


def test_a_pass_in_eval_mode_leaves_batch_norm_alone_and_in_train_mode_moves_it(bench: Bench) -> None:
    stream = Stream("all", 8, ("plain",))
    start, still = loop_of(bench), loop_of(bench, Collect("logits", stream))
    moved = loop_of(bench, Collect("logits", stream, mode="train"))
    for loop in (still, moved):
        loop.run()
    assert equal(start, still) and not equal(start, moved)
    assert not still.feed.columns, "into='' keeps no column"


def test_a_question_stops_the_run(bench: Bench) -> None:
    with pytest.raises(NeedsError, match="needs a person"):
        loop_of(bench, Ask("entropy", 60.0)).run()


def test_all_turns_are_reported(bench: Bench, tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "m.jsonl")
    loop_of(bench, Train(L, 1, (Turn("second", ("other",)), Turn("loss", ("net",)))), metrics=metrics).run()
    assert {"second", "labelled"} <= json.loads(metrics.path.read_text()).keys()


def test_a_loss_that_is_no_number_is_named_with_its_step(bench: Bench) -> None:
    with pytest.raises(ModicumError, match=r"arm: the loss 'ill' is nan at step 2 of 'warm'"):
        loop_of(bench, Train(L, 4, (Turn("bad"),), name="warm")).run()


def test_a_loss_without_weight_is_refused(bench: Bench) -> None:
    with pytest.raises(ModicumError, match="no term of the loss has a weight"):
        loop_of(bench, Train(L, 1, (Turn("idle"),))).run()


def test_no_generator_is_touched(bench: Bench) -> None:
    loop = loop_of(bench, Train(L, 2), Change("widen"))
    before, plain = torch.get_rng_state(), random.getstate()
    loop.run()
    assert torch.get_rng_state().equal(before) and random.getstate() == plain
    with pytest.raises(SystemExit):
        loop_of(bench, Train(L, 2), tick=stop_at(1)).run()
    assert torch.get_rng_state().equal(before)


# -- stopping and resuming ---------------------------------------------------------------------------------------------

LONG = (
    Train(L, 3), Collect("row", Stream("class", 9, ("plain",)), "row"), Change("widen"),
    Train({"l": Stream("row > 5", 4)}, 2, (Turn("second", ("other",)), Turn("loss", ("net",), "adam")), lane=1),
    Change("halve"), Collect("logits", Stream("all", 9, ("plain",)), "z"), Change("widen"), Train(L, 2),
    Train(L, 2, carry=True), Collect("row", Stream("class", 9, ("plain",)), "row"), Train(L, 1),
)  # fmt: skip
BOTH = FLAT.but(groups={"adam": Optim(name="adamw", lr=0.01)})


def test_killed_after_every_single_step_it_ends_in_the_same_bits(bench: Bench, tmp_path: Path) -> None:
    whole = loop_of(bench, *LONG, recipe=BOTH)
    whole.run()
    for step in range(1, whole.total + 1):
        home = tmp_path / str(step)
        with pytest.raises(SystemExit):
            loop_of(bench, *LONG, home=home, recipe=BOTH, tick=stop_at(step)).run()
        again = loop_of(bench, *LONG, home=home, recipe=BOTH)
        again.run()
        assert equal(whole, again), step
        assert all(again.feed.columns[n].equal(v) for n, v in whole.feed.columns.items())


@pytest.mark.parametrize("phase", range(1, len(LONG)))
def test_killed_at_the_start_of_every_phase_it_ends_in_the_same_bits(bench: Bench, tmp_path: Path, phase: int) -> None:
    whole = loop_of(bench, *LONG, recipe=BOTH)
    whole.run()
    first = loop_of(bench, *LONG, home=tmp_path, recipe=BOTH)
    go = first.phase

    def dies(what: Any, number: int) -> None:
        if number == phase:
            raise SystemExit
        go(what, number)

    first.phase = dies  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        first.run()
    again = loop_of(bench, *LONG, home=tmp_path, recipe=BOTH)
    again.run()
    assert equal(whole, again)


def test_an_interrupt_waits_for_the_step_and_is_saved(bench: Bench, tmp_path: Path) -> None:
    """The signal comes in the middle of a step, between two checkpoints that would be due by the clock."""

    class Pressed(Toy):
        def loss(self, nets: Any, batch: Batch, clock: Clock) -> Loss:
            if clock.step == 2 and not (tmp_path / "pressed").exists():
                (tmp_path / "pressed").touch()
                os.kill(os.getpid(), signal.SIGINT)
            return super().loss(nets, batch, clock)

    whole = loop_of(bench, Train(L, 6))
    whole.run()
    slow = replace(bench, every=1e9)
    first = slow.loop(Pressed(phases=(Train(L, 6),)), FLAT, "arm", tmp_path / "home")
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert first.at == (0, 3) and [p.name for p in (tmp_path / "home").iterdir()] == ["at-0000-000000003"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = slow.loop(Pressed(phases=(Train(L, 6),)), FLAT, "arm", tmp_path / "home")
    again.run()
    assert equal(whole, again)


def test_an_error_inside_a_step_saves_nothing_half_done(bench: Bench, tmp_path: Path) -> None:
    class Half(Toy):
        def after_step(self, nets: Any, clock: Clock) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.loop(Half(phases=(Train(L, 3),)), FLAT, "arm", tmp_path / "home").run()
    assert not (tmp_path / "home").exists()


def test_metrics_are_cut_back_to_the_checkpoint(bench: Bench, tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "m.jsonl")
    metrics.add({"arm": "else", "step": 99})
    slow = replace(bench, every=1e9)
    with pytest.raises(KeyboardInterrupt):
        loop_of(slow, Train(L, 6), home=tmp_path / "h", tick=stop_at(3, KeyboardInterrupt), metrics=metrics).run()
    with pytest.raises(SystemExit):
        loop_of(slow, Train(L, 6), home=tmp_path / "h", tick=stop_at(5), metrics=metrics).run()
    metrics.path.write_text(metrics.path.read_text() + '{"arm": "arm", "st')
    loop_of(slow, Train(L, 6), home=tmp_path / "h", metrics=metrics).run()
    lines = [json.loads(x) for x in metrics.path.read_text().splitlines()]
    assert [(x["arm"], x["step"]) for x in lines] == [("else", 99), *(("arm", k) for k in range(1, 7))]


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_damaged_newest_checkpoint_is_passed_over(bench: Bench, tmp_path: Path, name: str) -> None:
    whole = loop_of(bench, Train(L, 6))
    whole.run()
    with pytest.raises(SystemExit):
        loop_of(bench, Train(L, 6), home=tmp_path, tick=stop_at(5)).run()
    newest = sorted(tmp_path.glob("at-*"))[-1] / name
    newest.write_bytes(newest.read_bytes()[:-20])
    taken: list[int] = []
    again = loop_of(bench, Train(L, 6), home=tmp_path, tick=taken.append)
    again.run()
    assert taken[0] == 4 and equal(whole, again)


def test_what_never_changes_is_written_once(bench: Bench, tmp_path: Path) -> None:
    phases = (Collect("row", Stream("class", 9, ("plain",)), "row"), Train(L, 3))
    loop_of(bench, *phases, home=tmp_path).run()
    files = [p / "0000-column-row.safetensors" for p in sorted(tmp_path.glob("at-*"))]
    assert len(files) == 2 and files[0].samefile(files[1])


def test_a_checkpoint_of_other_networks_is_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        loop_of(bench, Train(L, 3), home=tmp_path, tick=stop_at(2)).run()
    with pytest.raises(RunError, match="does not fit"):
        loop_of(replace(bench, net="tiny-conv:width=8"), Train(L, 3), home=tmp_path).run()
