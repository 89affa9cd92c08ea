"""The content of evaluation.json: how good each arm is, and whether the method beats training on the same labels alone.

Every `[v, low, high]` is a value with its 95 % interval over test images; null where nothing can be said.
{
  "format": 1, "main": arm, "lead": the metric that the page begins with, "classes": [name],
  "test": {"images", "unlabelled" (left out), "counts" [C], "labels_from", "resamples", "stratified", "level", "seed"},
  "metrics": {metric: {"title", "higher" (is better), "doc"}},
  "arms": {arm: {"role": "main" | "twin" | "baseline" | "other", metric: [v, low, high] for each metric}},
  "twin": null or {"name", "why" (a sentence), "scores": {twin: validation score} or null},
  "gain": null or {"over": twin, "accuracy": [v, low, high], "only_main", "only_twin" (images that one alone gets
  right),
      "metrics": {metric: [v, low, high]} (main minus twin, over the same resamples),
      "all": {twin: [v, low, high]} (accuracy over each twin), "harshest": twin that is best on the test images},
  "per_class": [{"class", "support", "precision", "recall", "f1": [v, low, high]}] of main,
  "confusion": [[C] * C] of main, true class in rows,
  "calibration": {"temperature": null or {"value", "labels_used", "note"}, "curve": [{"low", "high", "count",
  "confidence",
      "accuracy": [v, low, high]}], "after": null or {"nll", "ece": [v, low, high], "curve"}} of main,
  "mistakes": null or {"wrong", "sure" (of them with a confidence of 95 % or more), "first": [{"row", "true", "said",
      "confidence"}], at most 100, the surest first} of main; null where `rows` was not given
  "copies": null or {"images" (test images that are near-duplicates of training images), "others", "accuracy":
      [v, low, high] of main on the others, null where there are none, "sentence"}; null where `copied` was not given
  "boxes": where a network that finds boxes goes wrong (box_faults.py); not there for any other
  "verdict": {"word": one of WORDS, "sentence"}
}
Without test labels `arms` and what follows from them are empty or null, and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modicum.core.errors import DataError, did_you_mean
from modicum.evaluate import metrics
from modicum.evaluate.calibration import Temperature, reliability, soften
from modicum.evaluate.intervals import Bootstrap, Interval, bootstrap, difference, paired
from modicum.evaluate.sheet import sheet


def better_twin(
    twins: Sequence[str],
    right: Mapping[str, np.ndarray],
    scores: Mapping[str, float] | None,
    better: str,
    better_why: str,
) -> dict[str, Any] | None:
    """Which labels-only twin the method must beat, by a rule that does not look at the test labels where it can.

    The higher out-of-fold or validation score; else the caller's choice with the reason; else, where neither is known,
    the twin that is best on the test images, which can only make the comparison harsher.
    """
    if not twins:
        return None
    alone = "it is the only labels-only twin" if len(twins) == 1 else ""
    if scores and all(t in scores for t in twins):
        name = max(twins, key=lambda t: scores[t])
        why = "it has the higher score on held-out labels of the training set"
        return {"name": name, "why": alone or why, "scores": {t: float(scores[t]) for t in twins}}
    if better:
        if better not in twins:
            raise DataError(
                f"no twin {better!r} among the arms", where="evaluate(better=...)", fix=did_you_mean(better, twins)
            )
        return {"name": better, "why": better_why or "chosen before the test labels were opened", "scores": None}
    name = max(twins, key=lambda t: right[t].mean())
    why = "it is best on the test images: the harshest comparison, for want of held-out labels"
    return {"name": name, "why": alone or why, "scores": None}


def judge(gain: Interval) -> str:
    """better, worse or not distinguishable: whether the interval of the gain excludes zero."""
    return "better" if gain.low > 0 else "worse" if gain.high < 0 else "not distinguishable"


def _points(gain: Interval) -> str:
    return f"{100 * gain.value:+.1f} points (95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"


def _sentence(word: str, gain: Interval | None, twin: str, main: str) -> str:
    if gain is None:
        return f"{main} was not compared: without a twin trained on the labels alone, what it adds is not known."
    ours, other = (f"the labels-only {a}" if a.startswith("twin-") else a for a in (main, twin))
    ours = ours[0].upper() + ours[1:] if " " in ours else ours
    if word == "not distinguishable":
        return f"{ours} and {other} cannot be told apart on these test images: {_points(gain)}."
    return f"{ours} is {word} than {other}: {_points(gain)} of accuracy."


def _gain(
    main: str, twin: str, twins: Sequence[str], found: Mapping[str, Bootstrap], right: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    return {
        "over": twin,
        "accuracy": paired(right[main], right[twin]).json(),
        "only_main": int((right[main] & ~right[twin]).sum()),
        "only_twin": int((right[twin] & ~right[main]).sum()),
        "metrics": {m: difference(found[main], found[twin], m).json() for m in metrics.METRICS if m != "accuracy"},
        "all": {t: paired(right[main], right[t]).json() for t in twins},
        "harshest": max(twins, key=lambda t: right[t].mean()),
    }


def _calibration(probs: np.ndarray, cls: np.ndarray, fitted: Temperature | None, **how: Any) -> dict[str, Any]:
    after = None
    if fitted is not None and fitted.fitted:
        soft = soften(probs, fitted.value)
        found = bootstrap(soft, cls, **how).metrics
        after = {"nll": found["nll"].json(), "ece": found["ece"].json(), "curve": reliability(soft, cls)}
    return {"temperature": fitted.to_dict() if fitted else None, "curve": reliability(probs, cls), "after": after}


def _role(arm: str, main: str, twins: Sequence[str], baselines: Mapping[str, np.ndarray]) -> str:
    return "main" if arm == main else "twin" if arm in twins else "baseline" if arm in baselines else "other"


def _refuse(arms: Mapping[str, np.ndarray], main: str, shape: tuple[int, int]) -> None:
    if main not in arms:
        raise DataError(f"no arm {main!r}", where="evaluate(main=...)", fix=did_you_mean(main, arms))
    for name, probs in arms.items():
        if np.shape(probs) != shape:
            found = f"arm {name!r} has probabilities of shape {np.shape(probs)}, not {shape}"
            raise DataError(found, where="evaluate", fix="One row a test image, one column a class.")


def _parts(found: Bootstrap, classes: Sequence[str], support: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {"class": name, "support": support[c], **{part: of[c].json() for part, of in found.per_class.items()}}
        for c, name in enumerate(classes)
    ]


def evaluate(
    arms: Mapping[str, np.ndarray], cls: np.ndarray, classes: Sequence[str], *, main: str, seed: int = 0,
    calibrated: Temperature | None = None, baselines: Mapping[str, np.ndarray] | None = None,
    twins: Sequence[str] | None = None, scores: Mapping[str, float] | None = None, better: str = "",
    better_why: str = "", labels_from: str = "", rows: np.ndarray | None = None,
    copied: np.ndarray | None = None, resamples: int = 1000, stratified: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Measure arms on the same test images; plain JSON values, schema in the module's docstring.

    arms: name -> probabilities (N,C), before any temperature.  cls: (N,), -1 unknown (left out, counted).
    main: the arm that is shipped.  calibrated: its temperature, or the refusal.  baselines: name -> probabilities.
    twins: arms that it is compared with, by default the labels-only ones, called `twin-...`.  scores: out-of-fold or
    validation score of each, higher is better; without it `better` and `better_why`.  labels_from: where the test
    labels came from, in words.  rows: (N,), rows of the Dataset; with them the surest mistakes are listed.
    copied: bool (N,), images of which training saw a near-duplicate; with it the accuracy on the others is given.
    """
    cls, references = np.asarray(cls, np.int64), baselines or {}
    everyone = {**arms, **references}
    _refuse(everyone, main, (len(cls), len(classes)))
    known = cls >= 0
    counts = np.bincount(cls[known], minlength=len(classes)).tolist()
    out = sheet(
        main, classes, "accuracy", metrics.METRICS, counts, images=int(known.sum()), unlabelled=int((~known).sum()),
        labels_from=labels_from, resamples=resamples, stratified=stratified, seed=seed,
    )  # fmt: skip
    out["calibration"]["temperature"] = calibrated.to_dict() if calibrated else None
    if not known.any():
        return out
    chosen = [a for a in arms if a.startswith("twin-")] if twins is None else list(twins)
    chosen = [a for a in chosen if a != main]
    outs = {name: np.asarray(p, np.float64)[known] for name, p in everyone.items()}
    how: dict[str, Any] = {"resamples": resamples, "seed": seed, "stratified": stratified}
    found = {name: bootstrap(p, cls[known], **how) for name, p in outs.items()}
    roles = {name: _role(name, main, chosen, references) for name in outs}
    out["arms"] = {n: {"role": roles[n], **{m: i.json() for m, i in b.metrics.items()}} for n, b in found.items()}
    out["per_class"] = _parts(found[main], classes, counts)
    out["confusion"] = metrics.confusion(outs[main], cls[known]).tolist()
    out["calibration"] = _calibration(outs[main], cls[known], calibrated, **how)
    if rows is not None:
        out["mistakes"] = _mistakes(outs[main], cls[known], np.asarray(rows)[known])
    if copied is not None:
        out["copies"] = _copies(outs[main], cls[known], np.asarray(copied, bool)[known], **how)
    right = {name: p.argmax(1) == cls[known] for name, p in outs.items()}
    return {**out, **_compare(main, better_twin(chosen, right, scores, better, better_why), chosen, found, right)}


