"""Which rows of a table people have given a class, and which are open."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modicum.core.dataset import HUMAN, Table
from modicum.core.errors import NeedsError


def human(table: Table) -> np.ndarray:
    """The class that a person gave each row, int64 (R,), -1 none; the last wins.  Guesses and votes do not count."""
    data = table.data
    out = np.full(len(data), -1, np.int64)
    kind = pc.equal(data.annotations["kind"].cast(pa.string()), "class").to_numpy()
    said = data.annotations.filter(pa.array(kind & (data.who() == HUMAN)))
    out[said["row"].to_numpy()] = said["class"].to_numpy()
    return out[table.rows]


def unlabelled(table: Table, budget: int) -> np.ndarray:
    """Positions in the table to which no person gave a class, int64; NeedsError where they are fewer than `budget`.

    A model's guess does not close a row: what a person would say is still open.
    """
    free = np.flatnonzero(human(table) < 0)
    if not 0 <= budget <= len(free):
        fix = f"Ask for 0 to {len(free)}, or bring more images." if len(free) else "Bring more images."
        raise NeedsError(
            f"{budget} images are to be chosen, {len(free)} of {len(table)} have no class from a person",
            where="budget", fix=fix,
        )  # fmt: skip
    return free
