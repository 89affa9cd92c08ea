"""What the results say: tables in Markdown, and the evidence by which the planner ranks methods."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from modicum.evaluate.intervals import paired_t

HERE = Path(__file__).parent


def protocols(names: list[str]) -> dict[str, dict[str, Any]]:
    """Protocols by name; all where none is named."""
    found = {p.stem: tomllib.loads(p.read_text()) for p in sorted((HERE / "protocols").glob("*.toml"))}
    return {n: found[n] for n in names or found}


def rows_of(protocol: str) -> list[dict[str, str]]:
    """Finished rows of a protocol."""
    path = HERE / "results" / f"{protocol}.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def tables(names: list[str]) -> str:
    """One table a protocol: mean accuracy of each arm, and the gain over the better twin with a paired t-interval."""
    return "\n".join(table(n, p) for n, p in protocols(names).items() if rows_of(n))


def table(name: str, protocol: dict[str, Any]) -> str:
    """A protocol's table in Markdown: arms beside each method, and variants beside the first method."""
    rows, fit = rows_of(name), ", ".join(f"{k} {v}" for k, v in protocol["fit"].items())
    head = rows[0]
    lines = [
        f"## {protocol['title']}",
        "",
        f"`python -m benchmarks run --only {name}`: {fit}; one thread, {head['processor']}, torch {head['torch']}.",
        "",
    ]
    lines += [
        "| method | compared with | seeds | accuracy of that, % (sd) | CPU seconds "
        "| method minus that, points (95 % paired t) |",
        "|---|---|---|---|---|---|",
    ]
    value = {(r["method"], r["arm"], r["seed"]): 100 * float(r["accuracy"]) for r in rows}
    first = protocol["methods"][0]
    for method in protocol["methods"]:
        seeds = sorted({s for m, _, s in value if m == method}, key=int)
        if not seeds:
            continue
        own = [value[method, method, s] for s in seeds]
        for arm in dict.fromkeys(r["arm"] for r in rows if r["method"] == method):
            took = [float(r["cpu_seconds"]) for r in rows if (r["method"], r["arm"]) == (method, arm)]
            other = [value[method, arm, s] for s in seeds]
            lines.append(
                line(
                    method,
                    "itself" if arm == method else arm,
                    other,
                    sum(took) / len(took),
                    None if arm == method else own,
                )
            )
        twins = sorted({a for m, a, _ in value if m == method and a.startswith("twin-")})
        if twins:
            best = [max(value[method, t, s] for t in twins) for s in seeds]
            lines.append(line(method, "**the better twin of each seed, as the test images have it**", best, None, own))
        elif method != first:
            both = [s for s in seeds if (first, first, s) in value]
            base = [value[first, first, s] for s in both]
            lines.append(line(method, first, base, None, [value[method, method, s] for s in both]))
    return "\n".join([*lines, ""])


def line(method: str, other: str, values: list[float], seconds: float | None, own: list[float] | None) -> str:
    """One row of a table."""
    gain, sd = "", f" ({np.std(values, ddof=1):.1f})" if len(values) > 1 else ""
    if own is not None and len(own) > 1:
        i = paired_t(np.array(own) - np.array(values))
        gain = f"{i.value:+.1f} ({i.low:+.1f} to {i.high:+.1f})"
    took = "" if seconds is None or not seconds else f"{seconds:.0f}"
    return f"| {method} | {other} | {len(values)} | {np.mean(values):.1f}{sd} | {took} | {gain} |"


def evidence() -> dict[str, float]:
    """Method -> the largest lower end of its gain over the better twin, over the protocols, as a share, at least 0."""
    out: dict[str, float] = {}
    for name, protocol in protocols([]).items():
        value = {(r["method"], r["arm"], r["seed"]): float(r["accuracy"]) for r in rows_of(name)}
        for method in protocol["methods"]:
            seeds = sorted({s for m, _, s in value if m == method})
            twins = {a for m, a, _ in value if m == method and a.startswith("twin-")}
            if len(seeds) > 1 and twins:
                gains = [value[method, method, s] - max(value[method, t, s] for t in twins) for s in seeds]
                low = paired_t(np.array(gains)).low
                out[method] = round(max(0.0, low, out.get(method, 0.0)), 4)
    return dict(sorted(out.items()))
