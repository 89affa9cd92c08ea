"""Charts as inline SVG, drawn 340 units wide so that their letters keep their size on a phone.

Colours and dashes are classes (`s0`, `s1`, ...) that the page's style sheet sets, for light and dark.  Every text is
escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from modicum.report.text import NBSP, decimal, known, percent, safe

WIDTH = 340
STYLES = 5
LEAST = 5


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers from low to high, inclusive of what lies within."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low] if math.isfinite(low) else [0.0]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _svg(height: int, parts: Sequence[str], label: str, wide: int = WIDTH) -> Markup:
    head = f'<svg class="chart" viewBox="0 0 {wide} {height}" role="img" aria-label="{safe(label, 400)}">'
    return Markup(head + "".join(parts) + "</svg>")


def _text(x: float, y: float, words: object, anchor: str = "start", style: str = "t") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{safe(words, 40)}</text>'


def _named(x: float, y: float, name: str, what: str) -> str:
    """A name in ink and what it is in grey."""
    more = f'<tspan class="t" dx="6">{safe(what, 40)}</tspan>' if what else ""
    return f'<text class="t strong halo" x="{x:.1f}" y="{y:.1f}">{safe(name, 30)}{more}</text>'


def _line(x0: float, y0: float, x1: float, y1: float, style: str = "grid") -> str:
    return f'<line class="{style}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def _path(points: Sequence[tuple[float, float]], style: str) -> str:
    return f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def thin(x: np.ndarray, y: np.ndarray, most: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points: means over stretches of equal length."""
    if len(x) <= most:
        return x, y
    parts = np.array_split(np.arange(len(x)), most)
    return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])


def curves(series: Sequence[tuple[int, np.ndarray, np.ndarray]], title: str) -> Markup:
    """Values over steps.  series: (style, x (n,), y (n,)); values that are not finite are left out."""
    left, right, top, bottom, height = 44, WIDTH - 8, 10, 168, 192
    clean = [(s, *thin(x[np.isfinite(y)], y[np.isfinite(y)])) for s, x, y in series]
    clean = [c for c in clean if len(c[1])]
    if not clean:
        return Markup("")
    xs, ys = np.concatenate([c[1] for c in clean]), np.concatenate([c[2] for c in clean])
    y0, y1 = min(0.0, ys.min()), ys.max() if ys.max() > min(0.0, ys.min()) else min(0.0, ys.min()) + 1
    x0, x1 = min(0.0, xs.min()), max(xs.max(), 1.0)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / (x1 - x0) * (right - left), bottom - (y - y0) / (y1 - y0) * (bottom - top)

    parts = []
    for v in ticks(y0, y1):
        parts += [_line(left, at(0, v)[1], right, at(0, v)[1]), _text(left - 6, at(0, v)[1] + 4, f"{v:g}", "end")]
    for v in ticks(x0, x1):
        near = at(v, 0)[0] > right - 14
        parts.append(_text(right if near else at(v, 0)[0], bottom + 17, f"{v:g}", "end" if near else "middle"))
    for style, x, y in reversed(clean):
        parts.append(_path([at(a, b) for a, b in zip(x, y)], f"curve s{style % STYLES}"))
    return _svg(
        height,
        parts,
        f"{title} over training steps, from {decimal(float(clean[0][2][0]))} to {decimal(float(clean[0][2][-1]))}",
    )


