"""The verbs before `fit`: scan and plan.  Light: no torch, and no numpy until data are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modicum.core import registry
from modicum.core.card import TRAITS
from modicum.core.errors import DataError, SettingsError, did_you_mean
from modicum.core.kinds import KINDS, Fact, facts
from modicum.core.plan import Plans
from modicum.core.plan import plan as search

if TYPE_CHECKING:
    from modicum.core.dataset import Dataset
    from modicum.data.formats import Fault
    from modicum.data.scan import Scan

LOOKED = 1000  # images decoded to measure traits


def scan(data: str | Path, fresh: bool = False, strict: bool = False) -> Scan:
    """What is in a folder, table or file of images; the faults of reading come first.

    What was seen is kept, and the next scan decodes only what changed.  fresh: decode everything again.  strict:
    DataError at the first file or row that cannot be used.
    """
    from modicum.core.places import cache_home
    from modicum.data.read import read
    from modicum.data.scan import scan as look

    found = read(data, strict=strict)
    seen = look(found.data, home=cache_home(), fresh=fresh, strict=strict)
    once = {(f.where, f.reason): f for f in (*found.faults, *seen.faults)}
    return replace(seen, faults=list(once.values()))


def demand(faults: Sequence[Fault], where: str | Path) -> None:
    """DataError where any file or row cannot be used: what `--strict` asks for."""
    if faults:
        first = f"{len(faults)} files or rows cannot be used; the first: {faults[0].where}: {faults[0].reason}"
        fix = f"Mend or remove them (`modicum scan {where}` lists them), or leave out --strict."
        raise DataError(first, where=where, fix=fix)


def plan(want: str, have: str = "", data: str | Path = "", traits: str = "", best: int = 4) -> Plans:
    """Chains of methods that lead from `have` (facts, comma-separated) and what `data` hold to `want`, best first.

    want: a kind, which means a network for it, or a fact in full.  traits: comma-separated, added to those measured on
    `data`.  NeedsError where there is no way; it names what is missing and what that costs a person.
    """
    if not have and not data:
        raise SettingsError("nothing to start from", where="plan", fix="Say --have tags,boxes@other, or --data FOLDER.")
    known, many, measured = of_data(data) if data else ((), {}, ())
    asked = tuple(dict.fromkeys((*words(traits), *measured)))
    have_all, known_cards = (*known, *facts(have)), registry.cards()
    return search(have_all, wanted(want), known_cards, many, asked, best, registry.evidence())


def wanted(text: str) -> Fact:
    """`boxes` means a network that finds boxes; a fact in full, or of a kind that only networks make, is itself."""
    fact = Fact.parse(text)
    in_full = fact.net or fact.guess or fact.some or fact.scope
    return fact if in_full or KINDS[fact.kind].stored == "column" else Fact(fact.kind, net=True)


def words(traits: str) -> tuple[str, ...]:
    """Traits from `few,tail`; SettingsError for one that there is not."""
    found = tuple(w.strip() for w in traits.split(",") if w.strip())
    for word in found:
        if word not in TRAITS:
            raise SettingsError(f"there is no trait {word!r}", where="--traits", fix=did_you_mean(word, TRAITS))
    return found


def of_data(place: str | Path) -> tuple[tuple[Fact, ...], Mapping[str, int], tuple[str, ...]]:
    """Facts, counts and traits of the images that may be trained on, as `fit` would see them."""
    import numpy as np

    from modicum.data.read import read
    from modicum.data.scan import scan

    data = read(place).data
    mine = np.flatnonzero(~np.isin(data.field("split").astype(str), ("val", "test")))
    data = data.take(mine) if len(mine) else data
    return data.facts(), counts(data), tuple(scan(data, sample=LOOKED).traits)


def counts(data: Dataset) -> dict[str, int]:
    """How many there are, in the words of `Card.least`: images, and labels of the rarest class where any is known.

    What a set has none of is left out, so that votes or probabilities are not taken for a lack of classes.
    """
    found = {"image": len(data)}
    if data.known("class").any():
        found["class"] = int(data.counts().min())
    return found