def _mistakes(probs: np.ndarray, cls: np.ndarray, rows: np.ndarray, most: int = 100) -> dict[str, Any]:
    said, sure = probs.argmax(1), probs.max(1)
    wrong = np.flatnonzero(said != cls)
    first = [
        {"row": int(rows[i]), "true": int(cls[i]), "said": int(said[i]), "confidence": float(sure[i])}
        for i in wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    ]
    return {"wrong": len(wrong), "sure": int((sure[wrong] >= 0.95).sum()), "first": first}


def _copies(probs: np.ndarray, cls: np.ndarray, copied: np.ndarray, **how: Any) -> dict[str, Any]:
    many, others = int(copied.sum()), int((~copied).sum())
    found = bootstrap(probs[~copied], cls[~copied], **how).metrics["accuracy"] if others else None
    said = f"{many} of {len(cls)} test images are near-duplicates of training images"
    if many and found:
        value, low, high = (100 * x for x in (found.value, found.low, found.high))
        said += f"; without them the accuracy is {value:.1f} % ({low:.1f} to {high:.1f})"
    return {"images": many, "others": others, "accuracy": found.json() if found else None, "sentence": said + "."}


def _compare(
    main: str, twin: dict[str, Any] | None, twins: Sequence[str], found: Mapping[str, Bootstrap],
    right: Mapping[str, np.ndarray],
) -> dict[str, Any]:  # fmt: skip
    """twin, gain and verdict."""
    if twin is None:
        return {"verdict": {"word": "not compared", "sentence": _sentence("", None, "", main)}}
    gain = paired(right[main], right[twin["name"]])
    word = judge(gain)
    verdict = {"word": word, "sentence": _sentence(word, gain, twin["name"], main)}
    return {"twin": twin, "gain": _gain(main, twin["name"], twins, found, right), "verdict": verdict}
