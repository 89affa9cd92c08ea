"""The planner: from the labels one has to the thing one wants, as chains of methods, with reasons.

Facts in, chains out; cards are read, methods never imported.  Ranking: least counts not reached, share of what one
brought that is used, traits suited, evidence, cost.  When there is no way, the error says what it would take.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from modicum.core.card import Card
from modicum.core.errors import NeedsError
from modicum.core.kinds import KINDS, Fact
from modicum.core.search import IMAGE, Option, Search, Signature, Way, gives, predictions, reach, signatures

SOME = 40  # images one would label to try


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain: any of `options` (best first), which takes facts that are there and makes others.

    needs: what the cards ask for.  takes: what meets each need, in the same order.
    """

    options: tuple[Option, ...]
    needs: tuple[Fact, ...]
    takes: tuple[Fact, ...]
    makes: tuple[Fact, ...]

    @property
    def name(self) -> str:
        """The best method, or 'predict', the built-in step."""
        return self.options[0].name

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(o.name for o in self.options)


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps in order.  share: how much of the user's labels is used, 0 to 1.  cost: sum of the steps'.
    short: least counts that are not reached.  around: wrappers that fit."""

    steps: tuple[Step, ...]
    share: float
    cost: float
    short: tuple[str, ...] = ()
    around: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The best method of each step, in order."""
        return tuple(s.name for s in self.steps)


@dataclass(frozen=True, slots=True)
class Plans:
    """The best chains from `have` to `want`, best first, at least one.  traits: those that were measured."""

    have: tuple[Fact, ...]
    want: Fact
    chains: tuple[Chain, ...]
    traits: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; facts as they are written."""
        chains = [
            {
                "steps": [
                    {"methods": list(s.names), "takes": list(map(str, s.takes)), "makes": list(map(str, s.makes))}
                    for s in c.steps
                ],
                "share": c.share, "cost": c.cost, "short": list(c.short), "around": list(c.around),
            }
            for c in self.chains
        ]  # fmt: skip
        have = list(map(str, self.have))
        return {"have": have, "want": str(self.want), "traits": list(self.traits), "chains": chains}


@dataclass(frozen=True, slots=True)
class Offer:
    """Facts that are missing, what they cost a person in seconds, how many images that is, and what they would open."""

    facts: tuple[Fact, ...]
    seconds: float
    images: int
    opens: tuple[str, ...]


def plan(
    have: tuple[Fact, ...],
    want: Fact,
    cards: Mapping[str, Card],
    counts: Mapping[str, int] | None = None,
    traits: tuple[str, ...] = (),
    best: int = 4,
    evidence: Mapping[str, float] | None = None,
) -> Plans:
    """Chains of methods from what one has to what one wants, best first.

    counts: how many there are of a kind, in the words of `Card.least` ("class": labels of the rarest class), and
    "image".  What is not counted is taken to suffice.  traits: measured (core/card.py).  evidence: method -> 0 to 1.
    Labels come with the images they are about.  NeedsError where there is no way: it names the missing facts that cost
    a person least, and what can be had as it is.
    """
    counts, have = counts or {}, with_images(have)
    sigs = signatures(cards, counts, traits, evidence or {})
    search = Search(have, sigs, traits)
    ways = search.chains(want)[:best]
    if not ways:
        raise _refuse(search, want, counts)
    return Plans(have, want, tuple(_chain(w, search, cards) for w in ways), tuple(traits))


def with_images(have: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """The facts, each once, and the images that labels are about (`boxes@source` come with `image@source`)."""
    about = [replace(IMAGE, scope=f.scope) for f in have if not f.net and f.kind not in ("image", "names", "ids")]
    return tuple(dict.fromkeys((*about, *have)))


def _chain(way: Way, search: Search, cards: Mapping[str, Card]) -> Chain:
    steps, there = [], list(search.have)
    todo = sorted(way.steps, key=lambda s: s.options[0].name)
    while todo:
        now = next(s for s in todo if all(any(n in gives(f) for f in there) for n in s.needs))
        takes = tuple(max(there, key=lambda f: gives(f).get(n, 0.0) + (f == n)) for n in now.needs)
        steps.append(Step(now.options, now.needs, takes, now.makes))
        there += now.makes
        todo.remove(now)
    short = tuple(f"{s.name}: {text}" for s in steps for text in s.options[0].short)
    return Chain(tuple(steps), search.share(way), sum(s.options[0].cost for s in steps), short, _around(steps, cards))


def _around(steps: list[Step], cards: Mapping[str, Card]) -> tuple[str, ...]:
    """Wrappers whose needs the chain's steps make."""
    there = {g for s in steps for m in s.makes for g in gives(m)}
    wraps = ((name, card.needed) for name, card in cards.items() if card.role == "wrap")
    return tuple(
        name for name, needed in wraps if all(there.intersection(n if isinstance(n, tuple) else (n,)) for n in needed)
    )


