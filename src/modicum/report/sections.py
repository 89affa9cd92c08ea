"""What each section says, as plain values for the template.  A part that is not there gives {"missing", "command"}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modicum.report import charts, faults, recipe
from modicum.report.read import Run, part
from modicum.report.steps import command, steps
from modicum.report.text import between, duration, known, percent, plain, plural, signed, size

MOST_CLASSES = 40
EXPORTED = {
    "bytes": "exported file",
    "latency_ms": "time for one picture, here",
    "threads": "threads of that",
    "images": "pictures compared after export",
    "largest_difference": "largest difference in logits",
    "largest_shift": "largest difference of a box in pixels",
}
_MACHINE = ("processor", "gpu", "system", "cores")
_META = {"arm", "phase", "step", "steps", "lr", "seconds", "total", "epoch", "lane"}
NAMES = {
    "twin-weak": "labels only, weak views",
    "twin-strong": "labels only, strong views",
    "majority": "commonest class",
}
NAMES["nearest-centroid"] = "nearest mean picture"


def missing(run: Run, what: str, verb: str) -> dict[str, Any]:
    """A section that cannot be filled: what is not there and the command that makes it."""
    return {"missing": what, "command": command(verb, run)}


def label(arm: str) -> tuple[str, str]:
    """An arm's name, and what it is where that is not plain from the name."""
    return arm, NAMES.get(arm, "")


def labelled(run: Run) -> int | None:
    """Images with labels that the training could see: of the kind that was wanted, else of any."""
    if run.data is None:
        return None
    want = str(run.config.get("want") or "class")
    found = run.data.known(want)
    kinds = () if found.any() else ("class", "tags", "points", "boxes", "masks")
    return int(np.logical_or.reduce([found, *map(run.data.known, kinds)]).sum())


def headline(run: Run) -> dict[str, Any]:
    """title, what, number, interval, verdict and the facts beside it."""
    card = recipe.card(run)
    own = part(part(run.evaluation, "arms"), run.main)
    value = own.get(run.lead) or [None] * 3
    test, gain = part(run.evaluation, "test"), part(run.evaluation, "gain")
    root = str(part(run.config, "data").get("root") or (run.data.root if run.data is not None else "") or run.name)
    names, count = run.classes, labelled(run)
    facts, lone = [], run.main.startswith("twin-")
    if gain:
        facts.append(
            {
                "name": f"against {gain['over']}",
                "value": f"{signed(gain['accuracy'][0])} points",
                "more": between(gain["accuracy"], signed),
            }
        )
    if count is not None:
        held = part(part(run.evaluation, "calibration"), "temperature").get("labels_used") or 0
        more = f"of {plural(len(run.data or ()), 'image')}" + (f", and {plain(held)} to calibrate" if held else "")
        facts.append({"name": "labels used", "value": plain(count), "more": more})
    if run.parameters:
        facts.append({"name": "size", "value": size(run.bytes), "more": plural(_parameters(run), "parameter")})
    return {
        "title": root.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1],
        "method": " ".join(filter(None, label(run.main))) if lone else card.title if card else run.main,
        "against": part(run.evaluation, "gain").get("over", "the method") if lone else "training on the labels alone",
        "classes": len(names),
        "lead": str(part(part(run.evaluation, "metrics"), run.lead).get("title", run.lead)).lower(),
        "value": percent(value[0]) if known(value[0]) else "",
        "interval": between(value),
        "images": plural(int(test.get("images", 0)), "test image"),
        "facts": facts,
        "sentence": _sentence(run, value, gain, test),
        "verdict": part(run.evaluation, "verdict").get("word", "not measured"),
    }


SAID = {
    "map": "On {asked} that it had not seen, its mean average precision over the tags is {value}.",
    "ap50": "On {asked} that it had not seen, its average precision at an overlap of one half is {value}, a mean over "
    "the classes.",
    "miou": "On {asked} that it had not seen, its masks and those that people drew share {value} of what either "
    "covers, a mean over the classes and the background.",
}


