"""keep.json: which of the trained arms is shipped, and what is known of the labels that the method gave itself.

It rests on labels that the arms did not train on: held out of training, or out of fold.
{
  "kept": arm, "method": arm, "word": one of WORDS, "sentence", "labels": looked at, "from": where they came from,
  "arms": {arm: [accuracy, low, high]} (Wilson, 1927),
  "over": null or the arm compared with, "gain": null or [v, low, high] of the kept arm over it (paired),
  "needed": null or about how many more labels would tell them apart, if the difference is what it seems,
  "guesses": null or {"share" believed, "looked", "believed", "right", "precision": [v, low, high], "bound" (a
      sentence), "classes": [{"class", "believed", "right", "precision"}]} of the method,
  "unlabelled": null or {"images", "agree": {arm: share guessed as by the method}, "shares": {"guessed", "labelled":
      [C]}, "missing": [class that the method never guesses], "notes": [sentence]}
}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modicum.core.kinds import KINDS
from modicum.evaluate.intervals import Interval, paired, parted, wilson
from modicum.evaluate.risk import bound, precision

WORDS = ("told apart", "cannot be told yet", "not compared")
MOST = 10**6  # labels that nobody will add
FAR = 0.2  # total variation between guessed and labelled class shares from which on it is noted


def keep(cls: np.ndarray, said: Mapping[str, np.ndarray], method: str, source: str) -> dict[str, Any]:
    """The arm to keep: the one that names most of the unseen labels rightly, the method where they are equal.

    cls: int (L,).  said: arm -> logits or probabilities (L,C) by networks that did not see these labels.  method: the
    arm that a tie goes to.  source: where the labels came from, in words.
    """
    if len(said) < 2 or not len(cls):
        why = source or "there is no other arm"
        return {
            "kept": method, "method": method, "word": WORDS[2], "labels": len(cls), "from": "", "arms": {},
            "over": None, "gain": None, "needed": None, "guesses": None, "unlabelled": None,
            "sentence": f"{method} was kept without a comparison: {why}.",
        }  # fmt: skip
    right = {arm: z.argmax(1) == cls for arm, z in said.items()}
    order = sorted(right, key=lambda a: (-int(right[a].sum()), a != method))
    kept, over = order[0], order[1] if order[0] == method else method
    gain = paired(right[kept], right[over])
    told = gain.low > 0
    needed = None if told else more(right[kept], right[over])
    return {
        "kept": kept, "method": method, "word": WORDS[not told], "labels": len(cls), "from": source,
        "arms": {a: wilson(int(r.sum()), len(cls)).json() for a, r in right.items()},
        "over": over, "gain": gain.json(), "needed": needed, "guesses": None, "unlabelled": None,
        "sentence": sentence(kept, over, gain, len(cls), source, needed),
    }  # fmt: skip


def more(a: np.ndarray, b: np.ndarray) -> int | None:
    """About how many more labels would tell two arms apart, if they differ as they seem to; None if over a million.

    a, b: bool (L,), which labels each gets right.
    """
    only_a, only_b, count = float((a & ~b).sum()), float((b & ~a).sum()), len(a)
    for extra in np.unique(np.geomspace(1, MOST, 400).round()):
        times = 1 + extra / count
        if parted(only_a * times, only_b * times, count * times).low > 0:
            return int(extra)
    return None


def sentence(kept: str, over: str, gain: Interval, count: int, source: str, needed: int | None) -> str:
    """The decision and its reason in words."""
    by = f"{100 * gain.value:+.1f} points (95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    first = f"{kept} was kept: on {count} {source} it is {by} against {over}."
    if gain.low > 0:
        return first
    if needed is None:
        return f"{first}  They cannot be told apart, and are as good as each other so far."
    minutes = max(1, round(needed * KINDS["class"].seconds / 60))
    effort = f"{minutes:,} minute{'s' if minutes > 1 else ''}"
    return f"{first}  That cannot be told from chance yet: it would take about {needed:,} more labels ({effort})."


def guesses(cls: np.ndarray, probs: np.ndarray, share: float, classes: Sequence[str]) -> dict[str, Any]:
    """How right the method's pseudo-labels are, where the surest `share` of them is believed.

    cls: int (L,), unseen labels.  probs: (L,C), what the method says of their images.
    """
    sure, guessed = probs.max(1), probs.argmax(1)
    count = round(share * len(cls))
    believed = np.zeros(len(cls), bool)
    believed[np.argsort(-sure, kind="stable")[:count]] = True
    found = precision(guessed, cls, believed, classes)
    held = bound(sure, guessed == cls)
    return {"share": float(share), **found["all"], "bound": held.said, "classes": found["classes"]}


def unlabelled(
    guessed: Mapping[str, np.ndarray], method: str, counts: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """What guesses on unlabelled images say: whether arms agree, and whether classes are as common as among the labels.

    guessed: arm -> class (U,).  counts: labels of each class (C,).
    """
    own, many = guessed[method], len(counts)
    shares, labelled = np.bincount(own, minlength=many) / max(1, len(own)), counts / max(1, counts.sum())
    apart = float(np.abs(shares - labelled).sum() / 2)
    missing = [name for name, s, k in zip(classes, shares, counts, strict=True) if not s and k]
    notes = [f"{method} guesses {name!r} for no unlabelled image" for name in missing]
    if apart >= FAR:
        notes.append(
            f"{100 * apart:.0f} % of the unlabelled guesses would have to change class to be as common as the labels: "
            "the classes differ in share, or one draws the others to itself"
        )
    return {
        "images": len(own), "agree": {a: float((g == own).mean()) for a, g in guessed.items() if a != method},
        "shares": {"guessed": shares.tolist(), "labelled": labelled.tolist()}, "missing": missing, "notes": notes,
    }  # fmt: skip
