"""Where verbs print: colours and width of a terminal, plain unbroken lines elsewhere, JSON for machines.

Names come from strangers' folders: nothing in them is taken for markup, and what a terminal would obey is spelt out.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from modicum.core.errors import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]


def say(*cells: object, err: bool = False) -> None:
    """One line: cells joined by tabs, control and bidi characters in them as escapes such as \\x1b."""
    print("\t".join(visible(str(c)) for c in cells), file=sys.stderr if err else sys.stdout)


def put_json(value: object) -> None:
    """A value as JSON in ASCII, which every pipe and code page carries; NaN and infinities are null."""
    print(json.dumps(_plain(value), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a person looks at the stream through a terminal that can do more than lines."""
    return bool(stream and stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"))


def lenient() -> None:
    """Characters that stdout and stderr cannot write (ASCII, code pages, half characters) become escapes, no error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def screen(stderr: bool = False) -> Console:
    """A rich console that takes no text for markup; in a pipe or a file without colours, and no row is broken."""
    from rich.console import Console

    plain = not is_terminal(sys.stderr if stderr else sys.stdout)
    console = Console(
        stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=plain,
        force_terminal=False if plain else None,
    )  # fmt: skip
    console.width = 10_000 if plain else max(40, console.width)
    return console


def grid(*heads: str) -> Table:
    """A plain table with these column heads; see `fill`."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def fill(table: Table, *cells: object) -> None:
    """Add a row whose cells are made visible."""
    table.add_row(*(visible(str(c)) for c in cells))
