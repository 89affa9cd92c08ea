"""Put a method through the conformance suite."""

from __future__ import annotations

from typing import Annotated

import typer


def check(
    names: Annotated[list[str] | None, typer.Argument(help="Methods (default: all).")] = None,
    only: Annotated[str, typer.Option(help="One check by name.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False,
) -> None:
    """Put a method through the conformance suite."""
    import json as writer

    from modicum.core import registry
    from modicum.core.errors import SettingsError
    from modicum.testing import check_method

    for name in names or ():
        if name in registry.parts("nn/trust"):
            fix = f"Run its test: pytest -n 0 tests/nn/test_trust_{name.replace('-', '_')}.py"
            raise SettingsError(f"{name} is a trust rule, not a method", where="check", fix=fix)
    bad = 0
    for name in names or sorted(registry.cards()):
        results = check_method(name, only=only)
        bad += sum(not r.ok for r in results)
        if json:
            typer.echo(writer.dumps([r.to_dict() for r in results]))
            continue
        good = sum(r.ok for r in results)
        typer.echo(f"{name}: {good} of {len(results)} checks passed in {sum(r.seconds for r in results):.1f} s")
        for r in results:
            if not r.ok:
                typer.echo(f"  FAILED {r.check}: {r.message}\n    usual cause: {r.cause}")
    if bad:
        raise typer.Exit(1)
