"""Put a method or a part through the conformance suite."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import Json, put_json, say


def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Methods and parts: fixmatch, fixed, trust/fixed, my.py (default: all).")
    ] = None,
    only: Annotated[str, typer.Option(help="One check by name.")] = "",
    json: Json = False,
) -> None:
    """Put a method or a part through the conformance suite: all that is called so, or KIND/NAME alone."""
    from modicum.core import registry
    from modicum.testing import check_method

    bad, whole = 0, {}
    asked = [found for name in names or () for found in registry.named(name) or [name]]
    for name in asked or [*sorted(registry.cards()), *registry.part_names()]:
        results = check_method(name, only=only)
        bad += sum(not r.ok for r in results)
        whole[name] = [r.to_dict() for r in results]
        if json:
            continue
        good = sum(r.ok for r in results)
        say(f"{name}: {good} of {len(results)} checks passed in {sum(r.seconds for r in results):.1f} s")
        for r in results:
            if not r.ok:
                say(f"  FAILED {r.check}: {r.message}")
                say(f"    usual cause: {r.cause}")
    if json:
        put_json(whole)
    if bad:
        raise typer.Exit(1)
