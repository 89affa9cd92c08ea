"""List the methods, what they need and what they make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modicum.cli._screen import Json, fill, grid, put_json, say, screen

if TYPE_CHECKING:
    from modicum.core.card import Card
    from modicum.core.kinds import Fact


def methods(
    name: Annotated[str, typer.Argument(help="Show the whole card of one method.", show_default=False)] = "",
    role: Annotated[
        str, typer.Option(help="Only one role: learn, wrap, label, explain, score, select or change.")
    ] = "",
    needs: Annotated[str, typer.Option(help="Only methods that can use these facts, e.g. tags,boxes@other.")] = "",
    makes: Annotated[str, typer.Option(help="Only methods that make this fact, e.g. net:class.")] = "",
    parts: Annotated[
        bool, typer.Option("--parts", help="List trust rules and objectives, which methods take in a setting.")
    ] = False,
    json: Json = False,
) -> None:
    """List the methods, what they need and what they make."""
    from modicum.core.kinds import facts

    if parts:
        _parts(json)
        return
    found = [c for c in _cards(name, role) if _needs(c, facts(needs)) and _makes(c, facts(makes))]
    if json:
        put_json([_plain(c) for c in found])
    elif name:
        for line in _lines(found):
            say(line)
    else:
        _table(found)


def _parts(json: bool) -> None:
    from modicum.core import registry

    rows = [(*part.split("/"), registry.about_part(part)) for part in registry.part_names()]
    if json:
        put_json([{"kind": kind, "name": name, "about": about} for kind, name, about in rows])
        return
    table = grid("part", "given with", "what it is")
    for kind, name, about in rows:
        fill(table, name, f"--set {kind}={name}", about)
    screen().print(table)


def _cards(name: str, role: str) -> list[Card]:
    from modicum.core import registry
    from modicum.core.card import ROLES
    from modicum.core.errors import SettingsError, did_you_mean

    if role and role not in ROLES:
        raise SettingsError(f"there is no role {role!r}", where="--role", fix=did_you_mean(role, ROLES))
    order = list(ROLES)
    cards = [registry.card(name)] if name else registry.cards(role).values()
    return sorted(cards, key=lambda c: (order.index(c.role), c.family, c.year, c.name))


def _needs(card: Card, have: tuple[Fact, ...]) -> bool:
    from modicum.core.search import gives

    options = {o for need in card.needed for o in (need if isinstance(need, tuple) else (need,))}
    return all(options.intersection(gives(f)) for f in have)


def _makes(card: Card, want: tuple[Fact, ...]) -> bool:
    from modicum.core.search import gives

    return all(any(w in gives(m) for m in card.made) for w in want)


def need_text(needs: Iterable[str | tuple[str, ...]]) -> str:
    """`image, class or probs~`."""
    return ", ".join(n if isinstance(n, str) else " or ".join(n) for n in needs)


def _plain(card: Card) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(card)


def _lines(cards: list[Card]) -> list[str]:
    out = []
    for card in cards:
        for key, value in _plain(card).items():
            text = need_text(value) if key == "needs" else ", ".join(value) if isinstance(value, tuple) else value
            out += [f"{key:8}{text}"] if text not in ("", {}) else []
    return out


def _table(cards: list[Card]) -> None:
    out = screen()
    if not cards:
        out.print("No method fits.")
        return
    table = grid("method", "role", "needs", "makes", "suits", "cost", "title")
    for c in cards:
        title = f"{c.title} ({c.year})" if c.year else c.title
        fill(table, c.name, c.role, need_text(c.needs), ", ".join(c.makes), ", ".join(c.suits), f"{c.cost:g}", title)
    out.print(table)