def _refuse(search: Search, want: Fact, counts: Mapping[str, int]) -> NeedsError:
    has = ", ".join(map(str, search.have)) or "nothing"
    offers = missing(search.have, want, search.sigs, counts)
    lines = [_offer_text(o) for o in offers] or [f"No method here makes {want}, whatever you bring."]
    can = sorted({str(m) for s in search.usable for m in s.makes})
    lines.append(f"What you have allows: {', '.join(can)}." if can else "What you have allows nothing yet.")
    return NeedsError(f"no way from {has} to {want}", where="plan", fix="\n".join(lines))


def missing(
    have: tuple[Fact, ...], want: Fact, sigs: tuple[Signature, ...], counts: Mapping[str, int], most: int = 3
) -> list[Offer]:
    """What one could add to make `want` possible, least human time first: single facts, or pairs where none does."""
    if want not in _with(tuple(n for s in sigs for n in s.needs), sigs):
        return []
    scopes = {"", *(f.scope for f in have)}
    asked = {n for s in sigs for n in s.needs if _human(n) and n.scope in scopes}
    asked -= {g for f in have for g in gives(f)}
    options = sorted(asked, key=lambda f: (_price(f, counts)[0], not f.some, f))
    for size in (1, 2):
        found: list[Offer] = []
        for added in itertools.combinations(options, size):
            given = {g for f in added for g in gives(f)}
            more = with_images(have + added)
            if len(found) < most and not any(given.issuperset(o.facts) for o in found) and want in _with(more, sigs):
                priced = [_price(f, counts) for f in added]
                opens = _opened(more, want, sigs)
                found.append(Offer(added, sum(p[0] for p in priced), max(p[1] for p in priced), opens))
        if found:
            return found
    return []


def _human(fact: Fact) -> bool:
    """A person can give it."""
    return fact == IMAGE or (not fact.net and not fact.guess and KINDS[fact.kind].seconds > 0)


def _with(have: tuple[Fact, ...], sigs: tuple[Signature, ...]) -> set[Fact]:
    return reach(have, [*sigs, *predictions(sigs, have)])[0]


def _opened(have: tuple[Fact, ...], want: Fact, sigs: tuple[Signature, ...]) -> tuple[str, ...]:
    ways = Search(have, sigs).chains(want)
    last = [s for s in ways[0].steps if any(want in gives(m) for m in s.makes)] if ways else []
    return tuple(o.name for s in last for o in s.options)


def _price(fact: Fact, counts: Mapping[str, int]) -> tuple[float, int]:
    """Seconds of a person, and images."""
    if fact == IMAGE:
        return 0.0, 0
    if fact.kind == "names":
        return 10 * KINDS["names"].seconds, 0
    images = SOME if fact.some else counts.get("image", SOME)
    return images * KINDS[fact.kind].seconds, images


def minutes(seconds: float) -> str:
    """`2 minutes`, `1 minute`, `3 hours`."""
    if seconds < 45:
        return "under a minute"
    n = max(1, round(seconds / 60))
    return f"{n} minute{'s' * (n > 1)}" if n < 120 else f"{n / 60:.0f} hours"


def _offer_text(offer: Offer) -> str:
    what = []
    for f in offer.facts:
        plain = str(replace(f, some=False))
        if f == IMAGE:
            what.append("images")
        elif f.kind == "names":
            what.append(f"the {plain} of the classes" if not f.scope else plain)
        else:
            what.append(f"{plain} on {offer.images} images")
    opens = f" would open {_few(offer.opens, 3)}" if offer.opens else " is what you want"
    cost = f", {minutes(offer.seconds)}," if offer.seconds else ""
    return f"{' and '.join(what)}{cost}{opens}."


def _few(names: tuple[str, ...], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def explain_plan(plans: Plans) -> str:
    """One screen of plain text: each chain, its steps with their alternatives, and why it stands where it does."""
    lines = [f"have  {', '.join(map(str, plans.have))}", f"want  {plans.want}"]
    if plans.traits:
        lines.append(f"data  {', '.join(plans.traits)}")
    for i, chain in enumerate(plans.chains, 1):
        if not chain.steps:
            lines += ["", "You have it already: it follows from what you brought."]
            continue
        about = [f"cost {chain.cost:.3g}"] + ([f"uses {chain.share:.0%} of your labels"] if chain.share < 0.995 else [])
        lines += ["", f"{i}. {' > '.join(chain.names)}   ({', '.join(about)})"]
        lines += [_step_text(n, step) for n, step in enumerate(chain.steps, 1)]
        lines += [f"   too little: {s}" for s in chain.short]
        lines += [f"   around it: {_few(chain.around, 4)}"] if chain.around and i == 1 else []
    return "\n".join(lines)


def _step_text(n: int, step: Step) -> str:
    pairs = zip(step.needs, step.takes)
    takes = [str(t) if need in (t, replace(t, some=True)) else f"{t} (as {need})" for need, t in pairs]
    first = step.options[0]
    suited = f"; {first.name} suits {', '.join(first.suits)}" if first.suits else ""
    others = f"; or {_few(step.names[1:], 4)}" if len(step.options) > 1 else ""
    return f"   {n}) {first.name}: {' + '.join(takes)} -> {', '.join(map(str, step.makes))}{suited}{others}"
