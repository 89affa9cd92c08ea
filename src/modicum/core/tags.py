"""Which classes are in which image: what tags say, and what follows from drawn objects.

A class is present where a person drew an object of it, and absent where a person looked for all objects of the class
and drew none.  An object that is to be ignored (`value` 0) leaves its class unknown there.  Tags that were given count
more.  What a model drew makes no tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from modicum.core.dataset import Dataset

DRAWN = ("points", "scribbles", "boxes", "masks", "instances")
MODEL = "model"


def tags(data: Dataset) -> np.ndarray | None:
    """int8 (N,C): 1 present, 0 absent, -1 unknown; None where nothing is given, drawn or looked for."""
    given, drawn = given_tags(data), _drawn(data)
    if given is None or drawn is None:
        return drawn if given is None else given
    return np.where(given < 0, drawn, given)


def given_tags(data: Dataset) -> np.ndarray | None:
    """The tags that were said, as `tags`; without what follows from objects."""
    given, looked = data.of_kind("tags"), _looked(data, ("tags",))
    if not given.num_rows and not looked.num_rows:
        return None
    out = _absent(data, looked)
    out[given["row"].to_numpy(), given["class"].to_numpy()] = given["value"].to_numpy() > 0.5
    return out


def _drawn(data: Dataset) -> np.ndarray | None:
    """What objects say."""
    mine = pc.is_in(data.annotations["kind"].cast(pa.string()), pa.array(DRAWN)).to_numpy()
    mine = mine & (data.who() != MODEL) if len(mine) else mine
    drawn, looked = data.annotations.filter(pa.array(mine, pa.bool_())), _looked(data, DRAWN)
    if not drawn.num_rows and not looked.num_rows:
        return None
    out = _absent(data, looked)
    row, cls = drawn["row"].to_numpy(), drawn["class"].fill_null(-1).to_numpy()
    counts = drawn["value"].fill_null(1).to_numpy() > 0.5
    for some, value in ((~counts & (cls >= 0), -1), (counts & (cls >= 0), 1)):
        out[row[some], cls[some]] = value
    return out


def _looked(data: Dataset, kinds: Sequence[str]) -> pa.Table:
    """Where a person says that all of one of these kinds is there."""
    of_kind = pc.is_in(data.looked["kind"].cast(pa.string()), pa.array(kinds))
    who = data.sources["who"].to_numpy(zero_copy_only=False)
    person = who[data.looked["source"].to_numpy()] != MODEL if len(who) else np.zeros(data.looked.num_rows, bool)
    said = pc.and_(of_kind, pc.equal(data.looked["complete"], 1))
    return data.looked.filter(pc.and_(said, pa.array(person, pa.bool_())))


def _absent(data: Dataset, looked: pa.Table) -> np.ndarray:
    """0 where a class was looked for, else -1, int8 (N,C); a row about class -1 or none speaks of all classes."""
    out = np.full((len(data), len(data.names)), -1, np.int8)
    row, cls = looked["row"].to_numpy(), looked["class"].fill_null(-1).to_numpy()
    out[row[cls < 0]] = 0
    out[row[cls >= 0], cls[cls >= 0]] = 0
    return out
