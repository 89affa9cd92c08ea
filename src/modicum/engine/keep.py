"""Do no harm: whether arms are compared on labels they did not see, how, and which one is shipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modicum.core.errors import NeedsError
from modicum.core.method import Learn
from modicum.core.net import Net
from modicum.core.recipe import Recipe
from modicum.data.vault import Vault
from modicum.engine.arms import Bench
from modicum.engine.folds import FOLDS, SHARE, Unseen
from modicum.engine.loop import logits_of
from modicum.engine.request import Request
from modicum.evaluate import keep as decision
from modicum.evaluate.calibration import softmax
from modicum.evaluate.risk import bound, least
from modicum.runs.run import Metrics, Run

ASKED = 2000  # unlabelled images that arms are compared on


def plan(bench: Bench, method: Learn, recipe: Recipe, config: dict[str, Any], asked: Request) -> None:
    """Write into config's choices how arms are judged ("held-out", "folds", or "" and why not), and the folds."""
    choices, counts = config["choices"], np.array(bench.info(recipe).counts)
    held = bool((bench.data.of_split("val") & bench.pixels.good).any())
    how, why = "held-out" if held else "folds", ""
    if len(config["arms"]) < 2:
        how, why = "", "no other arm was trained"
    elif asked.judge == "none":
        how, why = "", "that was asked for"
    elif not held and (counts < 2).all():
        how, why = "", "with one label a class none can be held out"
    if (risk := method.risk()) and counts.sum() < least(*risk):
        found = f"{counts.sum()} labels cannot hold the share of wrong guesses to {100 * risk[0]:g} %"
        fix = f"It takes {least(*risk)} labels that are all guessed rightly.  Until then: --set trust=fixed:tau=0.95."
        raise NeedsError(found, where="trust", fix=fix)
    folds = asked.folds or (FOLDS if how == "folds" or risk else 0)
    choices.update(judge=how, unjudged=why, folds=folds, share=1.0 if asked.folds else SHARE)
    if how == "folds":
        config["why"].append(
            f"Every arm is also trained {folds} times on parts of the labels"
            + ("" if asked.folds else ", for half its steps")
            + ": the one that names most unseen labels rightly is kept (--judge none leaves this out)."
        )


def duration(config: Mapping[str, Any], expected: Mapping[str, float]) -> str:
    """How long training will take, and what of it is for what.  expected: arm -> seconds."""
    choices, method = config["choices"], config["method"]
    own, every = expected[method], sum(expected.values())
    folds = choices["folds"] * choices["share"] * (every if choices["judge"] == "folds" else own)
    parts = {f"for {method}": own, "for its twins": every - own, "for the folds": folds}
    said = ", ".join(f"{minutes(s)} {what}" for what, s in parts.items() if s)
    return f"Training takes about {minutes(sum(parts.values()))} here" + (f": {said}." if every > own else ".")


def minutes(seconds: float) -> str:
    """`40 s` or `12 min`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def settle(method: Learn, unseen: Unseen, config: dict[str, Any]) -> bool:
    """Find the least confidence that a method's trust rule asks for, and write it into config; whether it asked.

    NeedsError where no confidence is high enough, with the reason.
    """
    if not (risk := method.risk()):
        return False
    probs = softmax(unseen.logits[config["method"]])
    found = bound(probs.max(1), probs.argmax(1) == unseen.cls, *risk)
    if found.tau is None:
        fix = "Label more images, allow a larger share, or take another rule: --set trust=fixed:tau=0.95."
        raise NeedsError(found.said, where="trust", fix=fix)
    config["settings"] = {**config["settings"], **method.settled(round(found.tau, 6))}
    config["why"].append(f"Out of fold: {found.said}")
    return True


def decide(run: Run, bench: Bench, vault: Vault, nets: Mapping[str, Net], unseen: Unseen | None) -> dict[str, Any]:
    """Which arm is shipped, and what is known of the method's own labels: the content of keep.json."""
    config, feed = run.config, bench.feed({})
    method, choices = str(config["method"]), config["choices"]
    how = choices.get("judge", "")
    if how == "held-out":
        rows = np.flatnonzero(bench.data.of_split("val") & bench.pixels.good)
        truth = vault.open("which arm to keep, from held-out labels")[rows]
        rows, truth = rows[truth >= 0], truth[truth >= 0]
        said = {arm: logits_of(net, feed, rows, bench.fabric) for arm, net in nets.items()}
        found = decision.keep(truth, said, method, "held-out labels")
    elif how == "folds" and unseen is not None:
        truth, said = unseen.cls, unseen.logits
        found = decision.keep(truth, said, method, "labels that were held out in turn")
    else:
        truth, said = (unseen.cls, unseen.logits) if unseen is not None else (np.empty(0, np.int64), {})
        found = decision.keep(truth[:0], {}, method, choices.get("unjudged", ""))
    share = Metrics(run / "metrics.jsonl").last(method, "believed")
    if share is not None and method in said:
        found["guesses"] = decision.guesses(truth, softmax(said[method]), share, bench.data.names)
    rows = np.flatnonzero(bench.pool & bench.pixels.good & (bench.data.cls < 0))
    rows = rows[:: max(1, -(-len(rows) // ASKED))]
    if len(rows) and len(nets) > 1:
        guessed = {arm: logits_of(net, feed, rows, bench.fabric).argmax(1) for arm, net in nets.items()}
        counts = np.array(config["data"]["counts"])
        found["unlabelled"] = decision.unlabelled(guessed, method, counts, bench.data.names)
    return found
