"""What a scan found, in sentences: the gravest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modicum.report.read import part
from modicum.report.text import plain, plural

MOST = 20
_GROUPS = {
    "crossing": (
        "of one picture in several splits: what is tested was seen in training",
        "Keep each group in one split; the page says below how good the model is on the other test images.",
    ),
    "contradicting": (
        "of one picture with different classes: at least one label of each is wrong",
        "Look at them and put the labels right.",
    ),
    "duplicates": ("of identical images", "Keep one of each, if they are no repeats on purpose."),
    "near": ("of near-duplicates: the same picture saved again, resized, cropped or mirrored", ""),
    "chains": (
        "of images that look alike one by one, too many to be one picture, which were not held together",
        "If they belong together, say so in a column group.",
    ),
}


def sentences(scan: Mapping[str, Any]) -> list[dict[str, str]]:
    """{"what", "fix"} each, from scan.json: groups of one picture, then files and rows that could not be used."""
    out = []
    for name, (what, fix) in _GROUPS.items():
        found = part(scan, name)
        if found.get("groups"):
            groups: Any = found.get("first") or [[]]
            first = ", ".join(str(i) for i in groups[0][:3])
            some = f"{plural(int(found['groups']), 'group')} {what}"
            out.append({"what": f"{some}; for example {first}." if first else f"{some}.", "fix": fix})
    faults: Any = scan.get("faults") or []
    count = int(scan.get("fault_count") or len(faults))
    if isinstance(faults, Mapping):
        faults, count = faults.get("first") or [], int(faults.get("count", 0))
    out += [_fault(f) for f in faults[:MOST]]
    if count > min(len(faults), MOST):
        out.append(
            {"what": f"{plain(count - min(len(faults), MOST))} more files or rows, listed in scan.json.", "fix": ""}
        )
    return out


def _fault(fault: Any) -> dict[str, str]:
    if not isinstance(fault, Mapping):
        return {"what": str(fault), "fix": ""}
    what = next((str(fault[k]) for k in ("reason", "found", "what", "kind") if fault.get(k)), plain(dict(fault)))
    place = str(fault.get("where") or "")
    return {"what": (f"{place}: {what}" if place else what).rstrip(".") + ".", "fix": str(fault.get("fix") or "")}


def traits(scan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The measured traits by which methods are chosen, each with the numbers behind it."""
    return [(str(k), plain(v)) for k, v in part(scan, "traits").items()]
