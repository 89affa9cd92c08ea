"""Backward search over what methods need and make.  The planner's engine: facts in, sets of signatures out.

A signature is what methods with the same needs and makes share; a card with alternatives in its needs has several.
A way is a set of signatures that leads from facts one has to a fact one wants, each output used.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from modicum.core.card import Card
from modicum.core.kinds import KINDS, Fact

WIDTH, DEPTH = 8, 7  # ways kept for each fact, methods in a row
IMAGE = Fact("image")


@dataclass(frozen=True, slots=True)
class Option:
    """One method that can do a step.  suits: which of the measured traits it is for.  short: least counts not reached.
    evidence: 0 (none) to 1.  cost: passes an image, relative to supervised learning.  special: it adds something to a
    plainer method, which it is with the card's `off`."""

    name: str
    suits: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    evidence: float = 0.0
    cost: float = 1.0
    special: bool = False

    @property
    def order(self) -> tuple[float, float, float, float, bool, str]:
        """Smaller is better; of equals, the plainest."""
        return (len(self.short), -len(self.suits), -self.evidence, self.cost, self.special, self.name)


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """needs and makes of one step, and the methods that can do it, best first."""

    needs: tuple[Fact, ...]
    makes: tuple[Fact, ...]
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Way:
    """by: fact -> signature that makes it.  uses: what one has -> share of it that is used, 0 to 1."""

    by: Mapping[Fact, Signature] = field(default_factory=dict)
    uses: Mapping[Fact, float] = field(default_factory=dict)

    @functools.cached_property
    def steps(self) -> frozenset[Signature]:
        return frozenset(self.by.values())

    def join(self, other: Way) -> Way | None:
        """Both; None where they make one fact in two ways."""
        if any(self.by.get(f, s) != s for f, s in other.by.items()):
            return None
        uses = {**self.uses, **{f: max(share, self.uses.get(f, 0.0)) for f, share in other.uses.items()}}
        return Way({**self.by, **other.by}, uses)


@functools.lru_cache(maxsize=4096)
def gives(fact: Fact) -> dict[Fact, float]:
    """All that a fact is good for, free of charge, and what share of it that use keeps (in seconds of a person's work).

    A box used as a tag keeps 2 of its 15 seconds.  What people made also serves where a guess would do.
    """
    full = KINDS[fact.kind].seconds
    out = {fact: 1.0}
    queue = [fact] if fact.net or fact.guess else [fact, replace(fact, guess=True)]
    while queue:
        now = queue.pop()
        own = KINDS[now.kind].seconds
        out[now] = min(1.0, own / full) if full and not fact.net else 1.0
        queue += [f for f in now.implied() if f not in out]
    return out


def signatures(
    cards: Mapping[str, Card], counts: Mapping[str, int], traits: Iterable[str], evidence: Mapping[str, float]
) -> tuple[Signature, ...]:
    """Cards grouped by needs and makes.  A card that makes only what it needs (a wrapper) is no step."""
    found: dict[tuple[frozenset[Fact], frozenset[Fact]], list[Option]] = {}
    order: dict[tuple[frozenset[Fact], frozenset[Fact]], tuple[tuple[Fact, ...], tuple[Fact, ...]]] = {}
    wanted = tuple(traits)
    for name, card in cards.items():
        few = ((kind, least) for kind, least in card.least.items() if counts.get(kind, least) < least)
        short = tuple(_short(kind, least, counts[kind]) for kind, least in few)
        suits = tuple(t for t in wanted if t in card.suits)
        known = evidence.get(name, 0.0) if suits or not card.suits else 0.0  # measured where other traits were
        option = Option(name, suits, short, known, card.cost, bool(card.off))
        for needs in itertools.product(*(n if isinstance(n, tuple) else (n,) for n in card.needed)):
            if not all(any(m in gives(n) for n in needs) for m in card.made):
                key = (frozenset(needs), frozenset(card.made))
                found.setdefault(key, []).append(option)
                order.setdefault(key, (needs, card.made))
    return tuple(Signature(*order[k], tuple(sorted(options, key=lambda o: o.order))) for k, options in found.items())


def _short(kind: str, least: int, there: int) -> str:
    if kind == "step":
        return f"time for {least:,} labels-only steps needed, for about {there:,} there"
    return f"{least} of {kind} needed, {there} there"


def predictions(sigs: Iterable[Signature], have: Iterable[Fact]) -> list[Signature]:
    """The built-in step: a network for X, with images, gives X~."""
    facts = set(have).union(*(s.makes for s in sigs))
    nets = {g for f in facts for g in gives(f) if g.net and not g.part}
    option = (Option("predict", cost=0.3),)
    return [Signature((IMAGE, net), (Fact(net.kind, scope=net.scope, guess=True),), option) for net in sorted(nets)]


