"""Laws of repetition: the same seed, a resumed run, two ranks and a reloaded net give the same numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from modicum.core.batch import Part
from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.engine.loop import Loop
from modicum.models import files
from modicum.testing import ranks, tolerances, toy
from modicum.testing.case import Case, losses
from modicum.testing.checks_train import delivered
from modicum.testing.compare import same, unmoved, untouched
from modicum.testing.results import ALL, TABLES, TRAINS, check, demand
from modicum.testing.stand_ins import captured


@check("same seed", ALL, "Something is remembered outside the nets, or drawn from a generator that is not seeded.")
def same_seed(case: Case) -> None:
    """The same seed gives the same bits, twice in one process."""
    if case.role not in TRAINS:
        same(case.exercise(), case.exercise(), "the first time and the second")
        return
    for ours, theirs in zip(case.first, case.outcome(), strict=True):
        same(ours, theirs, "the first time and the second")


@check("untouched", ALL, "A global generator, an in-place operation on an input, or state kept on the method.")
def leaves_alone(case: Case) -> None:
    """Inputs, settings, data, generators and the working folder are as they were."""
    if case.card.role in TRAINS and not case.steps:
        loop = case.loop()
        with untouched(loop.method, {}):
            loop.run()
        unmoved(case.began)
        return
    if case.card.role in TRAINS:
        scene = case.scene()
        unmoved(case.began)
        with untouched(scene.loop.method, _tensors(scene.batch)):
            scene.losses()
            scene.loop.method.after_step(scene.loop.nets, scene.clock)
        return
    method = case.method()
    if case.card.role in TABLES:
        table = case.table()
        given = {**table.columns, "rows": table.rows, **{f"data.{k}": v for k, v in table.data.columns.items()}}
        version = table.data.version
        with untouched(method, given):
            case.apply(method, table)
        demand(replace(table.data).version == version, "changes the data")
        return
    if case.card.role == "imagine":
        with untouched(method, {}):
            case.pictures(method)
        return
    seen = captured()
    assert seen.attention
    attention = {f"attention {i}": w for i, w in enumerate((*seen.attention.weights, *seen.attention.slopes))}
    with untouched(method, {"images": seen.images, "acts": seen.acts, "grads": seen.grads, **attention}):
        method.weigh(seen)


def _tensors(batch: Mapping[str, Part]) -> dict[str, torch.Tensor]:
    """Everything in a batch that could be written to, by name."""
    out: dict[str, torch.Tensor] = {}
    for name, part in batch.items():
        out |= {f"{name}.{view}": part[view] for view in part.views}
        out |= {f"{name}.{c}": v for c, v in part.columns.items()}
        out |= {f"{name}.rows": part.rows, f"{name}.cls": part.labels.cls}
        soft = {"probs": part.labels.probs, "tags": part.labels.tags}
        out |= {f"{name}.{k}": v for k, v in soft.items() if v is not None}
    return out


@check("resume", TRAINS, "What changes is neither a parameter nor a buffer of the nets, so no checkpoint holds it.")
def resume(case: Case) -> None:
    """A run stopped after step 3, or before its last phase, and resumed ends as one that ran through."""
    whole = case.loop(steps=6)
    straight = losses(whole)
    with tempfile.TemporaryDirectory() as folder:

        def stop(arm: str, done: int, *_: Any) -> None:
            if done == 3:
                raise KeyboardInterrupt

        home, seen = Path(folder), []
        try:
            cut = case.loop(steps=6, home=home, tick=stop)
            if not case.steps:
                _without_last(cut)
            cut.run()
            demand(False, "it does not take the 6 steps that the recipe gives it")
        except KeyboardInterrupt:
            pass
        again = case.loop(steps=6, home=home)
        seen = losses(again)
    same(straight[len(straight) - len(seen) :], seen, "loss after resuming: step")
    same(dict(whole.nets.state_dict()), dict(again.nets.state_dict()), "state after resuming:")
    same(whole.feed.columns, again.feed.columns, "column after resuming:")


def _without_last(loop: Loop) -> None:
    """Let a program stop, as by Ctrl-C, before its last phase; one of one phase before it begins."""
    run, last = loop.phase, len(loop.program) - 1

    def phase(given: Any, number: int) -> None:
        if number == last:
            raise KeyboardInterrupt
        run(given, number)

    setattr(loop, "phase", phase)  # noqa: B010


@check("two ranks", TRAINS, "A mean or statistic of one rank's part of the batch, or a draw that is not by position.")
def two_ranks(case: Case) -> str:
    """Two processes that share each batch reach the weights of one, to a tolerance."""
    alone, theirs = ranks.weights(case), ranks.pool().train(case)
    demand(alone.keys() == theirs.keys(), "the ranks deliver another network")
    worst = max(alone, key=lambda k: _apart(alone[k], theirs[k]))
    apart = _apart(alone[worst], theirs[worst])
    demand(apart <= tolerances.RANKS, f"{worst} differs by {apart:.3g} of its largest value")
    return f"weights agree to {apart:.1g}"


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to the largest value; NaN (a row that was not drawn) agrees with NaN alone."""
    off = (a - b).abs().masked_fill(a.isnan() & b.isnan(), 0).nan_to_num(torch.inf)
    return float(off.max() / a.nan_to_num(0).abs().max().clamp_min(1e-3)) if a.numel() else 0.0


@check("deliver", TRAINS, "The delivered net is not the run's architecture, or holds state outside its state_dict.")
def deliver(case: Case) -> None:
    """The delivered net gives finite logits, and the same ones after it is saved and loaded."""
    net, x = delivered(case), _images()
    with torch.no_grad():
        before = net(x).logits
    demand(bool(before.isfinite().all()), "the delivered net's logits are not finite")
    with tempfile.TemporaryDirectory() as folder:
        files.save(net, Path(folder), classes=toy.CLASSES)
        again, _ = files.load(Path(folder))
    with torch.no_grad():
        same(before, again(x).logits, "logits of the reloaded net")


def _images() -> torch.Tensor:
    return torch.from_numpy(toy.pictures()[0][: toy.POOL]).permute(0, 3, 1, 2).float() / 255


@check("export", TRAINS, "An operation that ONNX lacks, or one that depends on train mode.", slow=True)
def export(case: Case) -> str:
    """The delivered net can be written as ONNX and agrees with it, or the refusal says why."""
    from modicum.deploy.export import export as write

    net: Net = delivered(case)
    with tempfile.TemporaryDirectory() as folder:
        meta = files.save(net, Path(folder), classes=toy.CLASSES)
        try:
            found = write(net, dict(meta), toy.pictures()[0][: toy.POOL], Path(folder) / "model.onnx")
        except ModelError as error:
            return f"refused: {error.found}"
    return str(found)
