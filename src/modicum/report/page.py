"""report.html: one page, self-contained, without scripts and without a single outside request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from modicum.core.disk import whole
from modicum.core.errors import RunError
from modicum.report import box_faults, boxes, looks, masks, measured, pictures, sections
from modicum.report.looks import Pixels
from modicum.report.read import Run, read
from modicum.report.text import finalize

MOST_BYTES = 5_000_000
SECTIONS = {
    "class": ("kept", "confusion", "calibration", "mistakes"), "tags": (), "masks": ("masks",),
    "boxes": ("boxes", "curves", "kinds"),
}  # fmt: skip
"""Sections that only some tasks have."""
_SIDES = (pictures.SIDE, 64, 32)


def _guard(make: Callable[[Run], dict[str, Any]], run: Run) -> dict[str, Any]:
    """A section; where a file of the run has not the expected form, the section says so and the others still stand."""
    try:
        return make(run)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        why = f"a file of the run has an unexpected form ({type(error).__name__}: {error})"
        return {"missing": f"This section could not be made: {why}.", "command": ""}


def context(run: Run, pixels: Pixels | None, side: int) -> dict[str, Any]:
    """All sections by name."""
    numbers = {
        "headline": sections.headline,
        "data": sections.data,
        "method": sections.method,
        "training": sections.training,
        "quality": measured.quality,
        "kept": measured.kept,
        "classes": measured.classes,
        "confusion": measured.confusion,
        "calibration": measured.calibration,
        "curves": box_faults.curves,
        "costs": sections.costs,
        "unchecked": sections.unchecked,
        "further": sections.further,
    }
    out = {name: _guard(make, run) for name, make in numbers.items()}
    out["mistakes"] = _guard(lambda r: looks.mistakes(r, pixels, side), run)
    out["boxes"] = _guard(lambda r: boxes.boxes(r, pixels, side), run)
    out["kinds"] = _guard(lambda r: box_faults.kinds(r, pixels, side), run)
    out["masks"] = _guard(lambda r: masks.masks(r, pixels, side), run)
    out["maps"] = _guard(lambda r: looks.maps(r, pixels, side), run)
    out["examples"] = _guard(lambda r: {"shown": looks.examples(r, pixels, side)}, run)
    out["copies"] = _guard(lambda r: looks.copies(r, pixels, side), run)
    asked = SECTIONS.get(str(run.config.get("want", "class")), SECTIONS["class"])
    return {**out, "run": run, "asked": asked, "sometimes": {s for some in SECTIONS.values() for s in some}}


def render(run: Run, pixels: Pixels | None = None, side: int = pictures.SIDE) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

    home = Path(__file__).parent
    env = Environment(
        loader=FileSystemLoader(home),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    try:
        return env.get_template("page.html.jinja").render(**context(run, pixels, side))
    except (TemplateError, TypeError, ValueError, KeyError, ArithmeticError) as error:
        found = f"the page cannot be made: a file of the run has an unexpected form ({error})"
        raise RunError(found, where=run.name, fix="Restore the run's JSON files, or train again.") from error


def build(folder: Path, pixels: Pixels | None = None) -> Path:
    """Read a run directory and write its report.html; gives the file's path.

    pixels: row of the Dataset -> uint8 (H,W,c); without it the page has no photographs.  Whatever is missing in the
    directory, the page says so and names the command that makes it.  The page is under 5 MB: pictures shrink until it
    is.
    """
    if not folder.is_dir():
        raise RunError("there is no run directory", where=folder, fix="Give the folder that `modicum fit` wrote.")
    run = read(folder)
    for side in _SIDES:
        page = render(run, pixels, side).encode("utf-8", "backslashreplace")
        if len(page) < MOST_BYTES:
            break
    else:
        page = render(run, None).encode("utf-8", "backslashreplace")
    with whole(folder / "report.html") as making:
        making.write_bytes(page)
    return folder / "report.html"
