"""What to do next: three commands, ranked, with the gain where it was measured and 'not known' where it was not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from modicum.core.kinds import KINDS, Kind
from modicum.report.read import Run, part, surest
from modicum.report.text import between, duration, known, plain, plural, signed, visible

COMMANDS = {
    "scan": "modicum scan {data}",
    "fit": "modicum fit {data}",
    "evaluate": "modicum evaluate {run}",
    "select": "modicum select {run} --budget {budget}",
    "explain": "modicum explain {run} IMAGES",
    "export": "modicum export {run}",
    "supervised": "modicum fit {data} --method supervised --out another-run",
}
FEW_TEST = 100


class Step(NamedTuple):
    """One thing to do.  gain: what it is expected to bring, in words."""

    command: str
    what: str
    gain: str


def command(verb: str, run: Run, **more: Any) -> str:
    """The command line of a verb for this run."""
    root = str(part(run.config, "data").get("root") or (run.data.root if run.data else "") or "DATA")
    names = {
        "run": shlex.quote(visible(run.name)),
        "data": shlex.quote(visible(root.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])),
    }
    return COMMANDS[verb].format(**names, **more)


def kind(run: Run) -> Kind:
    """Of the labels that the run's network learned to give."""
    return KINDS.get(str(run.config.get("want")), KINDS["class"])


def _weakest(run: Run) -> str:
    rows = run.evaluation.get("per_class") or ()
    lead = next((k for k in ("recall", "average_precision", "iou", "ap50") if rows and k in rows[0]), "")
    rows = sorted((r for r in rows if known(r[lead][0])), key=lambda r: r[lead][0])
    return " and ".join(visible(r["class"], 40) for r in rows[:2])


def _missing(run: Run) -> Iterator[Step]:
    """What has to be there before anything can be said."""
    test = part(run.evaluation, "test")
    word = part(run.evaluation, "verdict").get("word", "")
    if not run.evaluation:
        yield Step(command("evaluate", run), "Measure this run on its test images.", "no accuracy, but knowledge of it")
    elif not test.get("images"):
        work = duration(kind(run).seconds * FEW_TEST)
        what = f"Label {FEW_TEST} images drawn at random and keep them for testing, about {work} of work."
        gain = "no accuracy, but knowledge of it"
        if kind(run).name == "class":
            gain = f"an accuracy known to about ±{98 / FEW_TEST**0.5:.0f} points"
        yield Step(command("select", run, budget=FEW_TEST), what, gain)
    if word == "worse":
        gain = part(run.evaluation, "gain").get("accuracy", [None] * 3)
        what = "Use the net that was trained on the labels alone: here it is the better one."
        yield Step(command("supervised", run), what, f"{signed(-gain[0])} points, measured on this test")


def _further(run: Run) -> Iterator[Step]:
    """What usually helps, most useful first."""
    test = part(run.evaluation, "test")
    labelled = int(run.data.known(kind(run).name).sum()) if run.data is not None else 0
    budget = min(max(50, labelled), 500)
    weak, work = _weakest(run), duration(budget * kind(run).seconds)
    what = f"Label {budget} more images, chosen by the model, about {work} of work."
    yield Step(
        command("select", run, budget=budget),
        what + (f" Weakest now: {weak}." if weak else ""),
        "not known before it is tried",
    )
    if 0 < test.get("images", 0) < FEW_TEST:
        what = f"Label {FEW_TEST} more test images: {plain(test['images'])} are too few to tell small differences."
        yield Step(command("select", run, budget=FEW_TEST), what, "no accuracy, but narrower intervals")
    yield from _missing_parts(run)
    doubtful = (surest(run) or {}).get("sure", 0)
    if doubtful:
        what = f"Look at the {plural(doubtful, 'mistake')} it is surest of, put wrong labels right, and train again."
        yield Step(command("fit", run), what, "not known; a wrong label put right makes the numbers truer")
    value = part(part(run.evaluation, "arms"), run.main).get(run.lead)
    if value:
        yield Step(
            command("fit", run) + " --seed 1 --out another-run",
            "Train once more with another seed.",
            f"none on average; shows whether {between(value)} holds",
        )


def _missing_parts(run: Run) -> Iterator[Step]:
    """Parts of the page that one command would fill."""
    if not run.maps:
        yield Step(
            command("explain", run),
            "See where the model looks, and whether that is the thing itself.",
            "no accuracy; finds shortcuts",
        )
    if not run.export:
        yield Step(
            command("export", run), "Make a file that runs without torch.", "the same answers, checked; quicker start"
        )
    if not run.scan:
        yield Step(
            command("scan", run),
            "Look for duplicates, leaks and broken files.",
            "not known; a leak would make the numbers above too good",
        )


def steps(run: Run, most: int = 3) -> list[Step]:
    """The first `most` things to do, best first."""
    return [*_missing(run), *_further(run)][:most]