def shares(
    series: Sequence[tuple[int, np.ndarray, np.ndarray]], title: str, *, start: float = 0.0, small: bool = False
) -> Markup:
    """Shares over shares.  series: (style, x (n,), y (n,)), y in [0,1], x in [start,1].  small: half as wide."""
    wide = WIDTH // 2 if small else WIDTH
    left, right, top, bottom, height = 44, wide - 8, 10, wide // 2, wide // 2 + 24
    level, across = ((0, 0.5, 1) if small else (0, 0.25, 0.5, 0.75, 1)), np.linspace(start, 1, 3 if small else 6)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - start) / (1 - start) * (right - left), bottom - y * (bottom - top)

    parts = []
    for v in level:
        y = at(start, v)[1]
        parts += [_line(left, y, right, y), _text(left - 6, y + 4, percent(v, 0), "end")]
    parts += [_text(at(v, 0)[0], bottom + 17, percent(v, 0), "end" if v == 1 else "middle") for v in across.tolist()]
    parts += [_path([at(a, b) for a, b in zip(x.tolist(), y.tolist())], f"curve s{style % STYLES}")
              for style, x, y in reversed(series)]  # fmt: skip
    places = [(x[k], y[k]) for _, x, y in series for k in (0, len(y) // 2, -1)]
    some = [f"{percent(float(b), 0)} at {percent(float(a), 0)}" for a, b in places]
    return _svg(height, parts, f"{title}: {', '.join(some)}", wide)


def whiskers(
    rows: Sequence[tuple[tuple[str, str], Sequence[Any], int]], title: str, of: Callable[[Any], str] = percent
) -> Markup:
    """Values with intervals, one row each.  rows: ((name, what it is), [value, low, high], style)."""
    rows = [r for r in rows if known(r[1][0])]
    if not rows:
        return Markup("")
    spread = [float(v) for _, i, _ in rows for v in i if known(v)]
    low, high = min(spread), max(spread)
    pad = (high - low) * 0.06 or 0.05
    low, high = low - pad, high + pad
    pitch, height = 38, 38 * len(rows) + 26

    def at(v: float) -> float:
        return 8 + (v - low) / (high - low) * (WIDTH - 16)

    parts = [
        _line(at(v), 6, at(v), height - 22)
        + _text(at(v), height - 6, of(v).replace(f".0{NBSP}%", f"{NBSP}%"), "middle")
        for v in ticks(low, high)
    ]
    for k, (label, (value, start, end), style) in enumerate(rows):
        y = k * pitch + 28
        parts += [
            _named(0, y - 12, *label),
            _text(WIDTH, y - 12, of(value), "end", "t strong halo"),
        ]
        if known(start) and known(end):
            parts += [
                _line(at(start), y, at(end), y, f"bar s{style}"),
                *(_line(at(e), y - 4, at(e), y + 4, f"bar s{style}") for e in (start, end)),
            ]
        parts.append(f'<circle class="dot s{style}" cx="{at(value):.1f}" cy="{y}" r="5"/>')
    said = "; ".join(f"{label[0]} {of(i[0])}" for label, i, _ in rows)
    return _svg(height, parts, f"{title}: {said}")


def reliability(curve: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]] | None = None) -> Markup:
    """Accuracy over confidence with Wilson intervals, the diagonal, and how many images lie in each bin."""
    left, right, top, bottom, foot = 44, WIDTH - 10, 8, 272, 318

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * (right - left), bottom - y * (bottom - top)

    parts = []
    for v in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [_line(left, at(0, v)[1], right, at(0, v)[1]), _text(left - 6, at(0, v)[1] + 4, percent(v, 0), "end")]
        parts.append(_text(at(v, 0)[0], foot + 18, percent(v, 0), "start" if v == 0 else "end" if v == 1 else "middle"))
    parts.append(_line(*at(0, 0), *at(1, 1), "diagonal"))
    shown = after or curve
    most = max((b["count"] for b in shown), default=1)
    for b in shown:
        tall = 36 * b["count"] / most
        x, wide = at(b["low"], 0)[0], at(b["high"], 0)[0] - at(b["low"], 0)[0]
        box = f'x="{x + 1:.1f}" y="{foot - tall:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}"'
        parts.append(f'<rect class="count" {box}/>')
    for style, bins in ((1, curve), (0, after)) if after else ((0, curve),):
        enough = [b for b in bins or () if b["count"] >= LEAST]
        points = [at(b["confidence"], b["accuracy"][0]) for b in enough]
        parts.append(_path(points, f"curve s{style}"))
        for b, (x, y) in zip(enough, points):
            if style == 0:
                parts.append(_line(x, at(0, b["accuracy"][1])[1], x, at(0, b["accuracy"][2])[1], "whisker s0"))
            parts.append(f'<circle class="dot s{style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    said = "; ".join(
        f"{percent(b['confidence'], 0)} sure, {percent(b['accuracy'][0], 0)} right, {b['count']} images" for b in shown
    )
    return _svg(foot + 24, parts, f"Reliability diagram: {said}"[:1000])