def reach(have: Iterable[Fact], sigs: Iterable[Signature]) -> tuple[set[Fact], list[Signature]]:
    """Everything that can be had, and the steps that can be taken: forward, to a fixed point."""
    known: set[Fact] = set().union(*(gives(f) for f in have))
    taken: list[Signature] = []
    rest: list[Signature] = []
    waiting = list(sigs)
    while len(rest) != len(waiting):
        rest, waiting = waiting, []
        for s in rest:
            if known.issuperset(s.needs):
                taken.append(s)
                known = known.union(*(gives(m) for m in s.makes))
            else:
                waiting.append(s)
    return known, taken


@dataclass
class Search:
    """Ways from `have` to a fact, the best `WIDTH` of each, by `rank` (smaller is better)."""

    have: tuple[Fact, ...]
    sigs: tuple[Signature, ...]
    traits: tuple[str, ...] = ()
    memo: dict[tuple[Fact, frozenset[Fact]], list[Way]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known, self.usable = reach(self.have, [*self.sigs, *predictions(self.sigs, self.have)])
        self.makers: dict[Fact, list[Signature]] = {}
        for s in self.usable:
            for fact in set().union(*(gives(m) for m in s.makes)):
                self.makers.setdefault(fact, []).append(s)
        covered = {g for f in self.have for g in gives(f) if g != f}
        self.main = tuple(f for f in self.have if f not in covered and f.kind != IMAGE.kind)
        self.supply: dict[Fact, tuple[Fact, float]] = {}
        for fact in self.have:
            for g, share in gives(fact).items():
                if share > self.supply.get(g, (fact, 0.0))[1]:
                    self.supply[g] = (fact, share)

    def share(self, way: Way) -> float:
        """How much of what one brought is used, 0 to 1."""
        return sum(way.uses.get(f, 0.0) for f in self.main) / len(self.main) if self.main else 1.0

    def rank(self, way: Way) -> tuple[float, ...]:
        """Unmet counts, share of the labels, traits suited, evidence, cost."""
        first = [s.options[0] for s in way.steps]
        suited = {t for o in first for t in o.suits}
        mine = [o for o in first if o.name != "predict"]
        evidence = math.fsum(o.evidence for o in mine) / max(1, len(mine))  # exact sums: steps come in any order
        cost = math.fsum(o.cost for o in first)
        return (sum(len(o.short) for o in first), -self.share(way), -len(suited), -evidence, cost)

    def best(self, found: Iterable[Way]) -> list[Way]:
        """The best ones, each set of steps once."""
        once: dict[frozenset[Signature], Way] = {}
        for way in found:
            if way.steps not in once or self.rank(way) < self.rank(once[way.steps]):
                once[way.steps] = way
        return sorted(once.values(), key=lambda w: (self.rank(w), sorted(s.options[0].name for s in w.steps)))[:WIDTH]

    def ways(self, goal: Fact, above: frozenset[Fact] = frozenset()) -> list[Way]:
        """How a fact can be had; `above` are the facts it is wanted for, which may not be used to make it."""
        if goal in self.supply:
            fact, share = self.supply[goal]
            return [Way(uses={fact: share})]
        if len(above) >= DEPTH:
            return []
        key = (goal, above)
        if key not in self.memo:
            makers = self.makers.get(goal, ())
            self.memo[key] = self.best(way for s in makers for way in self._through(s, goal, above | {goal}))
        return self.memo[key]

    def _through(self, s: Signature, goal: Fact, above: frozenset[Fact]) -> list[Way]:
        if any(g in above and g != goal for m in s.makes for g in gives(m)) or above.intersection(s.needs):
            return []
        found = [Way(by={goal: s})]
        for need in s.needs:
            joined = (a.join(b) for a in found for b in self.ways(need, above))
            found = self.best(w for w in joined if w is not None)
        return found

    def chains(self, want: Fact) -> list[Way]:
        """Ways to `want`, best first, without those that a shorter or better one makes pointless."""
        named: dict[frozenset[tuple[Option, ...]], Way] = {}
        for way in self.ways(want):
            if not self._padded(way, want):
                named.setdefault(frozenset(s.options for s in way.steps), way)
        found = list(named.values())
        return [w for w in found if not any(self._beats(other, w) for other in found if other is not w)]

    def _padded(self, way: Way, want: Fact) -> bool:
        return any(want in reach(self.have, way.steps - {s})[0] for s in way.steps)

    def _beats(self, one: Way, other: Way) -> bool:
        """`one` uses more of what one has for no more work."""
        a, b = self.rank(one), self.rank(other)
        return a[0] <= b[0] and a[1] < b[1] and a[2] <= b[2] and a[4] <= b[4]
