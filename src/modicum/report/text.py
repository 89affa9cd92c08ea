"""Words and numbers as a person reads them; whatever a user or a file wrote is made visible and harmless."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

DASH = "–"
NBSP = "\u00a0"
LONGEST = 80
KEPT = "\n\u200c\u200d"


def visible(text: object, longest: int = 0) -> str:
    """Text whose control, bidirectional and other invisible characters are spelt out, as `[U+202E]`.

    A name that turns the direction of writing could otherwise change how the page around it reads.  `longest` > 0 cuts.
    """
    shown = "".join(
        f"[U+{ord(c):04X}]" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and c not in KEPT else c
        for c in str(text)
    )
    return shown[: longest - 1] + "…" if 0 < longest < len(shown) else shown


def finalize(value: Any) -> Any:
    """For templates: everything that is not markup is made visible; autoescape then does the rest."""
    return value if isinstance(value, (Markup, int, float)) else visible(value)


def safe(text: object, longest: int = LONGEST) -> Markup:
    """Text ready to stand in HTML or SVG."""
    return escape(visible(text, longest))


def known(value: object) -> bool:
    """Whether there is a finite number to print."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def percent(value: object, digits: int = 1) -> str:
    """0.872 -> `87.2 %`, which no line break parts."""
    return f"{100 * value:.{digits}f}{NBSP}%" if known(value) else DASH  # type: ignore[operator]


def signed(value: object) -> str:
    """0.052 -> `+5.2`, in points, with a true minus."""
    return f"{100 * value:+.1f}".replace("-", "−") if known(value) else DASH  # type: ignore[operator]


def decimal(value: object) -> str:
    """Three decimals below 10, fewer above."""
    return DASH if not known(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"  # type: ignore[operator, arg-type]


def plain(value: object) -> str:
    """A setting or any other value, shortly; big whole numbers with thin spaces."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: DASH}[value]
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(v) for v in value) or "none"
    return str(value)


def size(count: object) -> str:
    """Bytes in a unit that fits."""
    if not known(count):
        return DASH
    amount = float(count)  # type: ignore[arg-type]
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"


def duration(seconds: object) -> str:
    """Seconds, minutes or hours."""
    if not known(seconds):
        return DASH
    s = float(seconds)  # type: ignore[arg-type]
    if s < 90:
        return f"{s:.2g} s" if s < 10 else f"{s:.0f} s"
    return f"{s / 60:.0f} min" if s < 7200 else f"{s / 3600:.1f} h"


def between(interval: Sequence[Any], of: Any = percent) -> str:
    """The bounds of [value, low, high]: `84.9 to 89.3 %`, or '' where they are not known."""
    low, high = interval[1], interval[2]
    if not (known(low) and known(high)):
        return ""
    first = of(low).removesuffix(f"{NBSP}%")
    return f"{first} to {of(high)}"


def plural(count: int, word: str) -> str:
    """`1 image`, `2 images`, `3 classes`."""
    many = word + ("es" if word.endswith("s") else "s")
    return f"{plain(count)} {word if count == 1 else many}"