def _sentence(run: Run, accuracy: Sequence[Any], gain: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """The result in words for somebody who has never trained a model."""
    if not run.evaluation:
        return "How good this model is has not been measured yet."
    if not known(accuracy[0]):
        return "There are no test labels, so nothing can be said about how good this model is."
    if run.lead in SAID:
        return SAID[run.lead].format(asked=plural(test.get("images", 0), "image"), value=percent(accuracy[0]))
    asked, right = plain(test.get("images", 0)), f"{100 * accuracy[0]:.0f}"
    first = f"Of 100 new pictures like the {asked} it was tested on, it names about {right} rightly."
    if not gain:
        return first + " No model was trained on the labels alone, so what the method adds is not known."
    twin = part(part(run.evaluation, "arms"), gain["over"]).get("accuracy", [None])[0]
    second = {
        "better": "is better: the method helps here",
        "worse": "is worse: the method does harm here",
        "not distinguishable": "cannot be told apart on these pictures: the method may help or not",
    }.get(part(run.evaluation, "verdict").get("word", ""), "was compared")
    if run.main.startswith("twin-"):
        return f"{first} It was trained on the labels alone; {gain['over']}, which was not kept, gets {100 * twin:.0f}."
    count = labelled(run)
    same = f"the same {plural(count, 'label')}" if count is not None else "the same labels"
    return f"{first} Training on {same} alone gives {100 * twin:.0f}; against that, this model {second}."


def data(run: Run) -> dict[str, Any]:
    """images, classes with counts, faults."""
    if run.data is None:
        return missing(run, "The tables of the data (folder data/) are not in this run.", "fit")
    tags = run.data.tags if not (run.data.cls >= 0).any() else None
    counts = run.data.counts() if tags is None else (tags == 1).sum(0)
    tests = part(run.evaluation, "test").get("counts") or []
    splits, sizes = np.unique(run.data.field("split").astype(str), return_counts=True)
    rows = [
        {
            "name": n,
            "labels": plain(int(counts[k])),
            "share": counts[k] / max(counts.max(), 1),
            "tests": plain(tests[k]) if k < len(tests) else "",
        }
        for k, n in enumerate(run.data.names)
    ]
    return {
        "images": plain(len(run.data)),
        "labelled": plain(labelled(run)),
        "rows": rows[:MOST_CLASSES],
        "more": max(0, len(rows) - MOST_CLASSES),
        "classes": len(rows),
        "splits": [(s or "no split", plain(int(k))) for s, k in zip(splits, sizes)],
        "sources": [(s, w) for s, w in zip(run.data.sources["name"].to_pylist(), run.data.sources["who"].to_pylist())],
        "faults": faults.sentences(run.scan),
        "traits": faults.traits(run.scan),
        "scanned": bool(run.scan),
        "scan": command("scan", run),
        "uneven": bool(len(counts)) and counts.min() < counts.max(),
    }


def method(run: Run) -> dict[str, Any]:
    """Idea, why, changed settings and recipe."""
    if not run.config:
        return missing(run, "config.json is not in this run, so how it was made is not known.", "fit")
    card = recipe.card(run)
    return {
        "title": card.title if card else run.main,
        "idea": card.idea if card else "",
        "year": card.year if card else 0,
        "cites": card.cites if card else (),
        "adapted": card.changed if card else "",
        "words": [(w, str(getattr(card, w))) for w in recipe.WORDS if getattr(card, w, "")],
        "why": [str(w) for w in run.config.get("why") or ()],
        "changed": recipe.changed(run),
        "rows": recipe.rows(run),
    }


def training(run: Run) -> dict[str, Any]:
    """One chart for each logged term, one line for each arm."""
    if not run.metrics:
        return missing(run, "No training log (metrics.jsonl) is in this run.", "fit")
    arms = [str(a["name"]) for a in run.config.get("arms") or ()]
    arms = arms or list(dict.fromkeys(str(m.get("arm") or run.main) for m in run.metrics))
    arms.sort(key=lambda a: a != run.main)
    count: dict[str, int] = {}
    for line in run.metrics:
        for term, value in line.items():
            if term not in _META and isinstance(value, (int, float)) and not isinstance(value, bool):
                count[term] = count.get(term, 0) + 1
    terms = sorted(count, key=lambda t: -count[t])[:6]
    shown = []
    for term in terms:
        series = [(k, *_series(run, arm, term)) for k, arm in enumerate(arms)]
        shown.append({"name": term, "svg": charts.curves([s for s in series if len(s[1])], term)})
    return {
        "charts": [c for c in shown if c["svg"]],
        "arms": [(k % charts.STYLES, label(a)) for k, a in enumerate(arms)],
    }


def _series(run: Run, arm: str, term: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a term in one arm; the steps of earlier phases are added."""
    x: list[float] = []
    y: list[float] = []
    before, last, phase = 0.0, 0.0, None
    for line in run.metrics:
        if str(line.get("arm") or run.main) != arm:
            continue
        step = float(line.get("step", len(x)))
        if phase is not None and line.get("phase") != phase and step <= last:
            before += last
        phase, last = line.get("phase"), step
        if known(line.get(term)):
            x.append(before + step)
            y.append(float(line[term]))
    return np.array(x), np.array(y)


def costs(run: Run) -> dict[str, Any]:
    """Size, latency as the export measured it, and the time each stage took."""
    rows = [("parameters", plain(_parameters(run))), ("weights on disk", size(run.bytes))] if run.parameters else []
    rows += [(EXPORTED[k], _amount(k, run.export[k])) for k in EXPORTED if k in run.export]
    stages = {str(k): float(v) for k, v in run.seconds.items() if known(v)} or _logged(run)
    rows += [(k, plain(run.environment[k])) for k in _MACHINE if k in run.environment]
    out = {
        "rows": rows,
        "stages": [(name, duration(s)) for name, s in stages.items()],
        "exported": bool(run.export) and not run.export.get("refused"),
        "refused": str(run.export.get("refused") or ""),
    }
    return (
        out
        if run.parameters or run.export or stages
        else missing(run, "Neither weights nor an export are in this run.", "export")
    )


def _logged(run: Run) -> dict[str, float]:
    """Seconds of each arm and phase, from the training log."""
    stages: dict[str, float] = {}
    for line in run.metrics:
        if known(line.get("seconds")):
            name = f"{line.get('phase', 'train')} {line.get('arm') or run.main}"
            stages[name] = max(stages.get(name, 0.0), float(line["seconds"]))
    return stages


def _parameters(run: Run) -> int:
    """As the export counted them; the stored numbers, which include running statistics, where there is no export."""
    counted = run.export.get("parameters")
    return counted if isinstance(counted, int) else run.parameters


def _amount(name: str, value: Any) -> str:
    if name == "bytes":
        return size(value)
    if isinstance(value, Mapping) and known(value.get("median")):
        return f"{value['median']:.3g} ms ({value.get('low', 0):.3g} to {value.get('high', 0):.3g})"
    return f"{value:.2g}" if isinstance(value, float) else plain(value)


def unchecked(run: Run) -> dict[str, Any]:
    """What this page does not show, said plainly."""
    test = part(run.evaluation, "test")
    said = [
        "Other cameras, sites, seasons or classes: the test pictures come from the same set as the training pictures.",
        "Other seeds: this is one training. The intervals are over test images; another seed would change more.",
        "Whether the labels are right: a wrong test label counts as a mistake of the model.",
    ]
    if not run.scan:
        said.append("Duplicates between training and test pictures, which would make every number here too good.")
    if not run.export or run.export.get("refused"):
        said.append("Whether an exported file gives the same answers, and how fast it is.")
    if not part(run.evaluation, "calibration").get("after"):
        said.append("Whether its confidence can be taken at its word: it is not calibrated.")
    if test.get("unlabelled"):
        said.append(f"{plural(test['unlabelled'], 'test image')} without a label, which were left out.")
    return {"said": said}


def further(run: Run) -> dict[str, Any]:
    """Three ranked commands."""
    return {"steps": [s._asdict() for s in steps(run)]}
