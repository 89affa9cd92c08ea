"""The card: what a method says of itself, a literal that is read without importing the method."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from modicum.core.errors import SettingsError, did_you_mean
from modicum.core.kinds import Fact

ROLES: dict[str, str] = {
    "learn": "trains networks: program (and loss)",
    "wrap": "rewrites another method's program",
    "label": "gives labels: label(table) -> Labels",
    "explain": "says where a network looks: weigh(seen) -> maps",
    "score": "gives each row a number: score(table) -> values",
    "select": "says what to look at next: select(table, budget, rng)",
    "change": "turns a network into another: program ending in a Change",
    "imagine": "makes images of named classes: imagine(names, number, rng, doors) -> images, tags, captions",
}
TRAITS: dict[str, str] = {
    "few": "under 100 labels a class and at least 5 images without a label for each with one",
    "full": "nearly every image has a label",
    "soft": "labels are probabilities",
    "crowd": "labels are votes of several annotators",
    "noisy": "labels are suspected to be wrong",
    "tail": "the commonest class has over 10 times the labels of the rarest",
    "tiny": "images of at most 64 pixels a side",
    "ood": "unlabelled images that belong to no class are suspected",
    "none": "no label at all",
}
Need = Fact | tuple[Fact, ...]


def _need(item: str | tuple[str, ...]) -> Need:
    return Fact.parse(item) if isinstance(item, str) else tuple(Fact.parse(i) for i in item)


@dataclass(frozen=True)
class Card:
    """What a method needs and makes.

    title: the method's name in the literature.   role: one of ROLES.   idea: one sentence.
    needs: all of these facts; a tuple inside means any one of them.   makes: the facts it adds.
    least: least count for a needed fact, e.g. {"class": 1} per class; {"step": n}: so much time as n labels-only steps
    take, without which the method comes after others.   suits: measured traits (TRAITS).
    of: what a score is about (image, box, net, annotator).   higher: what a larger score means.
    cites: arXiv or DOI identifiers.   origin: code that was consulted and its licence, or "paper only".
    off: settings under which the method must equal plain supervised learning.
    changed: what differs from the paper and why ("" = nothing).
    cost: forward-backward passes an image relative to supervised learning, roughly.
    xfail: conformance checks expected to fail, each with its reason (strict: a pass is an error).
    """

    title: str
    role: str
    idea: str
    needs: tuple[str | tuple[str, ...], ...]
    makes: tuple[str, ...]
    year: int = 0
    cites: tuple[str, ...] = ()
    origin: str = "paper only"
    least: Mapping[str, int] = field(default_factory=dict)
    suits: tuple[str, ...] = ()
    nets: Mapping[str, str] = field(default_factory=dict)
    of: str = "image"
    higher: str = ""
    off: Mapping[str, object] = field(default_factory=dict)
    changed: str = ""
    cost: float = 1.0
    xfail: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    family: str = ""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise SettingsError(f"unknown role {self.role!r}", where=self.name, fix=did_you_mean(self.role, ROLES))
        for trait in self.suits:
            if trait not in TRAITS:
                raise SettingsError(f"unknown trait {trait!r}", where=self.name, fix=did_you_mean(trait, TRAITS))
        _ = self.needed, self.made

    @property
    def needed(self) -> tuple[Need, ...]:
        """`needs`, parsed."""
        return tuple(_need(n) for n in self.needs)

    @property
    def made(self) -> tuple[Fact, ...]:
        """`makes`, parsed."""
        return tuple(Fact.parse(m) for m in self.makes)


def read_card(path: Path) -> Card | None:
    """The `CARD = Card(...)` literal of a file, or None where there is none.  Nothing is imported or run."""
    text = path.read_text(encoding="utf-8")
    start = text.find("\nCARD = Card(")
    if start < 0:
        return None
    where = f"{path}:{text.count(chr(10), 0, start) + 2}"
    given = _literal(text[start + 1 : text.find("\n)", start) + 2], where)
    _check(given, where)
    try:
        return Card(**{**given, "name": path.stem.replace("_", "-"), "family": path.parent.name})
    except TypeError as error:
        fix = "Compare it with what `modicum new method NAME` writes."
        raise SettingsError(f"the card is incomplete: {error}", where=where, fix=fix) from None
    except SettingsError as error:
        raise SettingsError(error.found, where=where, fix=error.fix) from None


def _literal(text: str, where: str) -> dict[str, Any]:
    """The keyword arguments of `CARD = Card(...)`."""
    try:
        (statement,) = ast.parse(text).body
        if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
            raise ValueError("not one call of Card")
        if statement.value.args or any(k.arg is None for k in statement.value.keywords):
            raise ValueError("a value without a name")
        return {str(k.arg): ast.literal_eval(k.value) for k in statement.value.keywords}
    except (SyntaxError, ValueError) as error:
        raise SettingsError(
            f"the card is not a literal: {error}", where=where,
            fix="Write CARD = Card(title=..., role=..., ...) with plain strings, numbers, tuples and dicts, "
            "and close it with ')' alone on a line.",
        ) from None  # fmt: skip


def _check(given: Mapping[str, Any], where: str) -> None:
    """Names and types of a card's fields."""
    known = {f.name: f for f in fields(Card)}
    for key, value in given.items():
        if key not in known:
            raise SettingsError(f"unknown field {key!r} on the card", where=where, fix=did_you_mean(key, known))
        kind = str(known[key].type)
        wanted = tuple if kind.startswith("tuple") else Mapping if kind.startswith("Mapping") else _PLAIN[kind]
        if not isinstance(value, wanted):
            fix = f"Write {key}=({value!r},) with a comma." if wanted is tuple and isinstance(value, str) else ""
            raise SettingsError(f"{key}={value!r} on the card is not {kind}", where=where, fix=fix)


_PLAIN: dict[str, Any] = {"str": str, "int": int, "float": (int, float)}
