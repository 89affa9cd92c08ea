"""Sentences that describe pictures of named classes: made from a small grammar or by a language model, and read again.

    A photo of THING [and THING], on a HUE KIND ground [with LITTER]         THING = a SIZE CLASS PLACE

A reader knows the words of this grammar and the names of the classes, and passes over all others, so sentences of any
origin can be read: what one does not say, a picture is free to show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from modicum.core.errors import NeedsError, SettingsError

Of = TypeVar("Of")
START = "A photo of "
SIZES: Mapping[str, float] = {"tiny": 0.15, "small": 0.22, "middling": 0.32, "large": 0.44, "huge": 0.56}
"""Longer side of an object, as a share of the picture's."""
PLACES: Mapping[str, tuple[float, float]] = {
    "at the top left": (1 / 6, 1 / 6), "at the top right": (5 / 6, 1 / 6), "at the bottom left": (1 / 6, 5 / 6),
    "at the bottom right": (5 / 6, 5 / 6), "at the top": (1 / 2, 1 / 6), "at the bottom": (1 / 2, 5 / 6),
    "at the left": (1 / 6, 1 / 2), "at the right": (5 / 6, 1 / 2), "in the middle": (1 / 2, 1 / 2),
}  # fmt: skip
"""Middle of the ninth of the picture that an object's middle lies in: x, y."""
HUES = ("grey", "red", "orange", "yellow", "green", "blue", "purple", "brown")
KINDS = ("plain", "striped", "checked", "spotted", "cloudy", "grainy")
LITTER = ("scraps", "lines", "dots")
TRIES = 50  # sentences in a row that were there before, after which there are no more
_GROUND = re.compile(rf", on an? (?:({'|'.join(HUES)}) )?({'|'.join(KINDS)}) ground(?: with ({'|'.join(LITTER)}))?$")
_SIZED = re.compile(rf"\b({'|'.join(SIZES)})\W*$")
_PLACED = re.compile("|".join(sorted(PLACES, key=len, reverse=True)))
_END = re.compile(r"[.\n\t]")


@dataclass(frozen=True)
class Thing:
    """An object of a sentence.  cls: a number into the names.  size: share of the picture's side; 0 = not said.
    at: x, y of where it is, as shares; None = not said."""

    cls: int
    size: float = 0.0
    at: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scene:
    """What a sentence says.  hue, kind: of the ground; litter: what else lies there; '' = not said."""

    things: tuple[Thing, ...]
    hue: str = ""
    kind: str = ""
    litter: str = ""


def read(sentence: str, names: Sequence[str]) -> Scene:
    """What a sentence says of these classes, in their order of mention; a longer name goes before one inside it."""
    ground = _GROUND.search(sentence)
    text = sentence[: ground.start()] if ground else sentence
    text = text.removeprefix(START)
    order = sorted(range(len(names)), key=lambda c: -len(names[c]))
    number = {names[c].casefold(): c for c in order[::-1]}
    one_of = "|".join(re.escape(names[c]) for c in order if names[c])
    found = [*re.finditer(rf"(?<!\w)(?:{one_of})(?!\w)", text, re.IGNORECASE)] if one_of else []
    things, ends = [], [0, *(m.end() for m in found)]
    for i, mention in enumerate(found):
        size = _SIZED.search(text[ends[i] : mention.start()])
        after = text[mention.end() : found[i + 1].start() if i + 1 < len(found) else None]
        at = _PLACED.search(after)
        cls = number[mention[0].casefold()]
        things.append(Thing(cls, SIZES[size[1]] if size else 0.0, PLACES[at[0]] if at else None))
    return Scene(tuple(things), *(w or "" for w in ground.groups())) if ground else Scene(tuple(things))


def present(sentence: str, names: Sequence[str]) -> np.ndarray:
    """Classes that a sentence names, int8 (C,): 1 named, 0 not."""
    out = np.zeros(len(names), np.int8)
    out[[t.cls for t in read(sentence, names).things]] = 1
    return out


Describe = Callable[[], str]


def distinct(describe: Describe, where: str) -> Iterator[str]:
    """Sentences without those seen before; NeedsError where no new one comes for long."""
    seen, again = set[str](), 0
    while again < TRIES:
        sentence = describe()
        again = again + 1 if sentence in seen else 0
        if not again:
            seen.add(sentence)
            yield sentence
    found = f"no more than {len(seen)} different sentences were found"
    raise NeedsError(found, where=where, fix="Ask for fewer images of a class, or for another describer.")


def template(name: str) -> str:
    """The bare sentence."""
    return f"{START}{name}"


def went_on(name: str, words: str) -> str:
    """What a language model made of `A photo of NAME`, cut at the first full stop, line end or tab that it wrote."""
    return f"{START}{name}{_END.split(words, maxsplit=1)[0]}".rstrip()


def grammar(cls: int, names: Sequence[str], company: int, rng: np.random.Generator) -> str:
    """A sentence about a class, and up to `company` other ones in places of their own."""
    others = rng.permutation([c for c in range(len(names)) if c != cls])[: int(rng.integers(company + 1))]
    taken, said = list[tuple[float, tuple[float, float]]](), list[str]()
    for c in (cls, *others.tolist()):
        for _ in range(20):
            (size, share), (place, at) = _drawn(SIZES, rng), _drawn(PLACES, rng)
            if all(_apart(share, at, *other) for other in taken):
                taken.append((share, at))
                said.append(f"a {size} {names[c]} {place}")
                break
    hue, kind = HUES[rng.integers(len(HUES))], KINDS[rng.integers(len(KINDS))]
    litter = ("", *(f" with {word}" for word in LITTER))[rng.integers(len(LITTER) + 1)]
    article = "an" if hue[0] in "aeiou" else "a"
    order = rng.permutation(len(said)).tolist()
    return f"{START}{' and '.join(said[i] for i in order)}, on {article} {hue} {kind} ground{litter}"


def refuse(names: Sequence[str], where: str) -> None:
    """SettingsError where the name of a class is a word of the grammar, which could not be told from it."""
    words = {w for text in (*SIZES, *PLACES, *HUES, *KINDS, *LITTER, START) for w in text.casefold().split()}
    words |= {"and", "on", "an", "with", "ground"}
    for name in names:
        if name.casefold() in words:
            found = f"the class {name!r} is called like a word of the grammar"
            raise SettingsError(found, where=where, fix="Rename the class, or take another describer.")


def _drawn(of: Mapping[str, Of], rng: np.random.Generator) -> tuple[str, Of]:
    word = [*of][rng.integers(len(of))]
    return word, of[word]


def _apart(size: float, at: tuple[float, float], other: float, there: tuple[float, float]) -> bool:
    """Whether two objects in the middle of their ninths do not meet."""
    return max(abs(at[0] - there[0]), abs(at[1] - there[1])) >= (size + other) / 2
