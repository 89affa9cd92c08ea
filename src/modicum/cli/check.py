"""Put a method through the conformance suite."""

from __future__ import annotations

from typing import Annotated

import typer

from modicum.cli._screen import Json, put_json, say


def check(
    names: Annotated[list[str] | None, typer.Argument(help="Methods (default: all).")] = None,
    only: Annotated[str, typer.Option(help="One check by name.")] = "",
    json: Json = False,
) -> None:
    """Put a method through the conformance suite."""
    from modicum.core import registry
    from modicum.core.errors import SettingsError
    from modicum.testing import check_method

    for name in names or ():
        if name in registry.parts("nn/trust"):
            fix = f"Run its test: pytest -n 0 tests/nn/test_trust_{name.replace('-', '_')}.py"
            raise SettingsError(f"{name} is a trust rule, not a method", where="check", fix=fix)
    bad, whole = 0, {}
    for name in names or sorted(registry.cards()):
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
