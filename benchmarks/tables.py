"""What the results say: tables in Markdown, and the evidence by which the planner ranks methods."""

from __future__ import annotations

import csv
import tomllib
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from modicum.engine.choose import baseline
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


def scripts() -> str:
    """The tables of experiments that are scripts of their own: what each says of itself, and its results."""
    out = []
    for path in sorted(HERE.glob("*.py")):
        if (HERE / "results" / f"{path.stem}.csv").exists():
            script = import_module(f"benchmarks.{path.stem}")
            if not signature(script.table).parameters:
                command, about = str(script.__doc__).strip().split(": ", 1)
                head = about.partition(".")[0].replace("\n", " ").rstrip("?")
                out.append(f"## {head[0].upper()}{head[1:]}\n\n{command}: {about}\n\n{script.table()}\n")
    return "\n".join(out)


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
    first, plain = protocol["methods"][0], {r["arm"] for r in rows if r["steps"] == "0"}
    for method in protocol["methods"]:
        seeds = sorted({s for m, _, s in value if m == method}, key=int)
        if not seeds:
            continue
        own = [value[method, method, s] for s in seeds]
        for arm in dict.fromkeys(r["arm"] for r in rows if r["method"] == method):
            if method != first and arm in plain:
                continue  # the same for every method
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
    """Method -> the largest lower end of its gain over labels alone, over the protocols, as a share, at least 0.

    In whole points: less is no reason to prefer a method.  Labels alone: the better twin of each seed; where a protocol
    has none, the labels-only method at as many steps.
    """
    out: dict[str, float] = {}
    for name, protocol in protocols([]).items():
        value = {(r["method"], r["arm"], r["seed"]): float(r["accuracy"]) for r in rows_of(name)}
        alone = {s: v for (m, a, s), v in value.items() if m == a == baseline()}
        for method in protocol["methods"]:
            seeds = sorted({s for m, _, s in value if m == method})
            twins = {a for m, a, _ in value if m == method and a.startswith("twin-")}
            best = {s: max(value[method, t, s] for t in twins) for s in seeds} if twins else alone
            gains = [value[method, method, s] - best[s] for s in seeds if s in best]
            if len(gains) > 1 and method != baseline() and " " not in method:
                out[method] = max(0.0, round(paired_t(np.array(gains)).low, 2), out.get(method, 0.0))
    return dict(sorted(out.items()))
