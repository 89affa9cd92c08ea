"""Where verbs print: colours and width of a terminal, plain unbroken lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def screen(stderr: bool = False) -> Console:
    """A rich console; in a pipe or a file without colours and wide enough that no row is broken."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = 240
    return console


def grid(*heads: str) -> Table:
    """A plain table with these column heads."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, overflow="fold")
    return table
